"""Whether a filter treats groups alike: how much of each it keeps, and how likely such a difference is by chance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

_DRAWS = 19_999  # of tables under equal rates: a p-value of 0.01 is then known to within 0.0014
_CHUNK = 1000


@dataclass(frozen=True)
class GroupRate:
    """A group's share of kept images.

    Attributes:
        name: the group's.
        asked: images made.
        kept: images kept.
        low: lower end of the 95 % Wilson interval of the share.
        high: upper end.
        p: probability of a share at least as unusual as this one if all groups were alike, corrected by Holm for having
            looked at every group.
    """

    name: str
    asked: int
    kept: int
    low: float
    high: float
    p: float

    @property
    def rate(self) -> float:
        """Share of kept images."""
        return self.kept / self.asked


@dataclass(frozen=True)
class GroupRates:
    """All groups, by name, and `p`, the probability of shares that differ at least so much if all groups were alike."""

    groups: tuple[GroupRate, ...]
    p: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: by name the numbers of images and of kept ones, share, interval and probability; and `p`."""
        groups = {
            g.name: {"images": g.asked, "kept": g.kept, "rate": g.rate, "ci95": [g.low, g.high], "p": g.p}
            for g in self.groups
        }
        return {"groups": groups, "p": self.p}

    def text(self) -> str:
        """One line with every share, its interval and the probability."""
        shares = "; ".join(f"{g.name} {g.rate:.0%} [{g.low:.0%}, {g.high:.0%}] of {g.asked}" for g in self.groups)
        return f"{shares}: p = {self.p:.2g}"


def group_rates(names: Sequence[str], kept: Bool[np.ndarray, " n"]) -> GroupRates:
    """Rates by group, tested together and each against all others.

    Both tests are exact for given numbers of images and of kept ones: the first is Pearson's chi-squared statistic
    against tables drawn under equal rates (always the same ones, so that equal counts give equal results), the second
    Fisher's test.

    Args:
        names: the group of each image.
        kept: whether the filter kept it.
    """
    counts = Counter(names)
    groups = sorted(counts)
    found = Counter(name for name, keep in zip(names, kept, strict=True) if keep)
    asked = np.array([counts[name] for name in groups], np.int64)
    kept_of = np.array([found[name] for name in groups], np.int64)
    each = holm(np.array([_against_others(asked, kept_of, i) for i in range(len(groups))]))
    rates = []
    for i, name in enumerate(groups):
        low, high = wilson_interval(int(kept_of[i]), int(asked[i]))
        rates.append(GroupRate(name, int(asked[i]), int(kept_of[i]), low, high, float(each[i])))
    return GroupRates(tuple(rates), _together(asked, kept_of))


def wilson_interval(kept: int, asked: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share."""
    found = stats.binomtest(kept, asked).proportion_ci(confidence, "wilson")
    return float(found.low), float(found.high)


def _against_others(asked: np.ndarray, kept: np.ndarray, i: int) -> float:
    others, kept_of_others = asked.sum() - asked[i], kept.sum() - kept[i]
    table = [[kept[i], asked[i] - kept[i]], [kept_of_others, others - kept_of_others]]
    result: Any = stats.fisher_exact(table)
    return float(result.pvalue)


def holm(p: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Probabilities corrected for their number, by Holm's step-down procedure (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _together(asked: np.ndarray, kept: np.ndarray) -> float:
    total, chosen = int(asked.sum()), int(kept.sum())
    if len(asked) < 2 or chosen in (0, total):
        return 1.0
    expected = asked * (chosen / total)

    def distance(counts: np.ndarray) -> np.ndarray:
        # Of the kept ones; with both margins fixed, that of the others is proportional to it.
        return np.asarray(((counts - expected) ** 2 / expected).sum(-1))

    observed, rng, further = float(distance(kept)), np.random.default_rng(0), 0
    for start in range(0, _DRAWS, _CHUNK):
        drawn = rng.multivariate_hypergeometric(asked, chosen, size=min(_CHUNK, _DRAWS - start))
        further += int((distance(drawn) >= observed * (1 - 1e-9)).sum())
    return (1 + further) / (1 + _DRAWS)

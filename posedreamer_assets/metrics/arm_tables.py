"""What arms of a study differ by: average precision with intervals over photographs and training seeds.

An average precision is no mean over people, so that it is computed anew for every resample of photographs. All networks are
ranked once; a resample gives each photograph a weight, and all resamples of a network are computed at once.

Photographs and seeds are drawn together, the same ones for all arms, so that differences are paired. With few seeds the
percentile interval is too narrow; it is never given narrower than the t interval of the seeds alone. With one seed nothing can
be said of seeds.

Where people are binned by the share of their joints that is seen, a bin's people are the annotated ones of its photographs.
Predictions that were kept for somebody of another bin are left out; those kept for nobody count as misses in every bin, for
which there is no better place. Recall, the share of annotated joints that was found, needs no such rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics.mpii_ap import COUNTED, GROUPS, JOINTS, NEAR, Annotated, Judged, Predicted, judge

LEVEL = 0.05
BINS = 5
COLUMNS: tuple[str, ...] = (*GROUPS, "mean")
_AT_ONCE = 1 << 21  # numbers of a table of resamples and predictions


@dataclass(frozen=True)
class Ranking:
    """One network's predictions of one joint on all photographs, best first.

    Attributes:
        photo: of each prediction, its number.
        right: which are hits.
        last: places of the last one of every score; predictions of one score are counted together.
        total: annotated joints of each photograph.
    """

    photo: Int[np.ndarray, "k"]
    right: Bool[np.ndarray, "k"]
    last: Int[np.ndarray, "l"]
    total: Int[np.ndarray, "n"]


@dataclass(frozen=True)
class Judgement:
    """Everything that a network predicted on photographs, judged once.

    Attributes:
        known: of each photograph, which joints of its people are annotated (p, 16).
        joints: of each photograph, its predictions by joint.
    """

    known: Sequence[Bool[np.ndarray, "_p 16"]]
    joints: Sequence[Sequence[Judged]]

    def rankings(self, people: Sequence[Bool[np.ndarray, "_p"]] | None = None) -> list[Ranking]:
        """By joint; of some people of each photograph alone, where they are given."""
        return [self._ranking(joint, people) for joint in range(JOINTS)]

    def _ranking(self, joint: int, people: Sequence[np.ndarray] | None) -> Ranking:
        scores, right, photo, total = [np.zeros(0)], [np.zeros(0, bool)], [np.zeros(0, int)], []
        for number, (known, judged) in enumerate(zip(self.known, self.joints, strict=True)):
            among = np.ones(len(known), bool) if people is None else people[number]
            one = judged[joint]
            kept = np.append(among, True)[one.person]  # -1, nobody, is the last
            scores.append(one.scores[kept])
            right.append(one.right[kept])
            photo.append(np.full(int(kept.sum()), number))
            total.append(int(known[among, joint].sum()))
        all_scores = np.concatenate(scores)
        order = np.argsort(-all_scores, kind="stable")
        ranked = all_scores[order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, int)
        return Ranking(np.concatenate(photo)[order], np.concatenate(right)[order], last, np.array(total, int))


def judged(images: Sequence[tuple[Annotated, Predicted]], near: float = NEAR) -> Judgement:
    """Predictions of one network on all photographs.

    Raises:
        MetricsError: people whose heads have no size.
    """
    return Judgement([a.known for a, _ in images], [judge(a, p, near) for a, p in images])


def weighted_ap(ranking: Ranking, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
    """Average precision of a joint in per cent, once for each row of weights of photographs; NaN where none is annotated.

    A photograph of weight 2 counts as if it were there twice.
    """
    parts = max(1, _AT_ONCE // max(1, len(ranking.photo)))
    found = [_weighted(ranking, weights[first : first + parts]) for first in range(0, len(weights), parts)]
    return np.concatenate(found) if found else np.zeros(0)


def _weighted(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    total = weights @ ranking.total
    if not len(ranking.last):
        return np.where(total > 0, 0.0, np.nan)
    each = weights[:, ranking.photo]
    ranked = np.cumsum(each, axis=1)[:, ranking.last]
    hits = np.cumsum(each * ranking.right, axis=1)[:, ranking.last]
    precision = hits / np.maximum(ranked, 1e-12)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area = (np.diff(hits, axis=1, prepend=0.0) * envelope).sum(axis=1)
    return 100 * np.divide(area, total, out=np.full(len(weights), np.nan), where=total > 0)


def weighted_recall(rankings: Sequence[Ranking], weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
    """Share of the annotated joints of MPII's columns that was found, per cent."""
    hits = np.zeros(len(rankings[0].total))
    total = np.zeros(len(rankings[0].total))
    for joint in COUNTED:
        one = rankings[joint]
        hits += np.bincount(one.photo[one.right], minlength=len(one.total))
        total += one.total
    below = weights @ total
    return 100 * np.divide(weights @ hits, below, out=np.full(len(weights), np.nan), where=below > 0)


def precisions(rankings: Sequence[Ranking], weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r 8"]:
    """Average precision of MPII's seven groups of joints, and the mean over their 14 joints, by row of weights."""
    of_joint = {joint: weighted_ap(rankings[joint], weights) for joint in COUNTED}
    columns = [_mean([of_joint[joint] for joint in joints]) for joints in GROUPS.values()]
    return np.stack([*columns, _mean([of_joint[joint] for joint in COUNTED])], axis=1)


def _mean(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of what is finite; NaN where nothing is."""
    values = np.stack(columns)
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)


def seen_bins(ratio: Float[np.ndarray, "p"]) -> Int[np.ndarray, "p"]:
    """The bin of each person by the share of annotated joints that is seen, 0 to 1: five equal ones; 1 is in the last."""
    return np.minimum((np.asarray(ratio) * BINS).astype(int), BINS - 1)


@dataclass(frozen=True)
class Draws:
    """Resamples of photographs and of seeds, the same for all arms.

    Attributes:
        photos: weight of each photograph (r, n); rows sum to n.
        seeds: weight of each training seed (r, s); rows sum to 1.
    """

    photos: Float[np.ndarray, "r n"]
    seeds: Float[np.ndarray, "r s"]

    @cached_property
    def with_all(self) -> Float[np.ndarray, "q n"]:
        """The photographs as they are, and then their resamples."""
        return np.concatenate([np.ones((1, self.photos.shape[1])), self.photos])


def draw(photos: int, seeds: int, resamples: int, seed: int = 0) -> Draws:
    """Resamples with replacement.

    Raises:
        MetricsError: no photograph, or no seed.
    """
    if photos < 1 or seeds < 1:
        raise MetricsError(f"{photos} photographs and {seeds} seeds: expected one or more of both")
    rng = np.random.default_rng(seed)
    by_photo = rng.multinomial(photos, np.full(photos, 1 / photos), resamples).astype(float)
    return Draws(by_photo, rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, in its own unit.

    Attributes:
        mean: over seeds, of all photographs.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether zero is outside."""
        return self.low > 0 or self.high < 0


def interval(found: Float[np.ndarray, "s q"], draws: Draws) -> Interval:
    """Percentiles over photographs and seeds, widened to the t interval of the seeds.

    Args:
        found: a figure (of an arm, or a difference of two) by training seed and by row of `Draws.with_all`.
        draws: what it was computed with.
    """
    by_seed = found[:, 0]
    resampled = (found[:, 1:].T * draws.seeds).sum(axis=1)
    resampled = resampled[np.isfinite(resampled)]
    mean = float(by_seed.mean())
    if not np.isfinite(mean) or not len(resampled):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = (float(v) for v in np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2]))
    half = t_half(by_seed)
    return Interval(mean, min(low, mean - half), max(high, mean + half))


def t_half(by_seed: Float[np.ndarray, "s"]) -> float:
    """Half of the 95 % t interval of the mean over seeds; 0 with one seed, of which nothing can be said."""
    count = len(by_seed)
    if count < 2:
        return 0.0
    return float(stats.t.ppf(1 - LEVEL / 2, count - 1) * by_seed.std(ddof=1) / np.sqrt(count))

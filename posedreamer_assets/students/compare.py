"""Whether two recipes differ: paired over test images and training seeds, with the smallest difference that could be seen.

d[s, i] = error of A - error of B, of the student with seed s on image i. Seeds and images are both samples, so both are
resampled. With few seeds the percentile interval is too narrow, about by sqrt(S / (S - 1)); the interval that is given is the
wider of it and of mean +- t se with

    se^2 = v_s / S + v_i / N + v_e / (S N)

from a two-way analysis of variance, and degrees of freedom after Satterthwaite. With one seed nothing can be said of seeds: the
interval is of this very pair of students, and `in_words` says so.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

RESAMPLES = 4000
POWER, LEVEL = 0.8, 0.05


@dataclass(frozen=True)
class Components:
    """Variances of a table of differences, square millimetres: of seeds, of images, and what is left."""

    seed: float
    image: float
    rest: float


@dataclass(frozen=True)
class Difference:
    """Mean difference with its 95 % interval.

    Attributes:
        mean, low, high: in the unit of the differences.
        se: standard error. df: its degrees of freedom.
        p: two-sided, of t against zero.
        detectable: the smallest true difference that such a comparison finds in 80 of 100 cases at the 5 % level.
        seeds, images: how many.
    """

    mean: float
    low: float
    high: float
    se: float
    df: float
    p: float
    detectable: float
    seeds: int
    images: int


def components(differences: Float[np.ndarray, "s n"]) -> Components:
    """Variance components of a two-way table without replication; estimates below zero are zero."""
    seeds, images = differences.shape
    total = differences.mean()
    of_seed, of_image = differences.mean(1), differences.mean(0)
    if seeds < 2 or images < 2:
        return Components(0.0, float(differences.var(ddof=1)) if differences.size > 1 else 0.0, 0.0)
    left = differences - of_seed[:, None] - of_image + total
    rest = (left**2).sum() / ((seeds - 1) * (images - 1))
    seed = max(0.0, of_seed.var(ddof=1) - rest / images)
    image = max(0.0, of_image.var(ddof=1) - rest / seeds)
    return Components(float(seed), float(image), float(rest))


def difference(differences: Float[np.ndarray, "s n"], seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """The mean of paired differences, one row per training seed and one column per test image."""
    seeds, images = differences.shape
    mean = float(differences.mean())
    se, df = _standard_error(differences)
    t = float(stats.t.ppf(1 - LEVEL / 2, df))
    draws = resampled_means(differences, np.random.default_rng(seed), resamples)
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    p = float(2 * stats.t.sf(abs(mean) / se, df)) if se > 0 else float(mean == 0)
    detectable = float((t + stats.t.ppf(POWER, df)) * se)
    return Difference(
        mean, min(float(low), mean - t * se), max(float(high), mean + t * se), se, df, p, detectable, seeds, images
    )


def _standard_error(differences: Float[np.ndarray, "s n"]) -> tuple[float, float]:
    seeds, images = differences.shape
    found = components(differences)
    if seeds < 2 or images < 2:
        return float(np.sqrt(found.image / max(1, differences.size))), max(1.0, differences.size - 1.0)
    # Of mean squares: se^2 = (MS_seed + MS_image - MS_rest) / (S N), each with its own degrees of freedom.
    rest = found.rest
    of_seed, of_image = rest + images * found.seed, rest + seeds * found.image
    total = of_seed + of_image - rest
    parts = ((of_seed, seeds - 1), (of_image, images - 1), (rest, (seeds - 1) * (images - 1)))
    below = sum(value**2 / degrees for value, degrees in parts)
    df = total**2 / below if below > 0 else float(images - 1)
    return float(np.sqrt(total / differences.size)), max(1.0, df)


def resampled_means(
    table: Float[np.ndarray, "s n"], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Float[np.ndarray, "r"]:
    """Means of tables whose seeds and images are drawn with replacement, both at once: counts as weights.

    Tables of one shape under generators in one state have the same seeds and images drawn.
    """
    seeds, images = table.shape
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    by_image = rng.multinomial(images, np.full(images, 1 / images), resamples) / images
    return ((by_seed @ table) * by_image).sum(1)


def is_told(found: Difference, p_holm: float | None = None) -> bool:
    """Whether a difference may be called other than zero: its interval leaves zero out and, where it is one of several that
    were declared beforehand, its corrected p is at most `LEVEL` as well.

    Args:
        found: the difference.
        p_holm: corrected over all that were declared; None for one that is only looked at.
    """
    apart = found.low > 0 or found.high < 0
    return apart and (p_holm is None or p_holm <= LEVEL)


def in_words(found: Difference, p_holm: float | None = None, unit: str = "mm") -> str:
    """What may be said of a difference: it, or how large one would have to be to be seen.

    Args:
        found: the difference; its interval is without correction.
        p_holm: see `is_told`; without it the words say that nothing was corrected.
        unit: of the differences.
    """
    how = "without correction" if p_holm is None else "after Holm's correction"
    of_whom = " (of this pair of students)" if found.seeds == 1 else ""
    if is_told(found, p_holm):
        more = "more" if found.mean > 0 else "less"
        return f"{more} by {abs(found.mean):.1f} {unit} [{found.low:.1f}, {found.high:.1f}] {how}{of_whom}"
    seen = f"differences from {found.detectable:.1f} {unit} on would be seen in four of five such studies"
    return f"not told from zero {how}; {seen}{of_whom}"

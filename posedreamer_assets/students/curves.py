"""The exchange rate: how many rendered images one image of a recipe is worth.

Errors of students on renders fall with the number of renders n. Where a recipe of m images reaches error e, n* is the number of
renders that reaches the same, and the rate is n* / m. Between two sizes error is linear in log n; beyond the largest and the
smallest one the nearest piece is drawn on, at most by a factor of four, and such a rate is marked as drawn on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posedreamer_assets.errors import MetricsError
from posedreamer_assets.students.compare import LEVEL, resampled_means

FURTHEST = 4.0


@dataclass(frozen=True)
class Rate:
    """Rendered images that one image is worth, with its 95 % interval.

    Attributes:
        value, low, high: n* / m; the bounds are held to what the curve can say.
        drawn_on: whether n* lies beyond the sizes that were trained.
        least, most: the smallest and largest rate that could have been found.
    """

    value: float
    low: float
    high: float
    drawn_on: bool
    least: float
    most: float


def equal_size(
    sizes: Sequence[int], errors: Float[np.ndarray, "k r"], error: Float[np.ndarray, "r"]
) -> Float[np.ndarray, "r"]:
    """The size at which a curve reaches an error, for many resampled curves at once.

    Where the curve does not fall at all, sizes mean nothing and the bounds are given: the largest where the error is below, the
    smallest where it is above.

    Args:
        sizes: ascending.
        errors: at each size. error: to be reached.
    """
    logs = np.log(np.asarray(sizes, float))
    falling = np.minimum.accumulate(errors, axis=0)  # more data that is worse is noise
    piece = np.clip((falling[1:] > error).sum(0), 0, len(sizes) - 2)
    columns = np.arange(errors.shape[1])
    left, right = falling[piece, columns], falling[piece + 1, columns]
    slope = (right - left) / (logs[piece + 1] - logs[piece])
    flat = np.where(error < right, np.inf, -np.inf)
    steps = np.divide(error - left, slope, out=flat, where=slope < 0)
    low, high = logs[0] - np.log(FURTHEST), logs[-1] + np.log(FURTHEST)
    return np.exp(np.clip(logs[piece] + steps, low, high))


def exchange_rate(
    curve: Mapping[int, Float[np.ndarray, "s n"]], errors: Float[np.ndarray, "s n"], size: int, seed: int = 0
) -> Rate:
    """How many rendered images an image of a recipe is worth on a test set.

    Args:
        curve: errors of students on renders, one row per training seed and one column per test image, by number of renders.
        errors: of the recipe's students on the same images.
        size: images of the recipe.
        seed: of resampling; seeds and images are drawn with replacement, the same ones for all students.

    Raises:
        MetricsError: a curve of fewer than two sizes.
    """
    if len(curve) < 2:
        raise MetricsError(f"an exchange rate needs renders of two sizes, found {len(curve)}")
    sizes = sorted(curve)

    def resampled(table: np.ndarray) -> np.ndarray:
        return np.concatenate([[table.mean()], resampled_means(table, np.random.default_rng(seed))])

    found = equal_size(sizes, np.stack([resampled(curve[n]) for n in sizes]), resampled(errors)) / size
    low, high = np.quantile(found[1:], [LEVEL / 2, 1 - LEVEL / 2])
    n = found[0] * size
    drawn_on = not sizes[0] <= n <= sizes[-1]
    least, most = sizes[0] / FURTHEST / size, sizes[-1] * FURTHEST / size
    return Rate(float(found[0]), float(low), float(high), bool(drawn_on), least, most)

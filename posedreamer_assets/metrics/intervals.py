"""Bootstrap intervals over samples."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

RESAMPLES = 4000
MOST_RESAMPLED = 20_000
"""Above so many values the mean's distribution is the normal one to within a hundredth of the interval's width, and resampling
would take minutes."""
_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval, of 95 % where nothing else was asked for."""

    mean: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, rounded for reports."""
        return {"mean": round(self.mean, 5), "ci95": [round(self.low, 5), round(self.high, 5)], "n": self.n}


def bootstrap_mean(values: Float[np.ndarray, " n"], seed: int = 0, level: float = 0.95) -> Interval:
    """The mean of the finite values, with its interval at that level; NaN where there are none."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    if len(finite) > MOST_RESAMPLED:
        return _normal(finite.mean(), finite.var() / len(finite), len(finite), level)
    ends = [round((1 - level) / 2, 12), round((1 + level) / 2, 12)]  # 0.025 and 0.975 to the bit
    low, high = np.quantile(_resampled_means(finite, np.random.default_rng(seed)), ends)
    return Interval(float(finite.mean()), float(low), float(high), len(finite))


def bootstrap_difference(left: Float[np.ndarray, " n"], right: Float[np.ndarray, " m"], seed: int = 0) -> Interval:
    """mean(left) - mean(right) of two independent samples; `n` counts both."""
    left, right = left[np.isfinite(left)], right[np.isfinite(right)]
    if len(left) == 0 or len(right) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    if max(len(left), len(right)) > MOST_RESAMPLED:
        variance = left.var() / len(left) + right.var() / len(right)
        return _normal(left.mean() - right.mean(), variance, len(left) + len(right))
    rng = np.random.default_rng(seed)
    a, b = _resampled_means(left, rng), _resampled_means(right, rng)
    low, high = np.quantile(a - b, [0.025, 0.975])
    return Interval(float(left.mean() - right.mean()), float(low), float(high), len(left) + len(right))


def _resampled_means(values: Float[np.ndarray, " n"], rng: np.random.Generator) -> Float[np.ndarray, " r"]:
    """Means of RESAMPLES draws with replacement, some at a time: memory stays the same however many values there are."""
    at_once = max(1, _DRAWS_AT_ONCE // len(values))
    sizes = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    return np.concatenate([values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1) for size in sizes])


def _normal(mean: float, variance: float, n: int, level: float = 0.95) -> Interval:
    half = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(variance))
    return Interval(float(mean), float(mean) - half, float(mean) + half, n)

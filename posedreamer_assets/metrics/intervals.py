"""Bootstrap intervals over samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, rounded for reports."""
        return {"mean": round(self.mean, 5), "ci95": [round(self.low, 5), round(self.high, 5)], "n": self.n}


def bootstrap_mean(values: Float[np.ndarray, " n"], seed: int = 0) -> Interval:
    """The mean of the finite values; NaN where there are none."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    draws = np.random.default_rng(seed).integers(len(finite), size=(RESAMPLES, len(finite)))
    low, high = np.quantile(finite[draws].mean(axis=1), [0.025, 0.975])
    return Interval(float(finite.mean()), float(low), float(high), len(finite))


def bootstrap_difference(left: Float[np.ndarray, " n"], right: Float[np.ndarray, " m"], seed: int = 0) -> Interval:
    """mean(left) - mean(right) of two independent samples; `n` counts both."""
    left, right = left[np.isfinite(left)], right[np.isfinite(right)]
    if len(left) == 0 or len(right) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    a = left[rng.integers(len(left), size=(RESAMPLES, len(left)))].mean(axis=1)
    b = right[rng.integers(len(right), size=(RESAMPLES, len(right)))].mean(axis=1)
    low, high = np.quantile(a - b, [0.025, 0.975])
    return Interval(float(left.mean() - right.mean()), float(low), float(high), len(left) + len(right))

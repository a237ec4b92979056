"""Bootstrap intervals: against resampling in one piece, against the normal distribution, and in little memory."""

import tracemalloc

import numpy as np
import pytest

from posedreamer_assets.metrics import intervals
from posedreamer_assets.metrics.intervals import bootstrap_difference, bootstrap_mean


def skewed(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(5, 1, n)


@pytest.mark.parametrize("n", [1, 2, 77, 1500])
def test_resampling_in_parts_is_resampling_at_once(n: int) -> None:
    values = skewed(n)
    draws = np.random.default_rng(7).integers(n, size=(intervals.RESAMPLES, n))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    found = bootstrap_mean(values, 7)
    assert (found.low, found.high, found.n) == (low, high, n)


def test_what_could_not_be_measured_is_left_out() -> None:
    assert bootstrap_mean(np.array([0.5, np.nan, 0.5])) == intervals.Interval(0.5, 0.5, 0.5, 2)
    assert np.isnan(bootstrap_mean(np.array([np.nan])).mean)
    assert bootstrap_difference(np.array([1.0]), np.array([np.nan, 0.25])).mean == 0.75


def test_both_ways_give_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = skewed(4000), skewed(3000, 1)
    resampled = bootstrap_mean(left), bootstrap_difference(left, right)
    monkeypatch.setattr(intervals, "MOST_RESAMPLED", 100)
    for drawn, normal in zip(resampled, (bootstrap_mean(left), bootstrap_difference(left, right)), strict=True):
        width = drawn.high - drawn.low
        assert normal.mean == drawn.mean
        assert (normal.low - drawn.low) / width == pytest.approx(0, abs=0.05)
        assert (normal.high - drawn.high) / width == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("n", [intervals.MOST_RESAMPLED, 500_000])
def test_memory_does_not_grow_with_resamples_times_values(n: int) -> None:
    values = skewed(n)
    tracemalloc.start()
    bootstrap_mean(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6

"""Means and shares for the figures of stages. What nothing could be measured for is NaN, and is left out of plots."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.tables.rows import array


def mean(rows: pa.Table, column: str) -> float:
    """The mean of a column's measured values; NaN where there are none."""
    return mean_of(array(rows, column))


def mean_of(values: np.ndarray) -> float:
    """The mean of the finite values; NaN where there are none."""
    values = values.astype(float)
    usable = values[np.isfinite(values)]
    return round(float(usable.mean()), 4) if len(usable) else math.nan


def share(count: int, of: int) -> float:
    """A ratio of counts."""
    return round(count / of, 4) if of else math.nan


def flat_figures(figures: Mapping[str, Any], within: str = "") -> dict[str, int | float | str]:
    """A checkpoint's figures as single values, so that each can be plotted over its materialisations.

    An estimate with an interval, {"mean", "ci95"} or {"value", "low", "high"}, gives its name, `<name>_low` and
    `<name>_high`; other nested names are joined with a slash. Lists and what is not finite are left out.
    """
    flat: dict[str, int | float | str] = {}
    for name, value in figures.items():
        place = f"{within}{name}"
        if isinstance(value, Mapping):
            flat |= _estimate(place, value) or flat_figures(value, f"{place}/")
        elif isinstance(value, str | bool) or (isinstance(value, int | float) and math.isfinite(value)):
            flat[place] = value
    return flat


def _estimate(name: str, value: Mapping[str, Any]) -> dict[str, int | float | str]:
    middle = value.get("mean", value.get("value"))
    low, high = value.get("ci95") or (value.get("low"), value.get("high"))
    if middle is None or low is None or high is None:
        return {}
    found = {name: middle, f"{name}_low": low, f"{name}_high": high}
    return {key: number for key, number in found.items() if math.isfinite(number)}

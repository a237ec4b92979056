"""Tests of a batch against the batches before it: drift that no bound on single rows shows.

The difference of a batch's mean from that of earlier batches is measured in standard errors: spread within batches over
the number of rows, plus the spread among earlier batches. A batch warns when it is many of them away *and* the
difference is large enough to matter, so that neither small nor huge batches warn for nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from posedreamer_assets.checks.model import Around, DataCheck, Measured
from posedreamer_assets.checks.rows import Rows

_SIGMAS, _BATCHES, _PICTURES = 4.0, 8, 32
_WITHIN_LIMIT = 0.0
_HIGHEST = 99.0  # a probability that rounds to 0 is this many standard deviations


def steady(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """Whether a measure of the column stays where it was in the batches before.

    `value` is the number itself (true counts as 1), `brightness` an image's mean grey level from 0 to 1, `spread` a
    vector's distance from its batch's mean (small where all poses look alike), and `shares` the share of rows with
    each value.
    """
    assert check.column is not None, "held by the kind's scope"
    measure, batches = check.args.get("measure", "value"), check.args.get("batches", _BATCHES)
    sampled = _PICTURES if measure == "brightness" else 1 << 62
    before = [Rows(table) for table in around.before([check.column], batches, sampled)]
    if not before or not len(rows):
        return Measured(_WITHIN_LIMIT, 0, "no earlier batch to compare with")
    sigmas, least = check.args.get("sigmas", _SIGMAS), check.args.get("least", 0.0)
    if measure == "shares":
        return _same_shares(rows.values(check.column), [b.values(check.column) for b in before], sigmas, least)
    now = _measure(_some(rows, sampled), check.column, measure)
    then = [values for b in before if len(values := _measure(b, check.column, measure))]
    if not len(now) or not then:
        return Measured(_WITHIN_LIMIT, 0, "nothing to compare")
    return _same_mean(now, then, sigmas, least)


def _some(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, most).astype(int))


def _measure(rows: Rows, column: str, measure: str) -> np.ndarray:
    """One number for each row that has one."""
    if measure == "brightness":
        return np.array([p.pixels.mean() / 255 for p in rows.pictures(column) if p is not None])
    values = rows.numbers(column)
    if measure == "spread":
        values = values[np.isfinite(values).all(1)]
        return np.linalg.norm(values - values.mean(0), axis=1) if len(values) else np.zeros(0)
    return values[np.isfinite(values)]


def _same_mean(now: np.ndarray, then: list[np.ndarray], sigmas: float, least: float) -> Measured:
    earlier, means = np.concatenate(then), np.array([values.mean() for values in then])
    within = float(np.mean([values.var() for values in [now, *then]]))
    sampling = within * (1 / len(now) + 1 / len(earlier))
    # What batches differ by beyond their sampling is no drift; it takes some of them to know it.
    among = float(means.var(ddof=1)) * (1 + 1 / len(then)) if len(then) > 2 else 0.0
    error = max(np.sqrt(max(sampling, among)), 1e-12)
    change = float(now.mean() - earlier.mean())
    score = abs(change) / error
    text = f"mean {now.mean():.4g}, {earlier.mean():.4g} in {len(then)} batches before: {score:.1f} standard errors"
    return Measured(score if abs(change) > least else 0.0, sigmas, text)


def _same_shares(now: Sequence[Any], then: Sequence[Sequence[Any]], sigmas: float, least: float) -> Measured:
    """A chi-squared test of homogeneity, its probability as that many standard deviations of a normal distribution."""
    earlier = [value for values in then for value in values]
    counts = [Counter(map(str, values)) for values in (now, earlier)]
    names = sorted(set().union(*counts))
    if len(names) < 2:
        return Measured(_WITHIN_LIMIT, sigmas, f"{names[0]} throughout" if names else "no values")
    table = np.array([[count[name] for name in names] for count in counts], float)
    shares = table / table.sum(1, keepdims=True)
    moved = float(np.abs(shares[0] - shares[1]).sum() / 2)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi2 = float(((table - expected) ** 2 / expected).sum())
    score = min(float(stats.norm.isf(stats.chi2.sf(chi2, len(names) - 1) / 2)), _HIGHEST)
    most = int(np.abs(shares[0] - shares[1]).argmax())
    text = (
        f"{moved:.2g} of the rows moved between values since {len(then)} batches before, most at {names[most]} "
        f"({shares[1, most]:.2g} to {shares[0, most]:.2g}): {score:.1f} standard deviations"
    )
    return Measured(score if moved > least else 0.0, sigmas, text)

"""Tests of groups of rows against each other."""

import re

import numpy as np

from posedreamer_assets.checks.model import Around, DataCheck, Measured
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.metrics.group_rates import group_rates

_LEVEL, _BATCHES = 0.01, 8
_THIRDS = ("lowest", "middle", "highest")


def alike_among(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """Whether a column is true equally often in all groups of rows, over this batch and up to `batches` before it.

    A row's group is what the first group of the regex `group` matches in the text column `column`; rows without a match
    are in none. The check fails where rates that differ so much have a probability below `level` if all groups are alike.
    """
    assert check.column is not None, "held by the kind's scope"
    texts, level = check.args["column"], check.args.get("level", _LEVEL)
    before = around.before([check.column, texts], check.args.get("batches", _BATCHES), 1 << 62)
    names: list[str] = []
    values: list[bool] = []
    for part in [rows, *map(Rows, before)]:
        for text, value in zip(part.values(texts), part.values(check.column), strict=True):
            match = re.search(check.args["group"], text or "")
            if match and value is not None:
                names.append(match[1])
                values.append(bool(value))
    if not names:
        return Measured(0.0, 0.0, "no row is in a group")
    found = group_rates(names, np.array(values))
    apart = [group.name for group in found.groups if group.p < level]
    named = f"; apart from the others: {', '.join(apart)}" if apart else ""
    return Measured(max(level - found.p, 0.0), 0.0, f"{found.text()}{named}; {len(before) + 1} batches")


def none_left_behind(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """A column is true of no group much more seldom than of all rows, over this batch and up to `batches` before it.

    A row's group is its text in column `group`; of a column of numbers, lowest, middle or highest third of them. The check
    fails where a group's rate is below `share` of that of all, and has a probability below `level` if all groups are alike.
    """
    assert check.column is not None, "held by the kind's scope"
    by, level = check.args["group"], check.args.get("level", _LEVEL)
    before = around.before([check.column, by], check.args.get("batches", _BATCHES), 1 << 62)
    parts = [rows, *map(Rows, before)]
    pairs = [pair for part in parts for pair in zip(part.values(by), part.values(check.column), strict=True)]
    pairs = [(group, bool(value)) for group, value in pairs if group is not None and value is not None]
    if not pairs:
        return Measured(0.0, 0.0, "no row is in a group")
    groups, values = [group for group, _ in pairs], np.array([value for _, value in pairs])
    names = groups if isinstance(groups[0], str) else _thirds(np.array(groups, float))
    found = group_rates(names, values)
    least = check.args["share"] * float(values.mean())
    behind = [group for group in found.groups if group.rate < least and group.p < level]
    said = "; ".join(f"{one.name} {one.rate:.0%} of {one.asked}" for one in behind) or "none"
    text = f"{values.mean():.0%} of all {len(values)}; groups left behind: {said}; {len(parts)} batches"
    return Measured(max((least - group.rate for group in behind), default=0.0), 0.0, text)


def _thirds(values: np.ndarray) -> list[str]:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return [f"{_THIRDS[int(value > low) + int(value > high)]} third" for value in values]

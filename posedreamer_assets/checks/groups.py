"""Tests of groups of rows against each other."""

import re

import numpy as np

from posedreamer_assets.checks.model import Around, DataCheck, Measured
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.metrics.group_rates import group_rates

_LEVEL, _BATCHES = 0.01, 8


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

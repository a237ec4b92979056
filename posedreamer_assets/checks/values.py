"""Tests of values that Great Expectations has no words for: vectors, JSON, content that repeats, values elsewhere."""

import json
import math
from collections import Counter
from collections.abc import Hashable
from typing import Any

import numpy as np

from posedreamer_assets.checks.model import Around, DataCheck, Measured, Verdicts
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.digests import folder_digest
from posedreamer_assets.scoring.verdict import KEPT, REASONS
from posedreamer_assets.tables.keys import ALIGN, BASE, DOMAIN, group_of


def own_values(rows: Rows, check: DataCheck) -> list[Any]:
    """The tested column."""
    assert check.column is not None, "held by the kind's scope"
    return rows.values(check.column)


def bounds(check: DataCheck) -> tuple[float, float]:
    """The arguments min and max."""
    return check.args.get("min", -math.inf), check.args.get("max", math.inf)


def _vectors(rows: Rows, check: DataCheck) -> list[np.ndarray | None]:
    """Each row's numbers as float64; a null inside a vector becomes nan, which no bound admits."""
    return [None if v is None else np.atleast_1d(np.array(v, dtype=np.float64)) for v in own_values(rows, check)]


def relationships(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Whether each value occurs in a column of another table; with `by`, in the row that this column names there."""
    field, by = check.args["field"], check.args.get("by")
    columns = [field] if by is None else ["sample_id", field]
    tables = [around.rows(table, columns).select(columns) for table in check.args["to"]]
    known = {row for table in tables for row in zip(*(c.to_pylist() for c in table.columns), strict=True)}
    values = own_values(rows, check)
    asked = zip(values) if by is None else zip(rows.values(by), values, strict=True)
    return [None if row[-1] is None else row in known for row in asked]


def all_not_null(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Whether all columns have a value."""
    return np.logical_and.reduce([rows.present(name) for name in check.args["columns"]]).tolist()


def finite(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Neither nan nor infinity."""
    return [None if v is None else bool(np.isfinite(v).all()) for v in _vectors(rows, check)]


def norm_between(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Norms of vectors, or of each group of `parts` numbers in them."""
    low, high = bounds(check)

    def fits(vector: np.ndarray) -> bool:
        norms = np.linalg.norm(vector.reshape(-1, check.args.get("parts", len(vector))), axis=1)
        return bool(((norms >= low) & (norms <= high)).all())  # false for nan

    return [None if v is None else fits(v) for v in _vectors(rows, check)]


def values_between(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Every number of a vector."""
    low, high = bounds(check)
    return [None if v is None else bool(((v >= low) & (v <= high)).all()) for v in _vectors(rows, check)]


def is_rotation(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Orthogonal with determinant 1."""
    tolerance = check.args.get("tolerance", 1e-4)

    def fits(vector: np.ndarray) -> bool:
        matrix = vector.reshape(3, 3)
        off = np.abs(matrix @ matrix.T - np.eye(3)).max()
        return bool(off <= tolerance and np.linalg.det(matrix) > 0)

    return [None if v is None else fits(v) for v in _vectors(rows, check)]


def same_length(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """As many members as another column."""
    pairs = zip(own_values(rows, check), rows.values(check.args["column"]), strict=True)
    return [None if a is None and b is None else len(a or ()) == len(b or ()) for a, b in pairs]


def is_json(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Whether texts can be read as JSON."""

    def fits(text: str) -> bool:
        try:
            json.loads(text)
        except ValueError:
            return False
        return True

    return [None if v is None else fits(v) for v in own_values(rows, check)]


def json_between(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """A number inside JSON, named by a path such as `oks_after.mean`.

    JSON that holds all of `unless` at its top is not judged.
    """
    low, high = bounds(check)
    unless = check.args.get("unless", {})

    def fits(text: str) -> bool | None:
        try:
            value = json.loads(text)
        except ValueError:
            return False
        if unless and isinstance(value, dict) and unless.items() <= value.items():
            return None
        for part in check.args["path"].split("."):
            value = value.get(part) if isinstance(value, dict) else None
        # NaN fails both comparisons.
        return isinstance(value, int | float) and low <= value <= high

    return [None if v is None else fits(v) for v in own_values(rows, check)]


def unique_content(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """No other row holds the same bytes or numbers."""
    pick = check.args.get("pick")
    found = [_hashable(v) for v in (rows.files(check.column or "", pick) if pick else own_values(rows, check))]
    count = Counter(v for v in found if v is not None)
    return [None if v is None else count[v] == 1 for v in found]


def _hashable(value: Any) -> Hashable:
    return tuple(value) if isinstance(value, list) else value


def constant(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The commonest value of the partition everywhere; nulls are a value too."""
    found = own_values(rows, check)
    common = Counter(found).most_common(1)
    return [v == common[0][0] for v in found]


def share_between(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """The share of rows that have one of some values."""
    low, high = bounds(check)
    found = [v for v in own_values(rows, check) if v is not None]
    if not found:
        return Measured(0.0, 0.0, "no values")
    share = sum(v in check.args["values"] for v in found) / len(found)
    return Measured(max(low - share, share - high), 0.0, f"{share:.3g} of {len(found)} rows")


def checkpoint_intact(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The files of each checkpoint are those that its folder is named after."""
    found = [None if place is None else around.folder(place) for place in rows.values("path")]
    digests = [place.rpartition("-")[2] if place else "" for place in rows.values("path")]
    return [
        folder is not None and bool(digest) and folder_digest(folder).startswith(digest)
        for folder, digest in zip(found, digests, strict=True)
    ]


def round_of_key(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The column names the group of the row's partition."""
    keys = rows.values("partition_key")
    return [name == group_of(key) for name, key in zip(own_values(rows, check), keys, strict=True)]


def known_reason(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`kept`, or a reason of `scoring/verdict.py`."""
    known = {KEPT, *REASONS}
    return [None if reason is None else reason in known for reason in own_values(rows, check)]


def predicted_in_hard_rounds(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """A number where the partition belongs to a round of hard poses, none elsewhere."""
    keys = rows.values("partition_key")
    return [
        (value is not None) == (group_of(key) not in (BASE, ALIGN, DOMAIN))
        for value, key in zip(own_values(rows, check), keys, strict=True)
    ]

"""Data checks written like dbt's schema.yml, run by Great Expectations.

`dbt_like_checks/<table>.yml` lists the tests of each table. They are read here, held against the table's schema,
compiled to an expectation suite and run on rows. A test that Great Expectations has no words for (images that decode,
rotations of bounded angle, rows known in another table) is computed here as a column of true, false and null, and the
suite expects it to be true. Binary and list columns therefore never reach Great Expectations.

Test arguments common to all tests: `severity` (error or warn), `where` (rows it is about), `mostly` (share of values
that must pass), `name` and `description`. Nulls pass every test but `not_null`.
"""

import ast
import functools
import importlib
import io
import json
import logging
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image, UnidentifiedImageError

from posedreamer_assets.errors import CheckError
from posedreamer_assets.records import BOOKKEEPING, SCHEMAS

References = Callable[[str, str], Iterable[Any]]
EXAMPLES = 20  # failing ids and values that an outcome names
SEVERITIES = {"error": "critical", "warn": "warning"}
_PACKAGE = Path(__file__).parent
_COMMON = {"severity": str, "where": str, "mostly": float, "name": str, "description": str}
_NAME = re.compile(r"[A-Za-z0-9_]+")


def checks_folder() -> Path:
    """`dbt_like_checks` beside the package in a checkout, inside the package where it was installed from a wheel."""
    beside = _PACKAGE.parent / "dbt_like_checks"
    return beside if (beside / "pose_library.yml").is_file() else _PACKAGE / "dbt_like_checks"


@dataclass(frozen=True)
class DataCheck:
    """One test of a table or column, as written in its file.

    Attributes:
        name: unique within the table, for example `between__oks`.
        kind: name of the test, a key of `KINDS`.
        column: the tested column; None for a test of the whole table.
        args: the test's own arguments.
        severity: `error` (what is downstream must wait) or `warn`.
        where: condition on rows it is about; None means all rows.
        mostly: share of values that must pass.
        description: one sentence.
    """

    name: str
    kind: str
    column: str | None
    args: Mapping[str, Any]
    severity: str
    where: str | None
    mostly: float
    description: str

    @property
    def blocking(self) -> bool:
        """Whether a failure keeps what is downstream from being made."""
        return self.severity == "error"


@dataclass(frozen=True)
class TableChecks:
    """All checks of one table."""

    table: str
    description: str
    checks: tuple[DataCheck, ...]


@dataclass(frozen=True)
class CheckOutcome:
    """What a check found.

    Attributes:
        name: the check's.
        passed: whether it holds.
        severity: `error` or `warn`.
        description: the check's.
        observed: what was found, in words.
        failing_ids: sample ids of failing rows, at most `EXAMPLES`.
    """

    name: str
    passed: bool
    severity: str
    description: str
    observed: str
    failing_ids: tuple[str, ...]

    @property
    def blocking(self) -> bool:
        """Whether a failure keeps what is downstream from being made."""
        return self.severity == "error"


# Tests that are computed here: (rows, check, references) -> true, false or None for each row.

Verdicts = list[bool | None]
Picture = tuple[tuple[int, int], str]  # (width, height) in pixels, mode


def _relationships(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    known = set(references(check.args["to"], check.args["field"]))
    return [None if v is None else v in known for v in _values(rows, check)]


def _all_not_null(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    present = [rows.column(name).is_valid().to_numpy() for name in check.args["columns"]]
    return np.logical_and.reduce(present).tolist()


def _finite(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    return [None if v is None else bool(np.isfinite(v).all()) for v in _vectors(rows, check)]


def _norm_between(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    low, high = _bounds(check)

    def fits(vector: np.ndarray) -> bool:
        norms = np.linalg.norm(vector.reshape(-1, check.args.get("parts", len(vector))), axis=1)
        return bool(((norms >= low) & (norms <= high)).all())  # false for nan

    return [None if v is None else fits(v) for v in _vectors(rows, check)]


def _values_between(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    low, high = _bounds(check)
    return [None if v is None else bool(((v >= low) & (v <= high)).all()) for v in _vectors(rows, check)]


def _is_rotation(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    tolerance = check.args.get("tolerance", 1e-4)

    def fits(vector: np.ndarray) -> bool:
        matrix = vector.reshape(3, 3)
        off = np.abs(matrix @ matrix.T - np.eye(3)).max()
        return bool(off <= tolerance and np.linalg.det(matrix) > 0)

    return [None if v is None else fits(v) for v in _vectors(rows, check)]


def _same_length(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    others = rows.column(check.args["column"]).to_pylist()
    pairs = zip(_values(rows, check), others, strict=True)
    return [None if a is None and b is None else len(a or ()) == len(b or ()) for a, b in pairs]


def _is_json(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    def fits(text: str) -> bool:
        try:
            json.loads(text)
        except ValueError:
            return False
        return True

    return [None if v is None else fits(v) for v in _values(rows, check)]


def _image_decodes(rows: pa.Table, check: DataCheck, references: References) -> Verdicts:
    found = [None if v is None else _image_of(v) for v in _values(rows, check)]
    sizes = _declared_sizes(rows, check, found)
    modes = check.args.get("modes")

    def fits(image: Picture | None, size: tuple[int, int] | None) -> bool:
        return image is not None and image[0] == size and (not modes or image[1] in modes)

    present = rows.column(check.column).is_valid().to_pylist()
    return [fits(image, size) if ok else None for image, size, ok in zip(found, sizes, present, strict=True)]


def _declared_sizes(rows: pa.Table, check: DataCheck, found: list[Picture | None]) -> list[tuple[int, int] | None]:
    if check.args.get("sized"):
        return list(zip(rows.column("width").to_pylist(), rows.column("height").to_pylist(), strict=True))
    # Without declared sizes all images of a partition are expected to have the commonest one.
    common = Counter(image[0] for image in found if image is not None).most_common(1)
    return [common[0][0] if common else None] * len(found)


def _image_of(blob: bytes) -> Picture | None:
    """Size (width, height) in pixels and mode of an image all of whose pixels can be read, else None."""
    try:
        with Image.open(io.BytesIO(blob)) as image:
            image.load()
            return image.size, image.mode
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None  # Pillow's various ways to say that a file is broken


def _values(rows: pa.Table, check: DataCheck) -> list[Any]:
    assert check.column is not None  # held by the kind's scope
    return rows.column(check.column).to_pylist()


def _vectors(rows: pa.Table, check: DataCheck) -> list[np.ndarray | None]:
    """Each row's numbers as float64; a null inside a vector becomes nan, which no bound admits."""
    return [None if v is None else np.atleast_1d(np.array(v, dtype=np.float64)) for v in _values(rows, check)]


def _bounds(check: DataCheck) -> tuple[float, float]:
    return check.args.get("min", -math.inf), check.args.get("max", math.inf)


# Kinds of tests


def _is_plain(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_numeric(kind: pa.DataType) -> bool:
    nested = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return _is_number(kind.value_type if nested else kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_matrix(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) and kind.list_size == 9


def _is_blob(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


@dataclass(frozen=True)
class Kind:
    """What a test takes.

    Attributes:
        sentence: describes it; filled with `column` and the arguments.
        args: names and types of its arguments; the required ones end in "!".
        accepts: which column types it tests; None for a test of the whole table.
        compute: makes its true/false column; None for what Great Expectations does itself.
    """

    sentence: str
    args: Mapping[str, type] = field(default_factory=dict)
    accepts: Callable[[pa.DataType], bool] | None = _is_plain
    compute: Callable[[pa.Table, DataCheck, References], Verdicts] | None = None


_RANGE = {"min": float, "max": float}
KINDS: dict[str, Kind] = {
    "row_count": Kind("The number of rows is within {range}", _RANGE, None),
    "unique_combination": Kind("No two rows agree in all of {columns}", {"columns!": list}, None),
    "all_not_null": Kind("None of {columns} is null", {"columns!": list}, None, compute=_all_not_null),
    "expression_is_true": Kind("{expression}", {"expression!": str}, None),
    "not_null": Kind("{column} is never null", {}, lambda kind: True),
    "unique": Kind("No two rows have the same {column}"),
    "accepted_values": Kind("{column} is one of {values}", {"values!": list}),
    "between": Kind("{column} is within {range}", _RANGE, _is_number),
    "mean_between": Kind("The mean of {column} is within {range}", _RANGE, _is_number),
    "matches": Kind("{column} matches {regex}", {"regex!": str}, pa.types.is_string),
    "relationships": Kind(
        "Every {column} is a {field} of {to}", {"to!": str, "field!": str}, _is_plain, compute=_relationships
    ),
    "finite": Kind("{column} holds neither nan nor infinity", {}, _is_numeric, compute=_finite),
    "values_between": Kind("All values in {column} are within {range}", _RANGE, _is_list, compute=_values_between),
    "norm_between": Kind(
        "The norms of {column} are within {range}", {**_RANGE, "parts": int}, _is_list, compute=_norm_between
    ),
    "is_rotation": Kind("{column} is a rotation matrix", {"tolerance": float}, _is_matrix, compute=_is_rotation),
    "same_length": Kind("{column} is as long as {other}", {"column!": str}, _is_list, compute=_same_length),
    "is_json": Kind("{column} is JSON", {}, pa.types.is_string, compute=_is_json),
    "image_decodes": Kind(
        "Every image in {column} can be decoded and has its declared size",
        {"sized": bool, "modes": list},
        _is_blob,
        compute=_image_decodes,
    ),
}


# Reading files


def load_checks() -> dict[str, TableChecks]:
    """The checks of every table, by table.

    Raises:
        CheckError: a file is missing or cannot be understood.
    """
    return {table: load_table_checks(table) for table in SCHEMAS}


def load_table_checks(asset: str, folder: Path | None = None) -> TableChecks:
    """The checks of one table.

    Args:
        asset: a table's name, or an asset key such as `base/control_maps`.
        folder: where to look instead of `checks_folder()`.

    Raises:
        CheckError: unknown table, no file, or a file that cannot be understood; names file, line and what was expected.
    """
    table = asset.replace("/", "_")
    if table not in SCHEMAS:
        raise CheckError(f"no table {table!r}; known: {', '.join(SCHEMAS)}")
    path = (folder or checks_folder()) / f"{table}.yml"
    if not path.is_file():
        raise CheckError(f"{path}: no such file, expected the checks of table {table!r}")
    return _FileReader(path, table).read()


class _FileReader:
    """Turns one YAML file into checks; works on YAML nodes because they know their lines."""

    def __init__(self, path: Path, table: str) -> None:
        self._path = path
        self._table = table
        self._schema = pa.schema([*SCHEMAS[table], *BOOKKEEPING])
        self._loader = yaml.SafeLoader("")

    def read(self) -> TableChecks:
        root = self._mapping(self._compose(), {"version", "models"}, "version and models")
        if self._scalar(root.get("version"), int, "version: 2", root[""]) != 2:
            raise self._error(root["version"], "expected version: 2")
        models = self._sequence(root.get("models"), "models: a list with one model", root[""])
        if len(models) != 1:
            raise self._error(root["models"], f"expected one model, found {len(models)}")
        model = self._mapping(models[0], {"name", "description", "tests", "columns"}, "a model")
        name = self._scalar(model.get("name"), str, f"name: {self._table}", models[0])
        if name != self._table:
            raise self._error(model["name"], f"expected name: {self._table}, as the file is called; found {name!r}")
        description = self._scalar(model.get("description"), str, "a description", models[0])
        return TableChecks(self._table, " ".join(description.split()), self._checks(model))

    def _checks(self, model: dict[str, yaml.Node]) -> tuple[DataCheck, ...]:
        checks: list[DataCheck] = []
        for node in self._sequence(model.get("tests"), "a list of tests", None):
            self._append(checks, node, None)
        seen: set[str] = set()
        for node in self._sequence(model.get("columns"), "a list of columns", None):
            column = self._mapping(node, {"name", "description", "tests"}, "a column")
            name = self._scalar(column.get("name"), str, "a column's name", node)
            self._require_column(name, node)
            if name in seen:
                raise self._error(node, f"expected each column once, found {name!r} again")
            seen.add(name)
            for test in self._sequence(column.get("tests"), "a list of tests", None):
                self._append(checks, test, name)
        if not checks:
            raise self._error(model[""], "expected at least one test")
        return tuple(checks)

    def _append(self, checks: list[DataCheck], node: yaml.Node, column: str | None) -> None:
        kind_name, args = self._test(node)
        scope = "table" if column is None else "column"
        kind = KINDS.get(kind_name)
        allowed = [n for n, k in KINDS.items() if (k.accepts is None) == (column is None)]
        if kind is None or kind_name not in allowed:
            raise self._error(node, f"unknown {scope} test {kind_name!r}; expected one of {', '.join(allowed)}")
        if column is not None and kind.accepts is not None and not kind.accepts(self._schema.field(column).type):
            raise self._error(node, f"{kind_name} does not test columns of type {self._schema.field(column).type}")
        common, own = self._arguments(node, kind_name, kind, args)
        name = common.get("name") or self._default_name(kind_name, column, own, checks)
        if not _NAME.fullmatch(name) or any(c.name == name for c in checks):
            raise self._error(node, f"expected a name of letters, digits and _ that no other test has, found {name!r}")
        checks.append(
            DataCheck(
                name,
                kind_name,
                column,
                MappingProxyType(own),
                common.get("severity", "error"),
                common.get("where"),
                common.get("mostly", 1.0),
                common.get("description") or _sentence(kind, column, own, common),
            )
        )

    def _test(self, node: yaml.Node) -> tuple[str, dict[str, yaml.Node]]:
        if isinstance(node, yaml.ScalarNode):
            return node.value, {}
        if not isinstance(node, yaml.MappingNode) or len(node.value) != 1:
            raise self._error(node, "expected a test: a name, or one name with its arguments")
        name, args = node.value[0]
        return name.value, self._mapping(args, None, f"arguments of {name.value}")

    def _arguments(
        self, node: yaml.Node, kind_name: str, kind: Kind, args: dict[str, yaml.Node]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        types = {n.rstrip("!"): t for n, t in kind.args.items()} | _COMMON
        values: dict[str, Any] = {}
        for name, found in args.items():
            if not name:
                continue
            if name not in types:
                raise self._error(found, f"{kind_name} takes no {name!r}; expected one of {', '.join(types)}")
            values[name] = self._value(found, types[name], f"{kind_name}: {name}")
        for name in (n.rstrip("!") for n in kind.args if n.endswith("!")):
            if name not in values:
                raise self._error(node, f"{kind_name} needs {name!r}")
        if {"min", "max"} <= types.keys() and not {"min", "max"} & values.keys():
            raise self._error(node, f"{kind_name} needs 'min', 'max' or both")
        self._check_values(args, values)
        common = {n: v for n, v in values.items() if n in _COMMON}
        return common, {n: v for n, v in values.items() if n not in _COMMON}

    def _check_values(self, nodes: dict[str, yaml.Node], values: dict[str, Any]) -> None:
        if values.get("severity", "error") not in SEVERITIES:
            raise self._error(nodes["severity"], f"expected severity error or warn, found {values['severity']!r}")
        if not 0 < values.get("mostly", 1.0) <= 1:
            raise self._error(nodes["mostly"], f"expected mostly in (0, 1], found {values['mostly']}")
        if "min" in values and "max" in values and values["min"] > values["max"]:
            raise self._error(nodes["min"], f"expected min <= max, found {values['min']} > {values['max']}")
        for name in ("expression", "where"):
            if name in values:
                self._check_expression(values[name], nodes[name])
        if values.get("columns") == []:
            raise self._error(nodes["columns"], "expected at least one column")
        for column in [*values.get("columns", []), *([values["column"]] if "column" in values else [])]:
            self._require_column(column, nodes.get("columns") or nodes["column"])
        if "sized" in values and not {"width", "height"} <= set(self._schema.names):
            raise self._error(nodes["sized"], f"table {self._table!r} has no columns width and height")
        if "regex" in values:
            try:
                re.compile(values["regex"])
            except re.error as error:
                raise self._error(nodes["regex"], f"expected a regular expression: {error}") from error
        if "to" in values:
            self._check_reference(values["to"], values.get("field"), nodes["to"])

    def _check_reference(self, table: str, field: str | None, node: yaml.Node) -> None:
        if table not in SCHEMAS:
            raise self._error(node, f"unknown table {table!r}; expected one of {', '.join(SCHEMAS)}")
        if field is not None and field not in SCHEMAS[table].names:
            raise self._error(node, f"table {table!r} has no column {field!r}")

    def _check_expression(self, text: str, node: yaml.Node) -> None:
        """Comparisons and arithmetic of plain columns and constants only."""
        try:
            tree = ast.parse(text, mode="eval")
        except SyntaxError as error:
            raise self._error(node, f"expected an expression, found {text!r}: {error.msg}") from error
        for part in ast.walk(tree):
            if isinstance(part, ast.Name):
                self._require_column(part.id, node)
                if not _is_plain(self._schema.field(part.id).type):
                    raise self._error(node, f"column {part.id!r} is a list or binary; expressions take plain columns")
            elif not isinstance(part, _EXPRESSION_PARTS):
                raise self._error(node, f"{type(part).__name__} is not allowed in the expression {text!r}")

    def _require_column(self, name: str, node: yaml.Node) -> None:
        if name not in self._schema.names:
            known = ", ".join(self._schema.names)
            raise self._error(node, f"table {self._table!r} has no column {name!r}; expected one of {known}")

    @staticmethod
    def _default_name(kind: str, column: str | None, args: dict[str, Any], checks: list[DataCheck]) -> str:
        scope = column or "_".join(args.get("columns", ["table"]))
        name, taken = f"{kind}__{scope}", {c.name for c in checks}
        numbers = (f"{name}_{i}" for i in range(2, len(checks) + 3))
        return name if name not in taken else next(n for n in numbers if n not in taken)

    # YAML nodes

    def _compose(self) -> yaml.Node:
        try:
            node = yaml.compose(self._path.read_text(encoding="utf-8"), yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise CheckError(f"{self._path}, line {line}: not valid YAML: {error.problem}") from error
        if node is None:
            raise CheckError(f"{self._path}, line 1: expected version and models, found nothing")
        return node

    def _mapping(self, node: yaml.Node, allowed: set[str] | None, what: str) -> dict[str, yaml.Node]:
        """The mapping's nodes by key; the mapping's own node is under the empty key."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"expected {what} as a mapping")
        found: dict[str, yaml.Node] = {"": node}
        for key, value in node.value:
            if allowed is not None and key.value not in allowed:
                raise self._error(key, f"unknown key {key.value!r} in {what}; expected {', '.join(sorted(allowed))}")
            if key.value in found:
                raise self._error(key, f"expected each key once, found {key.value!r} again")
            found[key.value] = value
        return found

    def _sequence(self, node: yaml.Node | None, what: str, parent: yaml.Node | None) -> list[yaml.Node]:
        if node is None and parent is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node or parent, f"expected {what}")
        return node.value

    def _scalar(self, node: yaml.Node | None, kind: type, what: str, parent: yaml.Node) -> Any:
        if node is None:
            raise self._error(parent, f"expected {what}")
        return self._value(node, kind, what)

    def _value(self, node: yaml.Node, kind: type, what: str) -> Any:
        try:
            value = self._loader.construct_object(node, deep=True)
        except yaml.YAMLError as error:
            raise self._error(node, f"{what}: {error}") from error
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return value
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._error(node, f"{what}: expected {kind.__name__}, found {value!r}")
        return value

    def _error(self, node: yaml.Node | None, text: str) -> CheckError:
        line = node.start_mark.line + 1 if node is not None else 1
        return CheckError(f"{self._path}, line {line}: {text}")


_EXPRESSION_PARTS = (
    ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Constant, ast.List, ast.Load,
    ast.cmpop, ast.boolop, ast.operator, ast.unaryop,
)  # fmt: skip


def _sentence(kind: Kind, column: str | None, args: dict[str, Any], common: dict[str, Any]) -> str:
    words = {name: f"`{value}`" for name, value in args.items()}
    words |= {n: ", ".join(f"`{v}`" for v in args[n]) for n in ("values", "columns") if n in args}
    words["range"] = f"[{args.get('min', '-∞')}, {args.get('max', '∞')}]"
    words["other"] = words.get("column", "")
    text = kind.sentence.format(**{**words, "column": f"`{column}`"})
    if "where" in common:
        text += f", where `{common['where']}`"
    if "mostly" in common:
        text += f", for {100 * common['mostly']:g} % of values"
    return f"{text}."


# Running


def run_checks(asset: str, rows: pa.Table, references: References, *, folder: Path | None = None) -> list[CheckOutcome]:
    """Run all checks of a table on rows, in the order of the file.

    Args:
        asset: a table's name, or an asset key such as `base/control_maps`.
        rows: what to check, for example one partition; must have the columns that the checks name.
        references: `references(table, column)` gives the values that a `relationships` test may meet.
        folder: where to look for the file instead of `checks_folder()`.

    Raises:
        CheckError: a file that cannot be understood, rows without a tested column, or a check that could not be run.
    """
    loaded = load_table_checks(asset, folder)
    missing = sorted(_columns_needed(loaded) - set(rows.column_names))
    if missing:
        raise CheckError(f"checks of {loaded.table!r} need column {missing[0]!r}, which the rows do not have")
    frame = _frame(loaded, rows, references)
    results = _validate(loaded, frame)
    return [_outcome(check, results[check.name], loaded.table) for check in loaded.checks]


def _columns_needed(loaded: TableChecks) -> set[str]:
    needed: set[str] = set()
    for check in loaded.checks:
        needed |= {check.column} if check.column else set()
        needed |= set(check.args.get("columns", ())) | ({check.args["column"]} if "column" in check.args else set())
        needed |= {"width", "height"} if check.args.get("sized") else set()
        for text in filter(None, (check.where, check.args.get("expression"))):
            needed |= {n.id for n in ast.walk(ast.parse(text, mode="eval")) if isinstance(n, ast.Name)}
    return needed


def _derived(check: DataCheck) -> str:
    return f"__{check.name}"


def _frame(loaded: TableChecks, rows: pa.Table, references: References) -> Any:
    """A pandas frame of the plain columns and one true/false column for each test that is computed here."""
    import pandas as pd

    # pandas' nullable types keep 64-bit seeds exact beside nulls.
    nullable = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    plain = [f.name for f in rows.schema if _is_plain(f.type)]
    frame = rows.select(plain).to_pandas(types_mapper=nullable.get)
    for check in loaded.checks:
        compute = KINDS[check.kind].compute
        if compute is not None:
            frame[_derived(check)] = pd.array(compute(rows, check, references), dtype="boolean")
        elif check.kind == "expression_is_true":
            frame[_derived(check)] = frame.eval(check.args["expression"]).astype("boolean")
        elif check.kind == "not_null" and check.column not in plain:
            present = rows.column(check.column).is_valid().to_pylist()
            frame[_derived(check)] = pd.array([p or None for p in present], dtype="boolean")
    return frame


def _expectation(check: DataCheck, columns: Iterable[str]) -> Any:
    gxe: Any = importlib.import_module("great_expectations.expectations")  # loads for seconds
    args = check.args
    common: dict[str, Any] = {"severity": SEVERITIES[check.severity], "meta": {"check": check.name}}
    if check.where:
        common |= {"row_condition": check.where, "condition_parser": "pandas"}
    per_value = {**common, "mostly": check.mostly}
    limits = {"min_value": args.get("min"), "max_value": args.get("max")}
    if check.kind == "row_count":
        return gxe.ExpectTableRowCountToBeBetween(**limits, **common)
    if check.kind == "unique_combination":
        return gxe.ExpectCompoundColumnsToBeUnique(column_list=args["columns"], **per_value)
    if check.kind == "not_null":
        column = _derived(check) if _derived(check) in columns else check.column
        return gxe.ExpectColumnValuesToNotBeNull(column=column, **per_value)
    if _derived(check) in columns:
        return gxe.ExpectColumnValuesToBeInSet(column=_derived(check), value_set=[True], **per_value)
    if check.kind == "unique":
        return gxe.ExpectColumnValuesToBeUnique(column=check.column, **per_value)
    if check.kind == "accepted_values":
        return gxe.ExpectColumnValuesToBeInSet(column=check.column, value_set=list(args["values"]), **per_value)
    if check.kind == "between":
        return gxe.ExpectColumnValuesToBeBetween(column=check.column, **limits, **per_value)
    if check.kind == "mean_between":
        return gxe.ExpectColumnMeanToBeBetween(column=check.column, **limits, **common)
    return gxe.ExpectColumnValuesToMatchRegex(column=check.column, regex=args["regex"], **per_value)


def _validate(loaded: TableChecks, frame: Any) -> dict[str, Any]:
    """Results of Great Expectations by check name; it returns them in another order than the suite's."""
    with _silence():
        import great_expectations as gx

        suite = gx.ExpectationSuite(
            name=loaded.table, expectations=[_expectation(c, frame.columns) for c in loaded.checks]
        )
        batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame})
        form: dict[str, Any] = {"result_format": "COMPLETE", "partial_unexpected_count": EXAMPLES}
        if "sample_id" in frame.columns:
            form["unexpected_index_column_names"] = ["sample_id"]
        found = batch.validate(suite, result_format=form)
    return {r.expectation_config.meta["check"]: r for r in found.results}


@functools.lru_cache(1)
def _batch_definition() -> Any:
    """The one in-memory source of this process; making it takes most of the first call's time."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("rows")
    return source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")


@contextmanager
def _silence() -> Any:
    """Great Expectations without progress bars, analytics and warnings about its own dependencies."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _outcome(check: DataCheck, result: Any, table: str) -> CheckOutcome:
    error = _exception_text(result.exception_info or {})
    if error:
        raise CheckError(f"check {check.name!r} of {table!r} could not be run: {error}")
    found = result.result
    return CheckOutcome(
        check.name,
        bool(result.success),
        check.severity,
        check.description,
        _observed(found),
        tuple(_failing_ids(found)),
    )


def _exception_text(info: dict[str, Any]) -> str:
    """Great Expectations reports an exception flat, or below the id of the metric that raised it."""
    parts = [info, *(v for v in info.values() if isinstance(v, dict))]
    return "; ".join(str(p["exception_message"]) for p in parts if p.get("raised_exception"))[:500]


def _observed(found: Mapping[str, Any]) -> str:
    if "unexpected_count" not in found:
        return f"observed {found.get('observed_value')}"
    count, of = found["unexpected_count"], found.get("element_count", 0)
    if not count:
        return f"none of {of} rows fails"
    examples = list(dict.fromkeys(str(v) for v in found.get("partial_unexpected_list") or []))
    # Computed columns and nulls have nothing to show.
    shown = "" if set(examples) <= {"False", "None", "nan", "<NA>"} else f": {', '.join(examples[:5])}"
    return f"{count} of {of} rows fail ({100 * count / max(of, 1):.2g} %){shown}"


def _failing_ids(found: Mapping[str, Any]) -> list[str]:
    rows = found.get("unexpected_index_list") or []
    ids = dict.fromkeys(str(r["sample_id"]) for r in rows if isinstance(r, dict) and "sample_id" in r)
    return list(ids)[:EXAMPLES]

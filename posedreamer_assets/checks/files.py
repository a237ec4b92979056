"""Reading `dbt_like_checks/<table>.yml`: every mistake is an error with file, line and what was expected."""

import ast
import functools
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import yaml

from posedreamer_assets.checks.kinds import KINDS, Kind, is_plain
from posedreamer_assets.checks.model import DataCheck, TableChecks
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.tables.fields import BOOKKEEPING, SCHEMAS

SEVERITIES = ("error", "warn")
MEASURES = ("value", "brightness", "spread", "shares")
BODY_MEASURES = ("stature_m", "lowest_m", "trunk_tilt_deg", "sole_pitch_deg")
_PACKAGE = Path(__file__).parents[1]
_COMMON = {"severity": str, "where": str, "mostly": float, "name": str, "description": str}
_NAME = re.compile(r"[A-Za-z0-9_]+")
_STAGES = {stage.name: stage.table or stage.name for stage in graph(2, students=True)}
CHECKPOINT_ASSETS = tuple(dict.fromkeys(stage.name for stage in graph(2, students=True) if not stage.partitioned))
"""Stages without partitions: their rows are those of table `checkpoints` that bear their name."""


def checks_folder() -> Path:
    """`dbt_like_checks` beside the package in a checkout, inside the package where it was installed from a wheel."""
    beside = _PACKAGE.parent / "dbt_like_checks"
    return beside if (beside / "pose_library.yml").is_file() else _PACKAGE / "dbt_like_checks"


def schema_of(table: str) -> pa.Schema | None:
    """Columns of a table or checkpoint asset, bookkeeping included; None for an unknown one."""
    schema = SCHEMAS["checkpoints"] if table in CHECKPOINT_ASSETS else SCHEMAS.get(table)
    return None if schema is None else pa.schema([*schema, *(column.field for column in BOOKKEEPING)])


def has_checks(name: str) -> bool:
    """Whether there is a file of checks for a table or checkpoint asset."""
    return (checks_folder() / f"{name}.yml").is_file()


def load_checks(folder: Path | None = None) -> dict[str, TableChecks]:
    """The checks of every table and checkpoint asset, by name.

    Raises:
        CheckError: a file is missing or cannot be understood.
    """
    return {table: load_table_checks(table, folder) for table in (*SCHEMAS, *CHECKPOINT_ASSETS)}


def load_table_checks(asset: str, folder: Path | None = None) -> TableChecks:
    """The checks of one table.

    Args:
        asset: a table's name, or an asset key such as `base/control_maps` or `hard/difficulty_model`.
        folder: where to look instead of `checks_folder()`.

    Raises:
        CheckError: unknown table, no file, or a file that cannot be understood; names file, line and what was expected.
    """
    name = asset.rpartition("/")[2]
    table = _STAGES.get(name, name)
    if schema_of(table) is None:
        raise CheckError(f"no table {table!r}; known: {', '.join((*SCHEMAS, *CHECKPOINT_ASSETS))}")
    path = (folder or checks_folder()) / f"{table}.yml"
    if not path.is_file():
        raise CheckError(f"{path}: no such file, expected the checks of table {table!r}")
    return _read(path, table, path.stat().st_mtime_ns)


@functools.lru_cache(256)
def _read(path: Path, table: str, changed_ns: int) -> TableChecks:
    """A file's checks, read again when it has changed."""
    return _FileReader(path, table).read()


def mistakes(folder: Path | None = None) -> list[str]:
    """What is wrong in all files, one line each: the first mistake of every file, and files that no table has."""
    found, known = [], (*SCHEMAS, *CHECKPOINT_ASSETS)
    for table in known:
        try:
            load_table_checks(table, folder)
        except CheckError as error:
            found.append(str(error))
    extra = [path for path in sorted((folder or checks_folder()).glob("*.y*ml")) if path.stem not in known]
    return found + [f"{path}: no table or asset has this name; expected one of {', '.join(known)}" for path in extra]


class _FileReader:
    """Turns one YAML file into checks; works on YAML nodes because they know their lines."""

    def __init__(self, path: Path, table: str) -> None:
        self._path = path
        self._table = table
        schema = schema_of(table)
        assert schema is not None, "held by load_table_checks"
        self._schema = schema
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
            values[name] = self._argument(found, types[name], kind_name, name)
        for name in (n.rstrip("!") for n in kind.args if n.endswith("!")):
            if name not in values:
                raise self._error(node, f"{kind_name} needs {name!r}")
        useless = {"mostly", "where"} if kind.compute else {"mostly"}
        if kind.whole and (useless := useless & values.keys()):
            raise self._error(node, f"{kind_name} finds one figure for all rows, so it takes no {min(useless)!r}")
        for column in kind.needs:
            self._require_column(column, node)
        if {"min", "max"} <= types.keys() and not {"min", "max"} & values.keys():
            raise self._error(node, f"{kind_name} needs 'min', 'max' or both")
        self._check_values(args, values)
        self._check_reference(kind, values, args)
        common = {n: v for n, v in values.items() if n in _COMMON}
        return common, {n: v for n, v in values.items() if n not in _COMMON}

    def _argument(self, node: yaml.Node, kind: type, kind_name: str, name: str) -> Any:
        """A value; `to` may be one table or a list of them and becomes a tuple."""
        if name == "to":
            value = self._loader.construct_object(node, deep=True)
            return tuple(value) if isinstance(value, list) else (value,)
        return self._value(node, kind, f"{kind_name}: {name}")

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
        named = [(name, values[name]) for name in ("column", "pick", "by") if name in values]
        for name, column in [*(("columns", column) for column in values.get("columns", [])), *named]:
            self._require_column(column, nodes[name])
        if "sized" in values and not {"width", "height"} <= set(self._schema.names):
            raise self._error(nodes["sized"], f"table {self._table!r} has no columns width and height")
        if "regex" in values:
            try:
                re.compile(values["regex"])
            except re.error as error:
                raise self._error(nodes["regex"], f"expected a regular expression: {error}") from error
        if values.get("measure", "value") not in MEASURES:
            raise self._error(nodes["measure"], f"expected measure {', '.join(MEASURES)}, found {values['measure']!r}")
        if values.get("of_body", BODY_MEASURES[0]) not in BODY_MEASURES:
            raise self._error(
                nodes["of_body"], f"expected of_body {', '.join(BODY_MEASURES)}, found {values['of_body']!r}"
            )

    def _check_reference(self, kind: Kind, values: dict[str, Any], nodes: dict[str, yaml.Node]) -> None:
        """The tables named by `to` exist and have what the test reads there."""
        named = [values[name] for name in ("field", "having") if name in values]
        both = values.get("columns", []) if "to" in values else []
        for table in values.get("to", ()):
            if table not in SCHEMAS:
                raise self._error(nodes["to"], f"unknown table {table!r}; expected one of {', '.join(SCHEMAS)}")
            schema = schema_of(table)
            for column in (*named, *both, *kind.needs_of_to):
                if schema is None or column not in schema.names:
                    raise self._error(nodes["to"], f"table {table!r} has no column {column!r}")

    def _check_expression(self, text: str, node: yaml.Node) -> None:
        """Comparisons and arithmetic of plain columns and constants only."""
        try:
            tree = ast.parse(text, mode="eval")
        except SyntaxError as error:
            raise self._error(node, f"expected an expression, found {text!r}: {error.msg}") from error
        for part in ast.walk(tree):
            if isinstance(part, ast.Name):
                self._require_column(part.id, node)
                if not is_plain(self._schema.field(part.id).type):
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
    words |= {n: ", ".join(f"`{v}`" for v in args[n]) for n in ("values", "columns", "to") if n in args}
    words["range"] = f"[{args.get('min', '-∞')}, {args.get('max', '∞')}]"
    words["measure"] = args.get("measure", "value")
    words["other"] = words.get("other", words.get("column", ""))
    text = kind.sentence.format(**{**words, "column": f"`{column}`"})
    if "unless" in args:
        text += f", unless it says {', '.join(f'`{name}: {value}`' for name, value in args['unless'].items())}"
    if "by" in args:
        text += f", that of the row that `{args['by']}` names"
    if "where" in common:
        text += f", where `{common['where']}`"
    if "mostly" in common:
        text += f", for {100 * common['mostly']:g} % of values"
    return f"{text}."

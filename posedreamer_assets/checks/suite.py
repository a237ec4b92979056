"""Running checks: rows become a frame of plain columns, checks a suite of Great Expectations, results outcomes.

A test that Great Expectations has no words for is computed here as a column of true, false and null, and the suite
expects it to be true; a finding about the whole table becomes a column of one figure, which the suite bounds. Binary and
list columns therefore never reach Great Expectations.
"""

import ast
import copy
import dataclasses
import functools
import importlib
import logging
import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from posedreamer_assets.checks.files import load_table_checks
from posedreamer_assets.checks.kept import kept_configurations
from posedreamer_assets.checks.kinds import KINDS, is_plain
from posedreamer_assets.checks.model import Around, CheckOutcome, DataCheck, Measured, TableChecks
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.errors import CheckError

EXAMPLES = 20  # failing ids and values that an outcome names
_SEVERITIES = {"error": "critical", "warn": "warning"}


def run_checks(
    asset: str, rows: pa.Table, around: Around, *, folder: Path | None = None, only: Collection[str] = ()
) -> list[CheckOutcome]:
    """Run all checks of a table on rows, in the order of the file.

    Args:
        asset: a table's name, or an asset key such as `base/control_maps`.
        rows: what to check, for example one partition; must have the columns that the checks name.
        around: other tables, earlier batches, the profile and the body.
        folder: where to look for the file instead of `checks_folder()`.
        only: names of the checks to run; empty means all.

    Raises:
        CheckError: a file that cannot be understood, rows without a tested column, or a check that could not be run.
    """
    loaded = load_table_checks(asset, folder)
    if only:
        loaded = dataclasses.replace(loaded, checks=tuple(c for c in loaded.checks if c.name in only))
    missing = sorted(_columns_needed(loaded) - set(rows.column_names))
    if missing:
        raise CheckError(f"checks of {loaded.table!r} need column {missing[0]!r}, which the rows do not have")
    frame, measured = _frame(loaded, rows, around)
    results = _validate(loaded, frame, measured)
    return [_outcome(c, results[c.name], loaded.table, rows.num_rows, measured.get(c.name)) for c in loaded.checks]


def _columns_needed(loaded: TableChecks) -> set[str]:
    needed: set[str] = set()
    for check in loaded.checks:
        needed |= {check.column} if check.column else set()
        needed |= set(check.args.get("columns", ())) | {
            check.args[name] for name in ("column", "pick", "by") if name in check.args
        }
        needed |= set(KINDS[check.kind].needs) | ({"width", "height"} if check.args.get("sized") else set())
        for text in filter(None, (check.where, check.args.get("expression"))):
            needed |= {n.id for n in ast.walk(ast.parse(text, mode="eval")) if isinstance(n, ast.Name)}
    return needed


def _derived(check: DataCheck) -> str:
    return f"__{check.name}"


def _frame(loaded: TableChecks, table: pa.Table, around: Around) -> tuple[Any, dict[str, Measured]]:
    """A pandas frame of the plain columns and one column for each test that is computed here; and the whole findings."""
    import pandas as pd

    # pandas' nullable types keep 64-bit seeds exact beside nulls.
    nullable = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    plain = [f.name for f in table.schema if is_plain(f.type)]
    frame = table.select(plain).to_pandas(types_mapper=nullable.get)
    rows, computed, measured = Rows(table), {}, dict[str, Measured]()
    for check in loaded.checks:
        kind = KINDS[check.kind]
        if kind.compute is not None:
            # Without rows there is none to judge; what is found of a table as a whole may be that they are missing.
            found = kind.compute(rows, check, around) if len(rows) or kind.whole else []
            if isinstance(found, Measured):
                measured[check.name] = found
                computed[_derived(check)] = [float(found.value)] * len(rows)
            else:
                computed[_derived(check)] = pd.array(found, dtype="boolean")
        elif check.kind == "expression_is_true":
            computed[_derived(check)] = frame.eval(check.args["expression"]).astype("boolean")
        elif check.kind == "not_null" and check.column is not None and check.column not in plain:
            computed[_derived(check)] = pd.array(
                [p or None for p in rows.present(check.column).tolist()], dtype="boolean"
            )
    return pd.concat([frame, pd.DataFrame(computed, index=frame.index)], axis=1), measured


def _expectation(check: DataCheck, columns: Iterable[str], limit: float | None) -> Any:
    gxe: Any = importlib.import_module("great_expectations.expectations")  # loads for seconds
    args = check.args
    common: dict[str, Any] = {"severity": _SEVERITIES[check.severity], "meta": {"check": check.name}}
    if check.where:
        common |= {"row_condition": check.where, "condition_parser": "pandas"}
    per_value = {**common, "mostly": check.mostly}
    limits = {"min_value": args.get("min"), "max_value": args.get("max")}
    column = _derived(check) if _derived(check) in columns else check.column
    if limit is not None:
        return gxe.ExpectColumnValuesToBeBetween(column=column, max_value=limit, **per_value)
    if check.kind == "not_null":
        return gxe.ExpectColumnValuesToNotBeNull(column=column, **per_value)
    if column != check.column:
        return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True], **per_value)
    match check.kind:
        case "row_count":
            return gxe.ExpectTableRowCountToBeBetween(**limits, **common)
        case "unique_combination":
            return gxe.ExpectCompoundColumnsToBeUnique(column_list=args["columns"], **per_value)
        case "unique":
            return gxe.ExpectColumnValuesToBeUnique(column=column, **per_value)
        case "accepted_values":
            return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(args["values"]), **per_value)
        case "between":
            return gxe.ExpectColumnValuesToBeBetween(column=column, **limits, **per_value)
        case "mean_between":
            return gxe.ExpectColumnMeanToBeBetween(column=column, **limits, **common)
        case "stdev_between":
            return gxe.ExpectColumnStdevToBeBetween(column=column, **limits, **common)
        case "distinct_between":
            return gxe.ExpectColumnUniqueValueCountToBeBetween(column=column, **limits, **common)
        case "quantile_between":
            ranges = {"quantiles": [args["quantile"]], "value_ranges": [[args.get("min"), args.get("max")]]}
            return gxe.ExpectColumnQuantileValuesToBeBetween(
                column=column, quantile_ranges=ranges, allow_relative_error=False, **common
            )
        case _:
            return gxe.ExpectColumnValuesToMatchRegex(column=column, regex=args["regex"], **per_value)


def _validate(loaded: TableChecks, frame: Any, measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Results of Great Expectations by check name; it returns them in another order than the suite's.

    Counts come first. What fails is looked at again for the rows, because asking for them everywhere takes most of the
    time, and they are wanted for few checks.
    """
    with _silence():
        limits = {name: found.limit for name, found in measured.items()}
        expectations = {c.name: _expectation(c, frame.columns, limits.get(c.name)) for c in loaded.checks}
        results = _results(loaded.table, frame, expectations.values(), {"result_format": "BASIC"})
        suspects = [name for name, r in results.items() if not r.success or r.result.get("unexpected_count")]
        if suspects:
            form: dict[str, Any] = {"result_format": "COMPLETE", "partial_unexpected_count": EXAMPLES}
            if "sample_id" in frame.columns:
                form["unexpected_index_column_names"] = ["sample_id"]
            results |= _results(loaded.table, frame, [expectations[name] for name in suspects], form)
    return results


def _results(table: str, frame: Any, expectations: Iterable[Any], form: dict[str, Any]) -> dict[str, Any]:
    import great_expectations as gx

    suite = gx.ExpectationSuite(name=table, expectations=[copy.deepcopy(e) for e in expectations])
    batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame})
    with kept_configurations():
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


def _outcome(check: DataCheck, result: Any, table: str, rows: int, whole: Measured | None) -> CheckOutcome:
    error = _exception_text(result.exception_info or {})
    if error:
        raise CheckError(f"check {check.name!r} of {table!r} could not be run: {error}")
    found, passed = result.result, bool(result.success)
    if whole is not None:
        # Not the suite's word: of a table without rows it has nothing to look at, and passes.
        passed = bool(whole.value <= whole.limit)
        return CheckOutcome(
            check.name, passed, check.severity, check.description, whole.text, whole.failing_ids, checked=rows
        )
    return CheckOutcome(
        check.name,
        passed,
        check.severity,
        check.description,
        _observed(found),
        tuple(_failing_ids(found)),
        checked=int(found.get("element_count", rows)),
        failed=int(found.get("unexpected_count", 0)),
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

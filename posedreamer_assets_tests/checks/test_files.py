"""The shipped files of data checks; mistakes in a file are named by line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from posedreamer_assets import checks
from posedreamer_assets.checks import (
    CHECKPOINT_ASSETS,
    load_checks,
    load_table_checks,
    mistakes,
    run_checks,
)
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.poses.sources import READERS
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import round_name
from posedreamer_assets_tests.checks.small_rows import (
    AROUND,
    IDS,
    N,
    one,
    rows_of,
    write_file,
)

# The shipped files


@pytest.mark.parametrize("table", [name for name in SCHEMAS if "round" in SCHEMAS[name].names])
@pytest.mark.parametrize("number", [0, 1, 2, 13])
def test_rows_of_every_round_are_checked_by_the_round_that_their_key_names(table: str, number: int) -> None:
    own, others = round_name(number), {"base", "hard", "hard2", "hard13", "align", ""} - {round_name(number)}
    keys = [f"{'procedural' if number == 0 else own}-{i:04d}" for i in range(N)]
    (check,) = [c for c in load_table_checks(table).checks if c.kind == "round_of_key"]
    found = run_checks(table, rows_of(table, partition_key=keys, round=[own] * N), AROUND, only=[check.name])
    assert [o.passed for o in found] == [True]
    for other in others:
        rows = rows_of(table, partition_key=keys, round=one(other, [own] * N))
        (outcome,) = run_checks(table, rows, AROUND, only=[check.name])
        assert (outcome.passed, outcome.failing_ids) == (False, (IDS[2],))


def test_every_table_and_every_asset_has_a_file_and_every_file_one_of_them() -> None:
    names = {p.stem for p in checks.checks_folder().glob("*.yml")}
    assert names == {*SCHEMAS, *CHECKPOINT_ASSETS} == set(load_checks())
    assert {stage.table or stage.name for count in (1, 2, 4) for stage in graph(count)} <= names
    assert mistakes() == []


def test_all_mistakes_of_a_folder_are_listed_with_the_files_that_no_table_has(tmp_path: Path) -> None:
    shutil.copytree(checks.checks_folder(), tmp_path / "files")
    (tmp_path / "files" / "dataset.yml").write_text(_model("nonsense").replace("sample_scores", "dataset"))
    (tmp_path / "files" / "quarantine.yml").unlink()
    (tmp_path / "files" / "extra.yml").write_text("")
    found = mistakes(tmp_path / "files")
    assert [line.split(": ")[0].rpartition("/")[2] for line in found] == [
        "quarantine.yml",
        "dataset.yml, line 6",
        "extra.yml",
    ]


def test_check_names_are_unique_and_fit_for_dagster() -> None:
    for loaded in load_checks().values():
        names = [c.name for c in loaded.checks]
        assert len(set(names)) == len(names)
        assert all(n.replace("_", "").isalnum() for n in names)
        assert all(c.description.endswith(".") for c in loaded.checks)


def test_the_package_carries_the_same_files() -> None:
    inside = Path(checks.__file__).parents[1] / "dbt_like_checks"
    assert {p.name: p.read_text() for p in inside.glob("*.yml")} == {
        p.name: p.read_text() for p in checks.checks_folder().glob("*.yml")
    }


def test_loading_checks_does_not_load_great_expectations_or_pandas() -> None:
    code = (
        "import sys; from posedreamer_assets.checks import load_checks; load_checks(); print([m for m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    assert not {"great_expectations", "pandas", "lance", "dagster", "torch"} & set(yaml.safe_load(out))


def test_repeated_tests_get_numbered_names_and_given_names_stay(tmp_path: Path) -> None:
    tests = "          - between: {min: 0}\n" * 2 + "          - between: {min: 0, name: mine, severity: warn}\n"
    loaded = load_table_checks("sample_scores", write_file(tmp_path, "", f"      - name: oks\n        tests:\n{tests}"))
    assert [(c.name, c.blocking) for c in loaded.checks] == [
        ("between__oks", True),
        ("between__oks_2", True),
        ("mine", False),
    ]
    assert loaded.checks[0].description == "`oks` is within [0, ∞]."


# Mistakes in files


HEAD = "version: 2\nmodels:\n  - name: sample_scores\n    description: d\n"


def _column(test: str, name: str = "oks") -> str:
    return f"{HEAD}    columns:\n      - name: {name}\n        tests:\n          - {test}\n"


def _model(test: str) -> str:
    return f"{HEAD}    tests:\n      - {test}\n"


MISTAKES = [
    ("", 1, "expected version and models"),
    ("version: 2\nmodels: [", 2, "not valid YAML"),
    ("version: 1\nmodels: []", 1, "expected version: 2"),
    ("version: 2\nmodels: []", 2, "expected one model, found 0"),
    ("version: 2\nmodel: []", 2, "unknown key 'model'"),
    ("version: 2\nmodels:\n  - name: scores\n", 3, "expected name: sample_scores"),
    ("version: 2\nmodels:\n  - name: sample_scores\n", 3, "expected a description"),
    ("version: 2\nmodels:\n  - name: sample_scores\n    description: d\n", 3, "expected at least one test"),
    (_column("nonull"), 8, "unknown column test 'nonull'; expected one of not_null"),
    (_column("row_count: {min: 1}"), 8, "unknown column test 'row_count'"),
    (_model("unique"), 6, "unknown table test 'unique'; expected one of row_count"),
    (_column("not_null", "okse"), 6, "has no column 'okse'; expected one of sample_id"),
    (_column("between: {low: 0}"), 8, "between takes no 'low'; expected one of min, max"),
    (_column("between"), 8, "between needs 'min', 'max' or both"),
    (_column("between: {min: zero}"), 8, "between: min: expected float, found 'zero'"),
    (_column("between: {min: 1, max: 0}"), 8, "expected min <= max"),
    (_column("between: {min: 0, mostly: 1.5}"), 8, "expected mostly in (0, 1]"),
    (_column("not_null: {severity: fatal}"), 8, "expected severity error or warn, found 'fatal'"),
    (_column("accepted_values"), 8, "accepted_values needs 'values'"),
    (_column("matches: {regex: a}"), 8, "matches does not test columns of type float"),
    (_column("matches: {regex: '('}", "sample_id"), 8, "expected a regular expression"),
    (_column("between: {min: 0}", "detected"), 8, "between does not test columns of type fixed_size_list"),
    (_column("relationships: {to: poses, field: sample_id}", "sample_id"), 8, "unknown table 'poses'"),
    (_column("relationships: {to: dataset, field: id}", "sample_id"), 8, "'dataset' has no column 'id'"),
    (_column("relationships: {to: dataset, field: oks, by: image}"), 8, "has no column 'image'"),
    (_column("not_null: {where: 'people = 1'}"), 8, "expected an expression"),
    (_column("not_null: {where: 'persons == 1'}"), 8, "has no column 'persons'"),
    (_model("expression_is_true: {name: e, expression: 'detected > 0'}"), 6, "expressions take plain columns"),
    (_model("expression_is_true: {name: e, expression: 'people.max() > 0'}"), 6, "is not allowed in the expression"),
    (_model("unique_combination: {columns: [people, x]}"), 6, "has no column 'x'"),
    (_model("row_count: {min: 1, name: 'a b'}"), 6, "expected a name of letters, digits and _"),
    (_column("image_decodes"), 8, "image_decodes does not test"),
    (_column("steady: {measure: colour}"), 8, "expected measure value, brightness, spread, shares, found 'colour'"),
    (_column("steady: {mostly: 0.5}"), 8, "so it takes no 'mostly'"),
    (_column("steady: {where: 'people == 1'}"), 8, "so it takes no 'where'"),
    (_model("maps_agree"), 6, "has no column 'control'"),
    (_model("same_in: {to: [dataset, poses], columns: [oks]}"), 6, "unknown table 'poses'"),
    (_model("same_in: {to: dataset, columns: [people]}"), 6, "table 'dataset' has no column 'people'"),
    (_model("oks_follows_detections: {to: dataset}"), 6, "table 'dataset' has no column 'body_pixels'"),
    (_model("covers: {to: dataset, having: keep}"), 6, "table 'dataset' has no column 'keep'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "expected"), MISTAKES)
def test_a_mistake_in_a_file_is_named_with_file_line_and_expectation(
    tmp_path: Path, text: str, line: int, expected: str
) -> None:
    path = tmp_path / "sample_scores.yml"
    path.write_text(text)
    with pytest.raises(CheckError) as error:
        load_table_checks("sample_scores", tmp_path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert expected in str(error.value)


def test_a_missing_file_and_an_unknown_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"pose_library\.yml: no such file"):
        load_table_checks("pose_library", tmp_path)
    with pytest.raises(CheckError, match="no table 'poses'; known: pose_files"):
        load_table_checks("poses")


def test_what_holds_for_clips_holds_for_every_kind_of_clip() -> None:
    """Kinds of source with cameras of their own are named; all others are clips, those of a reader to come as well."""
    with_cameras = {"fits", "bedlam", "humandata", "hmr2"}
    kinds = {reader.kind for reader in READERS} - {"shape"} | {"procedural"}
    found = [
        check.where for check in load_table_checks("pose_library").checks if check.where and " in [" in check.where
    ]
    assert with_cameras < kinds and len(found) == 7
    for where in found:
        chosen = set(pd.DataFrame({"source": [*kinds, "new"], "truncated": "True" in where}).query(where)["source"])
        assert {"bvh", "amass", "slahmr", "motionx", "new"} <= chosen and not chosen & with_cameras, where

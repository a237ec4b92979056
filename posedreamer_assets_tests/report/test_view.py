"""`posedreamer view`: galleries of tables and assets, and rows of tables without samples."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import SCHEMAS


def view(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["view", "--home", str(home.path), *arguments])


def shown(page: Path) -> list[str]:
    return re.findall(r"<h2>([^<]+/[^<]+)</h2>", page.read_text())


def test_an_asset_is_its_part_of_a_table(made: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert view(made, "hard2/hard_samples").exit_code == 0
    hard2 = made.store().read("pose_library", keys=["hard2-0000"], columns=["sample_id"]).column(0).to_pylist()
    assert shown(tmp_path / "hard2-hard_samples.html") == hard2
    assert view(made, "pose_library", "--limit", "500").exit_code == 0
    assert (
        len(shown(tmp_path / "pose_library.html")) == made.store().read("pose_library", columns=["sample_id"]).num_rows
    )


def test_the_hardest_of_a_partition_come_first(made: Home, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert view(made, "raw_generations", "procedural-0000", "--hardest", "--limit", "3", "-o", str(page)).exit_code == 0
    rows = made.store().read("sample_scores", keys=["procedural-0000"], columns=["sample_id", "oks"]).to_pylist()
    lowest = sorted(row["oks"] for row in rows if row["oks"] is not None)[:3]
    oks = {row["sample_id"]: row["oks"] for row in rows}
    assert [oks[name] for name in shown(page)] == lowest


def test_what_was_set_aside_is_shown_as_rows(made: Home, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert view(made, "quarantine", "-o", str(page)).output.startswith("0 rows")
    home = Home(tmp_path / "other")
    rows = [
        {
            "sample_id": f"p-0000/{i:06d}",
            "partition_key": "p-0000",
            "path": f"clip{i}.bvh",
            "reason": "<b>",
            "detail": "x" * 400,
        }
        for i in range(5)
    ]
    rows = pa.Table.from_pylist(rows, schema=SCHEMAS["quarantine"])
    home.store().replace_partition("quarantine", "p-0000", rows, input_digest="x")
    assert view(home, "quarantine", "--limit", "3", "-o", str(page)).output.startswith("3 rows")
    text = page.read_text()
    assert re.findall(r"<td>clip(\d)\.bvh</td>", text) == ["0", "1", "2"]
    assert "3 of 5 rows" in text
    assert "&lt;b&gt;" in text
    assert "x" * 200 not in text


@pytest.mark.parametrize("table", ["checkpoints", "check_results"])
def test_records_are_shown_as_rows(made: Home, table: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = view(made, table, "--limit", "1000", "-o", str(page))
    assert done.output.startswith(f"{made.store().read(table, columns=['sample_id']).num_rows} rows")


def test_unknown_names_are_told_with_those_that_there_are(made: Home) -> None:
    assert "base/control_maps" in view(made, "hard9/hard_samples").output
    assert "there are: procedural-0000, procedural-0001" in view(made, "base/dataset", "procedural-0009").output

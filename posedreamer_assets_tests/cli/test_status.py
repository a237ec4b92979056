"""`posedreamer status` counts what is done, stale, missing and failed, and repeats what the checks said."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.dagster_log import DagsterKnows, ask_dagster, dagster_knows, read_files
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.cli.status import StageStatus, as_lines, status_of
from posedreamer_assets.config import Profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.runtime.small import captions_lost, small_profile

POSES = ("body_model", "pose_library")
NEW = "procedural-0002"


def of(home: Home, asset: str) -> StageStatus:
    return next(status for status in status_of(home, home.store()) if status.asset == asset)


def counts(status: StageStatus) -> tuple[int, int, int, int]:
    return status.done, status.stale, status.missing, status.failed


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose body and two batches of poses are made."""
    place = tmp_path_factory.mktemp("made")
    run_main_job(Home(place), small_profile(), only=POSES)
    return place


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Home:
    """A copy of it."""
    return Home(Path(shutil.copytree(made_once, tmp_path / "home")))


def execute(home: Home, key: str) -> None:
    with Runner(home) as runner:
        runner.execute(runner.graph["pose_library"], key)


def broken(monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    """Making poses raises from now on."""

    def fail(_: Inputs) -> Any:
        raise ValueError("broken")

    monkeypatch.setitem(graph_of(profile)["pose_library"].__dict__, "make", fail)


def test_every_count_follows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    home.prepare(small_profile())
    poses = of(home, "pose_library")
    assert (*counts(poses), poses.rows, poses.bytes) == (0, 0, 2, 0, 0, 0)

    run_main_job(home, small_profile(), only=POSES)
    poses = of(home, "pose_library")
    assert (*counts(poses), poses.rows) == (2, 0, 0, 0, 4)
    assert poses.bytes > 1000
    assert poses.checks_passed > 10
    assert of(home, "base/control_maps").missing == 2
    assert counts(of(home, "body_model")) == (1, 0, 0, 0)

    changed = small_profile(**{"poses.ages": [6.0, 12.0]})
    home.prepare(changed)
    assert counts(of(home, "pose_library")) == (0, 2, 0, 0)

    broken(monkeypatch, changed)
    with pytest.raises(ValueError, match="broken"):
        execute(home, NEW)
    assert counts(of(home, "pose_library")) == (0, 2, 1, 1)

    shown = CliRunner().invoke(cli, ["status", "--json", "--home", str(tmp_path)])
    (line,) = [stage for stage in json.loads(shown.stdout) if stage["asset"] == "pose_library"]
    assert (line["stale"], line["failed"], line["rows"]) == (2, 1, 4)


def test_rows_that_failed_a_blocking_check_are_failed_and_nothing_else(made: Home) -> None:
    with captions_lost(NEW), pytest.raises(CheckError):
        execute(made, NEW)
    poses = of(made, "pose_library")
    assert counts(poses) == (2, 0, 0, 1)
    assert poses.unchecked == 0
    assert set(poses.checks_failed.values()) == {1}
    assert all(name in as_lines([poses])[1] for name in poses.checks_failed)
    execute(made, NEW)
    assert counts(of(made, "pose_library")) == (3, 0, 0, 0)


def test_rows_that_nobody_has_looked_at_are_told(made: Home) -> None:
    store = made.store()
    store.delete_partition("check_results", "pose-library-procedural-0001")
    poses = of(made, "pose_library")
    assert (*counts(poses), poses.unchecked) == (1, 0, 0, 0, 1)
    assert "not checked: 1" in as_lines([poses])[1]


def test_assets_that_share_a_table_share_its_size(made: Home) -> None:
    store, profile = made.store(), made.profile()
    rows = store.read("pose_library", keys=["procedural-0000"])
    names = [f"hard-0000/{i:06d}" for i in range(2)]
    moved = rows.set_column(rows.schema.get_field_index("sample_id"), "sample_id", [names])
    moved = moved.set_column(moved.schema.get_field_index("partition_key"), "partition_key", [["hard-0000"] * 2])
    store.replace_partition(
        "pose_library", "hard-0000", moved.drop_columns(["row_digest", "input_digest"]), input_digest="x"
    )
    found = {s.asset: s for s in status_of(made, store)}
    base, hard = found["pose_library"], found["hard/hard_samples"]
    assert (base.rows, hard.rows) == (4, 2)
    assert base.bytes == pytest.approx(2 * hard.bytes, abs=2)
    whole = sum(path.stat().st_size for path in Path(store.root, "pose_library.lance").rglob("*") if path.is_file())
    assert base.bytes + hard.bytes == pytest.approx(whole, abs=2)
    assert (hard.stale, hard.done) == (1, 0)
    assert Snapshot(profile, store).partitions(graph_of(profile)["hard/hard_samples"]).keys() == {"hard-0000"}


def test_the_event_log_says_the_same_when_it_is_read_as_when_dagster_is_asked(
    made: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = made.profile()
    with monkeypatch.context() as patched:
        broken(patched, profile)
        for key in (NEW, "procedural-0003"):
            with pytest.raises(ValueError, match="broken"):
                execute(made, key)
    execute(made, "procedural-0003")
    graph = graph_of(profile)
    read, asked = read_files(made, graph), ask_dagster(made, graph)
    assert read == asked
    assert read.failed == {"pose_library": {NEW}}
    assert NEW in read.partitions[graph["pose_library"].groups]


def test_a_home_without_a_log_knows_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert dagster_knows(home, graph_of(home.profile())) == DagsterKnows()


def test_a_log_of_another_layout_is_left_to_dagster(made: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Home] = []

    def ask(home: Home, graph: object) -> DagsterKnows:
        asked.append(home)
        return DagsterKnows()

    monkeypatch.setattr("posedreamer_assets.cli.dagster_log.ask_dagster", ask)
    settings = made.dagster / "dagster.yaml"
    former = settings.read_text()
    graph = graph_of(made.profile())
    dagster_knows(made, graph)
    assert asked == []
    settings.write_text(f"{former}\nstorage: {{postgres: {{postgres_url: x}}}}\n")
    dagster_knows(made, graph)
    assert asked == [made]
    settings.write_text(former)
    (made.dagster / "history" / "runs" / "index.db").write_bytes(b"not a database, but long enough to be looked at" * 9)
    for name in ("index.db-wal", "index.db-shm"):
        (made.dagster / "history" / "runs" / name).unlink(missing_ok=True)
    dagster_knows(made, graph)
    assert asked == [made, made]


def test_lines_are_as_wide_as_the_longest_name() -> None:
    short = StageStatus("body_model", 1, 0, 0, 0, 0, None, 0, 3, {}, {"odd": 2})
    long = replace(short, asset="hardest/filtered_dataset", rows=5)
    first, second, third = as_lines([short, long])
    assert first.index("done") + len("done") == second.index("1") + 1 == third.index("1 ") + 1
    assert second.endswith("3 ok; warnings: odd (2)")


def test_status_imports_nothing_heavy(made: Home) -> None:
    heavy = ("torch", "dagster", "great_expectations", "scipy", "matplotlib", "diffusers")
    program = (
        "import sys; from posedreamer_assets.cli.commands import cli\n"
        f"cli(['status', '--home', {str(made.path)!r}], standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

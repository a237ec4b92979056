"""Where a home keeps its tables: a folder or an object store, the same for the command line and for Dagster."""

import os
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.defs.maintenance import MANY_FILES, storage_maintenance, storage_upkeep
from posedreamer_assets.defs.resources import LanceStoreResource
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.storage_faults.object_store import environment, new_bucket

TABLE = "rendered_scenes"


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root in an object store whose endpoint and credentials are in the environment, as a user sets them."""
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return new_bucket(endpoint)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def _write(store: LanceStore, key: str, label: str = "a") -> None:
    rows = pa.table({"sample_id": [f"{key}/{i:06d}" for i in range(3)], "caption": [label] * 3})
    store.replace_partition(TABLE, key, rows, input_digest=label)


def test_a_remembered_place_is_used_by_commands_and_by_dagster(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    assert home.store().root == str(tmp_path / "storage")
    home.keep_in(bucket)
    _write(home.store(), "procedural-0000")
    monkeypatch.setenv("POSEDREAMER_HOME", str(tmp_path))
    assert LanceStoreResource().get().root == bucket
    assert LanceStoreResource().get().partition(TABLE, "procedural-0000") is not None
    home.prepare()
    assert not (tmp_path / "storage").exists()
    assert f"ok       {TABLE}, version 2" in _run("storage", "verify", "--home", str(tmp_path)).output


def test_the_variable_names_the_place_and_must_not_contradict_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEDREAMER_STORAGE", "s3://here/now")
    assert Home(tmp_path).storage_root == "s3://here/now"
    Home(tmp_path).keep_in("s3://here/now/")
    with pytest.raises(ConfigError, match="POSEDREAMER_STORAGE names s3://here/now; unset one"):
        Home(tmp_path).keep_in("s3://elsewhere/then")


def test_a_stage_runs_on_an_object_store_and_is_up_to_date_on_another_machine(tmp_path: Path, bucket: str) -> None:
    profile, one, two = load_profile("pocket"), Home(tmp_path / "one"), Home(tmp_path / "two")
    for home in (one, two):
        home.keep_in(bucket)
        home.prepare(profile)
    with Runner(one) as runner:
        runner.execute(graph(2)["body_model"], None)
    store = two.store()
    assert Snapshot(profile, store).is_current(graph(2)["body_model"])
    info = store.checkpoint("body_model")
    assert info is not None and any(info.path.iterdir())
    assert info.path.is_relative_to(tmp_path / "two" / "cache")


# Upkeep and verification from outside


def test_the_maintain_command_says_what_it_did(tmp_path: Path) -> None:
    store = Home(tmp_path).store()
    for i in range(6):
        _write(store, f"procedural-{i:04d}")
    before = store.read(TABLE)
    result = _run("storage", "maintain", "--home", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "1 tables: 6 files are now 1; 0 versions removed" in result.output
    assert store.read(TABLE).equals(before)


def test_the_maintain_command_and_the_job_remove_superseded_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Home(tmp_path).store()

    def make(number: int) -> None:
        def write(folder: Path) -> dict[str, int]:
            (folder / "weights.bin").write_bytes(bytes([number]) * 1000)
            return {}

        info = store.write_checkpoint("difficulty_model", f"{number:032x}", write, input_digest="")
        os.utime(info.path, (number, number))

    for number in range(1, 5):
        make(number)
    result = _run("storage", "maintain", "--keep-checkpoints", "1", "--home", str(tmp_path))
    assert "checkpoints: 2 superseded ones removed, 0 tags, 0 leftovers of killed writers" in result.output
    assert _run("storage", "maintain", "--table", TABLE, "--home", str(tmp_path)).output.count("superseded") == 0
    monkeypatch.setenv("POSEDREAMER_HOME", str(tmp_path))
    settings = {"ops": {"maintain": {"config": {"keep_checkpoints": 0}}}}
    done = storage_maintenance.execute_in_process(resources={"store": LanceStoreResource()}, run_config=settings)
    assert done.success
    assert [folder.request for folder in store.checkpoint_folders.stored()] == [f"{4:032x}"]


@pytest.mark.parametrize("command", [("storage",), ("storage", "maintain"), ("storage", "verify")])
def test_storage_commands_explain_themselves(command: tuple[str, ...]) -> None:
    result = _run(*command, "--help")
    assert result.exit_code == 0 and "Usage: " in result.output


def test_an_unknown_table_is_one_line(tmp_path: Path) -> None:
    result = _run("storage", "maintain", "--table", "scenes", "--home", str(tmp_path))
    assert result.exit_code == 1
    assert "unknown table 'scenes'" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_the_dagster_job_maintains_what_the_schedule_finds_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEDREAMER_HOME", str(tmp_path))
    store = Home(tmp_path).store()
    resources = {"store": LanceStoreResource()}
    # A context that is not left keeps an instance of its own, and leaves it to tests that come after.
    with dg.instance_for_test() as instance, dg.build_schedule_context(instance, resources=resources) as context:
        assert isinstance(storage_upkeep(context), dg.SkipReason)
        for i in range(MANY_FILES):
            _write(store, f"procedural-{i:04d}")
        request = storage_upkeep(context)
        assert isinstance(request, dg.RunRequest)
        before = store.read(TABLE)
        result = storage_maintenance.execute_in_process(
            instance=instance, resources=resources, run_config=request.run_config
        )
        assert result.success
        assert store.read(TABLE).equals(before)
        assert isinstance(storage_upkeep(context), dg.SkipReason)

"""A backfill launched through Dagster's own GraphQL API and daemon writes the rows that `posedreamer run` writes."""

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.test.utils import execute_dagster_graphql

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.register_planned import register_planned
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore

# Dagster's webserver and daemon call functions that Dagster itself deprecates, and drop coroutines of event loops that
# they start within others.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop.shutdown_asyncgens' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KEYS = ["procedural-0000", "procedural-0001"]
TABLES = ("pose_library", "control_maps")
STAGES_MADE = ("body_model", "pose_library", "base/control_maps")
PATIENCE_S = 1200  # seconds are enough on an idle machine
# Runs are executed by the daemon's own process, at once, instead of one subprocess each.
OVERRIDES = {
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
}

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } }
  }
}
"""


def _profile() -> Profile:
    return load_profile("pocket", {"poses.batch_size": 3, "poses.batches": 2, "poses.align_batches": 0})


def _rows(home: Home, table: str) -> list[tuple[str, str, str]]:
    rows = LanceStore(str(home.storage)).read(table, columns=["sample_id", "row_digest", "input_digest"])
    return [(r["sample_id"], r["row_digest"], r["input_digest"]) for r in rows.to_pylist()]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, WorkspaceProcessContext]]:
    """What Dagster's webserver and daemon hold on a fresh home, as `posedreamer dev` prepares it."""
    home = Home(tmp_path_factory.mktemp("ui"))
    home.prepare(_profile())
    register_planned(home)
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name="posedreamer_assets.definitions")
    origin = InProcessCodeLocationOrigin(loadable_target_origin=target, location_name="posedreamer_assets")
    reference = InstanceRef.from_dir(str(home.dagster), overrides=OVERRIDES)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.from_ref(reference) as instance:
        patch.setenv("POSEDREAMER_HOME", str(home.path))
        with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as process:
            _backfill(process, [["body_model"], ["pose_library"], ["base", "control_maps"]])
            yield home, process


def _ask(process: WorkspaceProcessContext, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    answer = execute_dagster_graphql(process.create_request_context(), query, variables)
    assert answer.errors is None, answer.errors
    return dict(answer.data)


def _backfill(process: WorkspaceProcessContext, assets: list[list[str]]) -> None:
    """As the button "materialize all" of the UI launches it: every partition that Dagster knows."""
    params = {"assetSelection": [{"path": path} for path in assets], "allPartitions": True}
    launched = _ask(process, LAUNCH, {"params": params})["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    deadline = time.monotonic() + PATIENCE_S
    status = ""
    while time.monotonic() < deadline:
        for error in execute_backfill_iteration(process, logging.getLogger("daemon")):
            assert error is None, error
        status = _ask(process, STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]["status"]
        if status == "COMPLETED_SUCCESS":
            return
        assert status in ("REQUESTED", "COMPLETING"), status
    raise AssertionError(f"the backfill did not end: {status}")


def test_a_backfill_writes_the_rows_of_the_command_line(
    ui: tuple[Home, WorkspaceProcessContext], tmp_path: Path
) -> None:
    home, _ = ui
    other = Home(tmp_path)
    run_main_job(other, _profile(), only=STAGES_MADE)
    for table in TABLES:
        assert _rows(home, table) == _rows(other, table)
        assert len(_rows(home, table)) == 6


def test_a_fresh_home_shows_the_partitions_that_its_profile_plans(ui: tuple[Home, WorkspaceProcessContext]) -> None:
    _, process = ui
    query = """
    query Keys($asset: AssetKeyInput!) {
      assetNodeOrError(assetKey: $asset) { ... on AssetNode { partitionKeys } }
    }
    """
    for path, keys in ((["pose_library"], KEYS), (["base", "dataset"], KEYS), (["hard", "dataset"], ["hard-0000"])):
        found = _ask(process, query, {"asset": {"path": path}})["assetNodeOrError"]
        assert found["partitionKeys"] == keys


def test_the_command_line_takes_the_rows_of_a_backfill_as_they_are(ui: tuple[Home, WorkspaceProcessContext]) -> None:
    home, _ = ui
    summary = run_main_job(home, _profile(), only=STAGES_MADE)
    assert {t.stage: t.made for t in summary.timings} == dict.fromkeys(STAGES_MADE, 0)


def test_checks_of_a_backfill_are_recorded_for_each_partition(ui: tuple[Home, WorkspaceProcessContext]) -> None:
    _, process = ui
    check = dg.AssetCheckKey(dg.AssetKey("pose_library"), "not_null__caption")
    history = process.instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    events = [record.event.dagster_event for record in history if record.event is not None]
    assert {event.asset_check_evaluation_data.partition for event in events if event is not None} == set(KEYS)

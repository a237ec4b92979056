"""Runs in processes of their own, launched and terminated as Dagster's UI does it, beside `posedreamer run`."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop.shutdown_asyncgens' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

KEYS = ["procedural-0000", "procedural-0001"]
STAGES_MADE = ("body_model", "pose_library", "base/control_maps")
PATIENCE_S = 600
OVERRIDES = {
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
    "code_servers": {"wait_for_local_processes_on_shutdown": True},  # else it still ends during whatever test is next
}
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
TERMINATE = """
mutation Terminate($id: String!) { terminateRun(runId: $id) { __typename ... on TerminateRunFailure { message } } }
"""


class Dev:
    """What `dagster dev` holds: a code server in another process, and a launcher that gives each run a process."""

    def __init__(self, home: Home, process: WorkspaceProcessContext) -> None:
        self.home, self.process, self.instance = home, process, process.instance

    def ask(self, query: str, variables: dict[str, Any]) -> Any:
        answer = execute_dagster_graphql(self.process.create_request_context(), query, variables)
        assert answer.errors is None, answer.errors
        (result,) = answer.data.values()
        return result

    def launch(self, asset: list[str], key: str) -> str:
        selector = {
            "repositoryLocationName": "posedreamer_assets",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": asset}],
        }
        tags = [{"key": "dagster/partition", "value": key}]
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
        launched = self.ask(LAUNCH, {"params": params})
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def wait_for(self, run_id: str, *statuses: dg.DagsterRunStatus) -> dg.DagsterRunStatus:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            run = self.instance.get_run_by_id(run_id)
            assert run is not None
            if run.status in statuses:
                return run.status
            time.sleep(0.2)
        raise AssertionError(f"run {run_id} is {run.status}")

    def wait_for_step(self, run_id: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START):
                # Dagster's exception is lost where it is raised in a destructor: those of its own log run at the start.
                time.sleep(1.0)
                return
            time.sleep(0.1)
        raise AssertionError("no step was started")


def profile(**settings: object):
    sizes = {"poses.batch_size": 4, "poses.batches": 2, "poses.align_batches": 0}
    return load_profile("pocket", {**sizes, **settings})


def rows(home: Home, table: str) -> list[tuple[str, str, str]]:
    found = LanceStore(str(home.storage)).read(table, columns=["sample_id", "row_digest", "input_digest"])
    return [(r["sample_id"], r["row_digest"], r["input_digest"]) for r in found.to_pylist()]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    home = Home(tmp_path_factory.mktemp("dev"))
    run_main_job(home, profile(), only=("body_model",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSEDREAMER_HOME", str(home.path))
        patch.setenv("DAGSTER_HOME", str(home.dagster))
        reference = InstanceRef.from_dir(str(home.dagster), overrides=OVERRIDES)
        target = ModuleTarget("posedreamer_assets.definitions", None, str(home.path), "posedreamer_assets")
        with dg.DagsterInstance.from_ref(reference) as instance:
            register(instance, graph_of(profile()), KEYS)
            with WorkspaceProcessContext(instance, target) as process:
                yield Dev(home, process)


def test_the_command_line_and_dagster_make_the_same_partitions_at_once(dev: Dev, tmp_path: Path) -> None:
    runs = [dev.launch(["pose_library"], key) for key in KEYS]
    run_main_job(dev.home, profile(), only=STAGES_MADE)
    for run_id in runs:
        dev.wait_for(run_id, dg.DagsterRunStatus.SUCCESS)
    run_main_job(dev.home, profile(), only=STAGES_MADE)
    clean = Home(tmp_path)
    run_main_job(clean, profile(), only=STAGES_MADE)
    for table in ("pose_library", "control_maps"):
        assert rows(dev.home, table) == rows(clean, table)
        assert len(rows(dev.home, table)) == 8


def test_a_terminated_run_leaves_the_former_rows_and_nothing_else(dev: Dev, tmp_path: Path) -> None:
    run_main_job(dev.home, profile(), only=STAGES_MADE)
    before = rows(dev.home, "pose_library")
    # So many poses that the run is at work for much longer than a termination takes, on a busy machine as well.
    dev.home.prepare(profile(**{"poses.batch_size": 6000}))
    run_id = dev.launch(["pose_library"], KEYS[0])
    dev.wait_for_step(run_id)
    assert dev.ask(TERMINATE, {"id": run_id})["__typename"] == "TerminateRunSuccess"
    assert (
        dev.wait_for(run_id, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS) == dg.DagsterRunStatus.CANCELED
    )
    assert rows(dev.home, "pose_library") == before
    assert [path for path in dev.home.storage.rglob("*") if ".writing" in path.name] == []
    assert list(LanceStore(str(dev.home.storage)).verify("pose_library")) == []
    summary = run_main_job(dev.home, profile(), only=STAGES_MADE)
    assert not any(t.made for t in summary.timings)

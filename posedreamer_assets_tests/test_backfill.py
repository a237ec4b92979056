"""A backfill launched through Dagster's own GraphQL API and daemon writes the rows that `posedreamer run` writes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.driver import Runner, run_main_job
from posedreamer_assets.home import Home
from posedreamer_assets.stages import STAGES
from posedreamer_assets.storage import LanceStore

KEYS = ["procedural-0000", "procedural-0001"]
TABLES = ("pose_library", "base_control_maps")
PATIENCE_S = 300

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


def _profile():
    sizes = {"poses.batch_size": 3, "poses.batches": 2, "poses.align_batches": 0}
    return load_profile("pocket", sizes)


def _rows(home: Home, table: str) -> list[tuple[str, str, str]]:
    rows = LanceStore(str(home.storage)).read(table, columns=["sample_id", "row_digest", "input_digest"])
    return [(r["sample_id"], r["row_digest"], r["input_digest"]) for r in rows.to_pylist()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(url: str, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.loads(answer.read())
    assert "errors" not in found, found["errors"]
    return found["data"]


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[tuple[Home, str]]:
    """`dagster dev` on a home where only the body model has been made; its URL."""
    home, profile = Home(tmp_path / "ui"), _profile()
    home.prepare(profile)
    with Runner(home) as runner:
        runner.execute(STAGES["body_model"], None)
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        register(instance, KEYS)
    url = f"http://127.0.0.1:{(port := _free_port())}"
    log = (tmp_path / "dagster.log").open("w")
    environment = {**os.environ, "DAGSTER_HOME": str(home.dagster), "POSEDREAMER_HOME": str(home.path)}
    command = [sys.executable, "-m", "dagster", "dev", "-m", "posedreamer_assets.definitions", "-p", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_up(url, server, tmp_path / "dagster.log")
        yield home, url
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            if _ask(url, "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")[
                "repositoriesOrError"
            ].get("nodes"):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(1.0)
    raise AssertionError(log.read_text()[-4000:])


def _backfill(url: str, assets: list[list[str]]) -> None:
    launched = _ask(
        url,
        LAUNCH,
        {"params": {"assetSelection": [{"path": path} for path in assets], "partitionNames": KEYS}},
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        state = _ask(url, STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]
        if state["status"] == "COMPLETED_SUCCESS":
            return
        assert state["status"] in ("REQUESTED", "COMPLETING"), state
        time.sleep(1.0)
    raise AssertionError(f"the backfill did not end: {state}")


@pytest.mark.slow
def test_a_backfill_from_the_ui_writes_the_rows_of_the_command_line(ui: tuple[Home, str], tmp_path: Path) -> None:
    home, url = ui
    _backfill(url, [["pose_library"], ["base", "control_maps"]])
    other = Home(tmp_path / "cli")
    run_main_job(other, _profile(), only=("body_model", "pose_library", "base/control_maps"))
    for table in TABLES:
        assert _rows(home, table) == _rows(other, table)
        assert len(_rows(home, table)) == 6
    summary = run_main_job(home, _profile(), only=("body_model", "pose_library", "base/control_maps"))
    assert all(timing.made == 0 for timing in summary.timings), "the command line takes the backfill's rows as they are"


@pytest.mark.slow
def test_checks_of_a_backfill_are_recorded_for_each_partition(ui: tuple[Home, str]) -> None:
    home, url = ui
    _backfill(url, [["pose_library"]])
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        records = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("pose_library"), "not_null__caption"), limit=10
        )
    partitions = {r.event.asset_check_evaluation.partition for r in records if r.event and r.event.dagster_event}
    assert partitions == set(KEYS)

"""A killed `posedreamer run`: the next one finds whole partitions and a log that knows of the end."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.killed_runs import PROCESS_TAG, is_gone, report_killed_runs, this_process
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore

STAGES_MADE = ("body_model", "pose_library", "base/control_maps")

SCRIPT = """
import os, signal
from pathlib import Path
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.defs.local.test_killed_runs import STAGES_MADE, profile
write = LanceStore.replace_partition
def dies(self, table, key, rows, **more):
    def half(whole=rows):
        yield whole.slice(0, 1).to_batches()[0]
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, table, key, half() if (table, key) == ("control_maps", "procedural-0001") else rows, **more)
LanceStore.replace_partition = dies
run_main_job(Home(Path(os.environ["POSEDREAMER_HOME"])), profile(), only=STAGES_MADE)
"""


def profile() -> Profile:
    return load_profile("pocket", {"poses.batch_size": 2, "poses.batches": 2, "poses.align_batches": 0})


def test_a_process_knows_itself_and_not_one_that_ended() -> None:
    assert not is_gone(this_process())
    host, pid, _ = this_process().rsplit(":", 2)
    assert is_gone(f"{host}:{pid}:1")  # its id was given to a later one
    ended = psutil.Popen([sys.executable, "-c", ""])
    name = f"{host}:{ended.pid}:{ended.create_time():.0f}"
    ended.wait()
    assert is_gone(name)
    assert not is_gone(f"another-host:{pid}:1")


def test_a_step_of_the_clock_makes_no_living_process_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    host, pid, started = this_process().rsplit(":", 2)
    for step_s in (-30.0, -1.0, 1.0, 30.0):
        assert not is_gone(f"{host}:{pid}:{float(started) + step_s:.0f}"), "as it was written before the step"
    before, own = this_process(), psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: own + 1.0)
    assert not is_gone(before), "as psutil computes it from the boot time after the step"


def dead() -> str:
    """The name of a process that has ended."""
    host, _, _ = this_process().rsplit(":", 2)
    ended = psutil.Popen([sys.executable, "-c", ""])
    name = f"{host}:{ended.pid}:{ended.create_time():.0f}"
    ended.wait()
    return name


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTED", "STARTING"])
def test_an_unfinished_run_of_a_dead_process_is_reported_whatever_it_had_come_to(status: str) -> None:
    @dg.job
    def nothing() -> None:
        """A job without steps."""

    with dg.DagsterInstance.ephemeral() as instance:

        def run_of(process: str | None) -> str:
            tags = {PROCESS_TAG: process} if process else {}
            return instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus[status]).run_id

        killed, alive, others = run_of(dead()), run_of(this_process()), run_of(None)
        assert report_killed_runs(instance) == [killed]
        found = {name: instance.get_run_by_id(name) for name in (killed, alive, others)}
        assert {name: run.status.value for name, run in found.items() if run} == {
            killed: "FAILURE",
            alive: status,
            others: status,
        }
        assert report_killed_runs(instance) == []


def test_a_killed_run_is_reported_and_gone_on_with(tmp_path: Path) -> None:
    environment = {**os.environ, "POSEDREAMER_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr[-2000:]
    home = Home(tmp_path)
    stored = LanceStore(str(home.storage)).partitions("control_maps")
    assert {key: info.rows for key, info in stored.items()} == {"procedural-0000": 2}
    running = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        (killed,) = instance.get_runs(running)
        with Runner(home):
            assert instance.get_runs(running) == []
        run = instance.get_run_by_id(killed.run_id)
        assert run is not None and run.status == dg.DagsterRunStatus.FAILURE
    summary = run_main_job(home, profile(), only=STAGES_MADE)
    assert {t.stage: t.made for t in summary.timings} == {"body_model": 0, "pose_library": 0, "base/control_maps": 1}

"""A killed `posedreamer run`: the next one finds whole partitions and a log that knows of the end."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.killed_runs import is_gone, this_process
from posedreamer_assets.defs.local.runner import Runner, run_main_job
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore

STAGES_MADE = ("body_model", "pose_library", "base/control_maps")

SCRIPT = """
import os, signal
from pathlib import Path
from posedreamer_assets.defs.local.runner import run_main_job
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.defs.local.test_killed_runs import STAGES_MADE, profile
write = LanceStore.replace_partition
def dies(self, table, key, rows, **more):
    def half(whole=rows):
        yield whole.slice(0, 1).to_batches()[0]
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, table, key, half() if (table, key) == ("base_control_maps", "procedural-0001") else rows, **more)
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


def test_a_killed_run_is_reported_and_gone_on_with(tmp_path: Path) -> None:
    environment = {**os.environ, "POSEDREAMER_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr[-2000:]
    home = Home(tmp_path)
    stored = LanceStore(str(home.storage)).partitions("base_control_maps")
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

"""Steps in processes of their own: what the multiprocess executor makes, the command line takes as it is."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.runtime.home import Home

pytestmark = pytest.mark.slow

KEY = "procedural-0000"
STEPS = ("pose_library", "pose_library_checks", "base__control_maps", "base_control_maps_checks")
PATIENCE_S = 600


def test_every_step_has_a_process_of_its_own_and_nothing_is_left_to_make(tmp_path: Path) -> None:
    profile = load_profile("pocket", {"poses.batch_size": 2, "poses.batches": 1, "poses.align_batches": 0})
    home = Home(tmp_path)
    run_main_job(home, profile, only=["body_model"])
    environment = {
        **os.environ,
        "POSEDREAMER_HOME": str(home.path),
        "DAGSTER_HOME": str(home.dagster),
        "POSEDREAMER_EXECUTOR": "multiprocess",
    }
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        register(instance, graph_of(profile), [KEY])
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "posedreamer_assets.definitions"]
    chosen = ["--select", "pose_library,base/control_maps", "--partition", KEY]
    done = subprocess.run([*command, *chosen], env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        (run,) = instance.get_runs(limit=1)
        started = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED).records
        ended = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS).records
    pids = {
        e.step_key: e.engine_event_data.metadata["pid"].value
        for record in started
        if (e := record.event_log_entry.dagster_event) is not None
    }
    assert sorted(str(step) for step in pids) == sorted(STEPS)
    assert len(set(pids.values())) == len(STEPS)
    assert sorted(str(record.event_log_entry.step_key) for record in ended) == sorted(STEPS)
    summary = run_main_job(home, profile, only=["body_model", "pose_library", "base/control_maps"])
    assert {t.stage: (t.made, t.up_to_date) for t in summary.timings}["base/control_maps"] == (0, 1)
    assert not any(t.made for t in summary.timings)

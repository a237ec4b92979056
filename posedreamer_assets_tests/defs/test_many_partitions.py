"""Runs of many partitions: models are loaded once, and every partition keeps its own rows, metadata and check results.

The number of partitions of a run is set before definitions are imported, so the run has a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
import dagster as dg
from posedreamer_assets.config import load_profile
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.definitions import defs
from posedreamer_assets.driver import Runner, run_config
from posedreamer_assets.home import Home
from posedreamer_assets.stages import STAGES

home = Home.find()
home.prepare(load_profile("pocket", {"poses.batch_size": 2, "poses.batches": 3, "poses.align_batches": 0}))
keys = [f"procedural-{i:04d}" for i in range(3)]
assets = [dg.AssetKey("pose_library"), dg.AssetKey(["base", "control_maps"])]
job = defs.resolve_implicit_global_asset_job_def()
with Runner(home) as runner:
    runner.execute(STAGES["body_model"], None)
    instance = runner._instance
    register(instance, keys)
    made = []
    for _ in range(2):
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        result = job.execute_in_process(
            instance=instance, asset_selection=assets, tags=tags, run_config=run_config(home), raise_on_error=False
        )
        events = [e for a in assets for e in result.asset_materializations_for_node(a.to_python_identifier())]
        made.append({f"{e.asset_key.to_user_string()}[{e.partition}]": sorted(e.metadata) for e in events})
    check = dg.AssetCheckKey(dg.AssetKey("pose_library"), "not_null__caption")
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit=20)
    events = [r.event.dagster_event for r in history if r.event is not None]
    done = [e.asset_check_evaluation_data for e in events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
    checked = sorted({str(evaluation.partition) for evaluation in done})
print(json.dumps({"success": result.success, "made": made, "checked": checked}))
"""


def test_a_run_of_many_partitions_keeps_them_apart(tmp_path: Path) -> None:
    environment = {**os.environ, "POSEDREAMER_HOME": str(tmp_path), "POSEDREAMER_PARTITIONS_PER_RUN": "3"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    keys = [f"procedural-{i:04d}" for i in range(3)]
    assert found["success"]
    first, again = found["made"]
    assert sorted(first) == sorted(f"{asset}[{key}]" for asset in ("base/control_maps", "pose_library") for key in keys)
    assert all("digest" in names and "thumbnails" in names for place, names in first.items() if "control" in place)
    assert all("skipped" in names for names in again.values())
    assert set(keys) <= set(found["checked"])

"""Three runs of three partitions each, in a process of its own: good, with bad poses in the second one, and mended.

    POSEDREAMER_HOME=... POSEDREAMER_PARTITIONS_PER_RUN=3 python -m posedreamer_assets_tests.defs.many_partitions

prints what Dagster and the store say after each, as JSON.
"""

import json
from typing import Any
from unittest import mock

import dagster as dg
import pyarrow as pa

from posedreamer_assets.cli.status import look
from posedreamer_assets.config import load_profile
from posedreamer_assets.definitions import defs
from posedreamer_assets.defs.local.runner import Runner, run_config
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.pipeline import pose_library as poses
from posedreamer_assets.pipeline.graph import STAGES
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore

KEYS = [f"procedural-{i:04d}" for i in range(3)]
ASSETS = ("pose_library", "base/control_maps", "rendered_scenes")
BAD = KEYS[1]
SIZES = {"poses.batch_size": 2, "poses.batches": 3, "poses.align_batches": 0, "scenes.supersample": 1}


def without_captions(*given: Any) -> pa.Table:
    """The poses that are asked for; those of one batch lack what a check of severity error wants."""
    rows = make_pose_table(*given)
    if BAD not in given:
        return rows
    place = rows.schema.get_field_index("caption")
    return rows.set_column(place, rows.field(place), pa.array([" "] * rows.num_rows))


make_pose_table = poses.make_pose_table


def one_run(home: Home, instance: dg.DagsterInstance) -> dict[str, Any]:
    """A run over all three partitions."""
    keys = [dg.AssetKey(name.split("/")) for name in ASSETS]
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=keys,
        tags={"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]},
        run_config=run_config(home),
        raise_on_error=False,
    )
    events = [e for key in keys for e in result.asset_materializations_for_node(key.to_python_identifier())]
    checks = [
        e.asset_check_evaluation_data
        for record in instance.get_records_for_run(
            result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
        if (e := record.event_log_entry.dagster_event) is not None
    ]
    failed = [c for c in checks if not c.passed and c.severity == dg.AssetCheckSeverity.ERROR]
    store = LanceStore(str(home.storage))
    return {
        "success": result.success,
        "failed_steps": sorted(str(e.step_key) for e in result.all_events if e.event_type_value == "STEP_FAILURE"),
        "metadata": {f"{e.asset_key.to_user_string()}[{e.partition}]": sorted(e.metadata) for e in events},
        "checked": sorted({f"{c.asset_key.to_user_string()}[{c.partition}]" for c in checks if c.partition}),
        "failed": sorted({f"{c.check_name}[{c.partition}]" for c in failed}),
        "status": {s.asset: [s.done, s.stale, s.missing] for s in look(home, store) if s.asset in ASSETS},
        "versions": {
            f"{name}[{key}]": info.input_digest
            for name in ASSETS
            for key, info in store.partitions(STAGES[name].table).items()
        },
    }


def main() -> None:
    """Make the body, then the three runs."""
    home = Home.find()
    home.prepare(load_profile("pocket", SIZES))
    with Runner(home) as runner:
        runner.execute(STAGES["body_model"], None)
        instance = runner._instance
        register(instance, KEYS)
        with mock.patch.object(poses, "make_pose_table", without_captions):
            bad = one_run(home, instance)
        mended = one_run(home, instance)
        again = one_run(home, instance)
    print(json.dumps({"bad": bad, "mended": mended, "again": again}))


if __name__ == "__main__":
    main()

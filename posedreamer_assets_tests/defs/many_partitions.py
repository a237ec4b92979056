"""Four runs over three partitions each, and a second home on the same storage after the first of them.

    POSEDREAMER_HOME=... python -m posedreamer_assets_tests.defs.many_partitions

prints what Dagster and the store say after each, as JSON: with bad poses in the second partition, mended, and once more.
"""

import json
from typing import Any

import dagster as dg

from posedreamer_assets.cli.status import status_of
from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.local.fast_sqlite import unhurried_sqlite
from posedreamer_assets.defs.local.runner import Runner, run_config
from posedreamer_assets.defs.partitions import register
from posedreamer_assets.pipeline import graph
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.runtime.small import captions_lost, small_profile

KEYS = [f"procedural-{i:04d}" for i in range(3)]
ASSETS = ("pose_library", "base/control_maps", "rendered_scenes")
BAD = KEYS[1]
DEFS = build(Deployment(partitions_per_run=3), graph(2))


def one_run(home: Home, instance: dg.DagsterInstance, assets: tuple[str, ...] = ASSETS) -> dict[str, Any]:
    """A run over all three partitions."""
    keys = [dg.AssetKey(name.split("/")) for name in assets]
    with unhurried_sqlite():  # as runs of the command line are: hundreds of events a partition
        result = DEFS.resolve_implicit_global_asset_job_def().execute_in_process(
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
    store = home.store()
    return {
        "success": result.success,
        "failed_steps": sorted(str(e.step_key) for e in result.all_events if e.event_type_value == "STEP_FAILURE"),
        "metadata": {f"{e.asset_key.to_user_string()}[{e.partition}]": sorted(e.metadata) for e in events},
        "checked": sorted({f"{c.asset_key.to_user_string()}[{c.partition}]" for c in checks if c.partition}),
        "failed": sorted({f"{c.check_name}[{c.partition}]" for c in failed}),
        "status": {s.asset: [s.done, s.stale, s.missing] for s in status_of(home, store) if s.asset in ASSETS},
        "versions": {
            f"{name}[{key}]": info.input_digest
            for name in ASSETS
            for key, info in store.partitions(str(graph(2)[name].table)).items()
        },
    }


def a_second_home(first: Home) -> dict[str, Any]:
    """The same run without the poses, by somebody else who works on the first one's storage."""
    home = Home(first.path / "second")
    home.keep_in(first.storage_root)
    home.prepare(first.profile())
    with Runner(home) as runner:
        register(runner.instance, runner.graph, KEYS)
        return one_run(home, runner.instance, ASSETS[1:])


def main(home: Home) -> dict[str, Any]:
    """Make the body, then the runs."""
    home.prepare(small_profile(**{"poses.batches": 3}))
    with Runner(home) as runner:
        runner.execute(runner.graph["body_model"], None)
        instance = runner.instance
        register(instance, runner.graph, KEYS)
        with captions_lost(BAD):
            bad = one_run(home, instance)
        second = a_second_home(home)
        mended = one_run(home, instance)
        again = one_run(home, instance)
    return {"bad": bad, "second": second, "mended": mended, "again": again}


if __name__ == "__main__":
    print(json.dumps(main(Home.find())))

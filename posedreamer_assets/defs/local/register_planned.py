"""Makes the partitions that a home's profile plans known to Dagster, so that the UI of a fresh home can make them."""

from posedreamer_assets.defs.local.killed_runs import report_killed_runs
from posedreamer_assets.defs.partitions import all_groups, register
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.pose_batches import plan_batches
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.runtime.home import Home


def register_planned(home: Home) -> None:
    """Add planned partitions, cut the pose files that they take, and report killed runs as failed."""
    import dagster as dg

    home.try_storage()
    profile = home.profile()
    graph = graph_of(profile)
    with home.lock("pose_files"):
        plan_batches(profile, home.store())
    groups = dict.fromkeys(group for of_set in all_groups(graph) for group in of_set)
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        report_killed_runs(instance)
        register(instance, graph, planned_keys(profile, groups))

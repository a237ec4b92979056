"""The schedule that grows the procedural library by `POSEDREAMER_POSES_PER_DAY` poses at each tick."""

import json
import math
from collections.abc import Iterable

import dagster as dg

from posedreamer_assets.config import Profile
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.partitions import register, set_name
from posedreamer_assets.defs.resources import ProfileResource
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import POSES
from posedreamer_assets.tables.keys import BASE, partition_key, source_of

_SOURCE = "procedural"


def next_keys(profile: Profile, known: Iterable[str], poses: int) -> list[str]:
    """Keys of new procedural batches with that many poses or a few more, after all that are known or planned."""
    taken = [*known, *planned_keys(profile, (BASE,))]
    numbers = [int(key.rpartition("-")[2]) for key in taken if source_of(key) == _SOURCE]
    first = max(numbers, default=-1) + 1
    return [partition_key(_SOURCE, first + i) for i in range(math.ceil(poses / profile.poses.batch_size))]


def keys_of_tick(instance: dg.DagsterInstance, profile: Profile, tick: str, poses: int) -> list[str]:
    """The keys of one tick: chosen once, so that a tick that is evaluated again after a crash gives the same."""
    place = f"posedreamer/growth/{tick}"
    storage = instance.daemon_cursor_storage
    chosen = storage.get_cursor_values({place}).get(place)
    if chosen is None:
        chosen = json.dumps(next_keys(profile, instance.get_dynamic_partitions(set_name(POSES)), poses))
        storage.set_cursor_values({place: chosen})
    return json.loads(chosen)


def growth_schedule(deployment: Deployment) -> dg.ScheduleDefinition:
    """New batches at each tick, each with a run that makes its poses."""
    running = dg.DefaultScheduleStatus.RUNNING if deployment.automation else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        name="growth",
        target=dg.AssetSelection.assets("pose_library"),
        cron_schedule=deployment.growth_cron,
        default_status=running,
        description="Adds procedural pose batches: POSEDREAMER_POSES_PER_DAY poses at each tick.",
    )
    def growth(context: dg.ScheduleEvaluationContext, profile: ProfileResource) -> list[dg.RunRequest] | dg.SkipReason:
        poses, settings = deployment.poses_per_day, profile.get()
        if poses <= 0:
            return dg.SkipReason("POSEDREAMER_POSES_PER_DAY is not set")
        keys = keys_of_tick(context.instance, settings, context.scheduled_execution_time.isoformat(), poses)
        register(context.instance, graph_of(settings), keys)
        return [dg.RunRequest(run_key=key, partition_key=key, tags={"posedreamer/reason": "growth"}) for key in keys]

    return growth

"""The schedule that grows the procedural library by `POSEDREAMER_POSES_PER_DAY` poses at each tick."""

import json
import math
from collections.abc import Iterable

import dagster as dg

from posedreamer_assets.config import Profile
from posedreamer_assets.defs.deployment import deployment
from posedreamer_assets.defs.partitions import POSE_BATCHES, register
from posedreamer_assets.defs.resources import ProfileResource
from posedreamer_assets.pipeline.graph import planned_keys
from posedreamer_assets.tables.fields import partition_key

_SOURCE = "procedural"


def next_keys(profile: Profile, known: Iterable[str], poses: int) -> list[str]:
    """Keys of new procedural batches with that many poses or a few more, after all that are known or planned."""
    taken = [*known, *planned_keys(profile, "base")]
    numbers = [int(key.rpartition("-")[2]) for key in taken if key.rpartition("-")[0] == _SOURCE]
    first = max(numbers, default=-1) + 1
    return [partition_key(_SOURCE, first + i) for i in range(math.ceil(poses / profile.poses.batch_size))]


def keys_of_tick(instance: dg.DagsterInstance, profile: Profile, tick: str, poses: int) -> list[str]:
    """The keys of one tick: chosen once, so that a tick that is evaluated again after a crash gives the same."""
    place = f"posedreamer/growth/{tick}"
    storage = instance.daemon_cursor_storage
    chosen = storage.get_cursor_values({place}).get(place)
    if chosen is None:
        chosen = json.dumps(next_keys(profile, instance.get_dynamic_partitions(str(POSE_BATCHES.name)), poses))
        storage.set_cursor_values({place: chosen})
    return json.loads(chosen)


@dg.schedule(
    name="growth",
    target=dg.AssetSelection.assets("pose_library"),
    cron_schedule=deployment().growth_cron,
    default_status=dg.DefaultScheduleStatus.RUNNING if deployment().automation else dg.DefaultScheduleStatus.STOPPED,
    description="Adds procedural pose batches: POSEDREAMER_POSES_PER_DAY poses at each tick.",
)
def growth(context: dg.ScheduleEvaluationContext, profile: ProfileResource) -> list[dg.RunRequest] | dg.SkipReason:
    """New batches, each with a run that makes its poses."""
    poses = deployment().poses_per_day
    if poses <= 0:
        return dg.SkipReason("POSEDREAMER_POSES_PER_DAY is not set")
    keys = keys_of_tick(context.instance, profile.get(), context.scheduled_execution_time.isoformat(), poses)
    register(context.instance, keys)
    return [dg.RunRequest(run_key=key, partition_key=key, tags={"posedreamer/reason": "growth"}) for key in keys]

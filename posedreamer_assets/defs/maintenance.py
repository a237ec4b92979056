"""Upkeep of the tables as a job, and the schedule that launches it when there is something to do."""

from datetime import timedelta

import dagster as dg

from posedreamer_assets.defs.resources import LanceStoreResource
from posedreamer_assets.runtime.upkeep import remove_superseded, written

MANY_FILES = 20  # to merge, in one table; below that upkeep gains little


class UpkeepConfig(dg.Config):
    """What to maintain and what to keep.

    Attributes:
        tables: empty means all.
        keep_days: younger versions and checkpoints stay, and what is tagged for ever.
        keep_checkpoints: so many superseded checkpoints of each name stay besides those that something names.
    """

    tables: list[str] = []  # noqa: RUF012, a pydantic field
    keep_days: float = 7.0
    keep_checkpoints: int = 2


@dg.op(
    description="Merge small files along partitions, index, delete old versions and superseded checkpoints. Safe beside "
    "running assets."
)
def maintain(context: dg.OpExecutionContext, config: UpkeepConfig, store: LanceStoreResource) -> None:
    from posedreamer_assets.storage import Plan

    opened = store.get()
    plan = Plan(keep=timedelta(days=config.keep_days), checkpoints=config.keep_checkpoints)
    done = [opened.maintain(table, plan) for table in config.tables or written(opened)]
    for upkeep in done:
        context.log.info(
            f"{upkeep.table}: {upkeep.files_before} files -> {upkeep.files_after}, {upkeep.versions_removed} versions and "
            f"{upkeep.bytes_freed / 1e6:.1f} MB removed, {upkeep.postponed} merges left for the next time"
        )
    removed = remove_superseded(opened, plan)
    context.log.info(f"superseded checkpoints removed: {', '.join(removed.folders) or 'none'}")
    context.add_output_metadata(
        {
            "tables": len(done),
            "bytes_freed": sum(u.bytes_freed for u in done) + removed.bytes_freed,
            "files": sum(u.files_after for u in done),
            "checkpoints_removed": len(removed.folders),
            "tags_removed": len(removed.tags),
            "leftovers_removed": removed.leftovers,
        }
    )


@dg.job(description="Upkeep of all tables, see docs/storage.md.", executor_def=dg.in_process_executor)
def storage_maintenance() -> None:
    maintain()


@dg.schedule(job=storage_maintenance, cron_schedule="*/10 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def storage_upkeep(context: dg.ScheduleEvaluationContext, store: LanceStoreResource) -> dg.RunRequest | dg.SkipReason:
    """Every ten minutes, where a table has many files to merge."""
    opened = store.get()
    due = [table for table in written(opened) if sum(map(len, opened.groups_to_merge(table))) >= MANY_FILES]
    if not due:
        return dg.SkipReason(f"no table has {MANY_FILES} files to merge")
    return dg.RunRequest(run_config={"ops": {"maintain": {"config": {"tables": due}}}})

"""`posedreamer status`: what is stored, what is out of date, what failed, and what the checks last said."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs

from posedreamer_assets.checks import checks_folder, load_table_checks
from posedreamer_assets.pipeline.graph import ORDER, Snapshot, Stage, planned_keys
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import SCHEMAS

if TYPE_CHECKING:
    import dagster as dg

    from posedreamer_assets.storage import LanceStore


@dataclass(frozen=True)
class StageStatus:
    """One asset. An unpartitioned one counts as one partition.

    Attributes:
        asset: key, parts joined by "/".
        done: partitions that are stored and up to date.
        stale: stored, but made from other inputs than there are now.
        missing: asked for by the profile or known to Dagster, and not stored.
        failed: whose last run failed.
        rows: stored rows; None for an asset without a table.
        bytes: stored, older versions included.
        checks_passed: last results of its checks, over all partitions.
        checks_failed: names of the checks whose last result is a failure, with how many partitions.
    """

    asset: str
    done: int
    stale: int
    missing: int
    failed: int
    rows: int | None
    bytes: int
    checks_passed: int
    checks_failed: dict[str, int]


def look(home: Home, store: "LanceStore") -> list[StageStatus]:
    """The status of every asset, in the order of the graph."""
    snapshot = Snapshot(home.profile(), store)
    if not (home.dagster / "history").exists():
        return [_status(snapshot, stage, None) for stage in ORDER]
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        return [_status(snapshot, stage, instance) for stage in ORDER]


def _status(snapshot: Snapshot, stage: Stage, instance: "dg.DagsterInstance | None") -> StageStatus:
    keys = _known_keys(snapshot, stage, instance)
    if stage.group is None:
        stored = 1 if snapshot.checkpoint(stage) else 0
        done = 1 if snapshot.is_current(stage) else 0
    else:
        partitions = snapshot.partitions(stage)
        stored, done = len(partitions), len(snapshot.current_keys(stage))
    in_table = snapshot.partitions(stage).values() if stage.table in SCHEMAS else None
    passed, failed_checks = _checks(stage, instance)
    return StageStatus(
        stage.key,
        done=done,
        stale=stored - done,
        missing=max(1, len(keys)) - stored if stage.group is None else len(keys - set(snapshot.partitions(stage))),
        failed=_failed_runs(stage, keys, instance),
        rows=None if in_table is None else sum(info.rows for info in in_table),
        bytes=sum(
            _bytes(f"{snapshot.store.root}/{place}") for place in (f"{stage.table}.lance", f"checkpoints/{stage.table}")
        ),
        checks_passed=passed,
        checks_failed=failed_checks,
    )


def _known_keys(snapshot: Snapshot, stage: Stage, instance: "dg.DagsterInstance | None") -> set[str]:
    if stage.group is None:
        return set()
    keys = {*planned_keys(snapshot.profile, stage.group), *snapshot.partitions(stage)}
    if instance is not None:
        keys |= set(instance.get_dynamic_partitions(f"{stage.group}_batches"))
    return keys


def _failed_runs(stage: Stage, keys: set[str], instance: "dg.DagsterInstance | None") -> int:
    """Partitions whose last attempt ended without rows."""
    if instance is None:
        return 0
    import dagster as dg
    from dagster._core.storage.partition_status_cache import AssetPartitionStatus

    key = dg.AssetKey(stage.key.split("/"))
    if stage.group is None:
        record = next(iter(instance.get_asset_records([key])), None)
        return int(record is not None and record.asset_entry.last_run_id is not None and _has_failed(instance, record))
    definition = dg.DynamicPartitionsDefinition(name=f"{stage.group}_batches")
    statuses = instance.get_status_by_partition(key, sorted(keys), definition) or {}
    return Counter(statuses.values())[AssetPartitionStatus.FAILED]


def _has_failed(instance: "dg.DagsterInstance", record: "dg.AssetRecord") -> bool:
    import dagster as dg

    entry = record.asset_entry
    run = instance.get_run_by_id(str(entry.last_run_id))
    made_by_it = entry.last_materialization is not None and entry.last_materialization.run_id == entry.last_run_id
    return run is not None and run.status == dg.DagsterRunStatus.FAILURE and not made_by_it


def _checks(stage: Stage, instance: "dg.DagsterInstance | None") -> tuple[int, dict[str, int]]:
    """How many last results are passes, and the failed checks with the number of partitions."""
    if instance is None or not (checks_folder() / f"{stage.table}.yml").exists():
        return 0, {}
    import dagster as dg
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

    asset = dg.AssetKey(stage.key.split("/"))
    keys = [dg.AssetCheckKey(asset, check.name) for check in load_table_checks(stage.table).checks]
    infos = instance.event_log_storage.get_asset_check_partition_info(keys)
    infos = [info for info in infos if stage.group is None or info.partition_key is not None]
    statuses = Counter(info.latest_execution_status for info in infos)
    failed = Counter(
        i.check_key.name for i in infos if i.latest_execution_status == AssetCheckExecutionRecordStatus.FAILED
    )
    return statuses[AssetCheckExecutionRecordStatus.SUCCEEDED], dict(sorted(failed.items()))


def _bytes(place: str) -> int:
    """Size of all files below a folder or URI; 0 where there is none."""
    system, path = (
        fs.FileSystem.from_uri(place) if "://" in place else (fs.LocalFileSystem(), str(Path(place).resolve()))
    )
    found = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    return sum(info.size for info in found if info.type == fs.FileType.File)


def as_lines(statuses: Sequence[StageStatus]) -> list[str]:
    """A table for the terminal."""
    lines = [f"{'asset':<24} {'done':>6} {'stale':>6} {'missing':>7} {'failed':>6} {'rows':>9} {'MB':>9}  checks"]
    for s in statuses:
        rows = "" if s.rows is None else str(s.rows)
        failed = ", ".join(f"{name} ({count})" for name, count in s.checks_failed.items())
        checks = f"{s.checks_passed} ok" if s.checks_passed else ""
        checks = "; ".join(filter(None, [checks, f"FAILED: {failed}" if failed else ""]))
        line = f"{s.asset:<24} {s.done:>6} {s.stale:>6} {s.missing:>7} {s.failed:>6} {rows:>9} {s.bytes / 1e6:>9.1f}  {checks}"
        lines.append(line.rstrip())
    return lines

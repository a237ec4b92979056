"""What a home's Dagster knows that the store does not: its partition sets, and attempts that ended without rows.

Importing Dagster takes longer than all of `posedreamer status`. A home's own event log lies in two SQLite files, which are
read as they are; where it is kept elsewhere, or in another layout, Dagster is asked.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from posedreamer_assets.defs.partitions import all_groups, partition_set, set_name
from posedreamer_assets.pipeline import Graph
from posedreamer_assets.runtime.home import Home

if TYPE_CHECKING:
    import dagster as dg

_KEPT_ELSEWHERE = ("storage", "event_log_storage", "run_storage", "local_artifact_storage")
_LATEST = """
    SELECT asset_key, partition, dagster_event_type, MAX(id) FROM event_logs
    WHERE dagster_event_type IN ('ASSET_MATERIALIZATION_PLANNED', 'ASSET_MATERIALIZATION') AND asset_key IS NOT NULL
    GROUP BY asset_key, dagster_event_type, partition
"""


@dataclass(frozen=True)
class DagsterKnows:
    """What an event log says.

    Attributes:
        partitions: by the groups of a partition set, its keys.
        failed: by asset key, the partitions (None: of an asset without any) whose last run failed before it made them.
    """

    partitions: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    failed: dict[str, set[str | None]] = field(default_factory=dict)


def dagster_knows(home: Home, graph: Graph) -> DagsterKnows:
    """What the home's Dagster knows of the graph's assets; nothing where it has never run."""
    settings = home.dagster / "dagster.yaml"
    given = yaml.safe_load(settings.read_text()) if settings.exists() else None
    if any(name in (given or {}) for name in _KEPT_ELSEWHERE):
        return ask_dagster(home, graph)
    if not (home.dagster / "history").exists():
        return DagsterKnows()
    try:
        return read_files(home, graph)
    except sqlite3.Error:
        return ask_dagster(home, graph)


def read_files(home: Home, graph: Graph) -> DagsterKnows:
    """As `dagster_knows`, from Dagster's SQLite files.

    Raises:
        sqlite3.Error: there are none, or their layout is another one.
    """
    history = home.dagster / "history"
    with closing(_open(history / "runs" / "index.db")) as log, closing(_open(history / "runs.db")) as runs:
        sets = {groups: _keys(log, set_name(groups)) for groups in all_groups(graph)}
        failed: dict[str, set[str | None]] = {}
        for asset, partition, event in _without_rows(log):
            (run,) = log.execute("SELECT run_id FROM event_logs WHERE id = ?", (event,)).fetchone()
            if runs.execute("SELECT 1 FROM runs WHERE run_id = ? AND status = 'FAILURE'", (run,)).fetchone():
                failed.setdefault(asset, set()).add(partition)
    return DagsterKnows(sets, failed)


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def _keys(log: sqlite3.Connection, name: str) -> list[str]:
    rows = log.execute("SELECT partition FROM dynamic_partitions WHERE partitions_def_name = ? ORDER BY id", (name,))
    return [key for (key,) in rows]


def _without_rows(log: sqlite3.Connection) -> list[tuple[str, str | None, int]]:
    """Asset, partition and event of each plan to make something that nothing was made after."""
    planned: dict[tuple[str, str | None], int] = {}
    made: dict[tuple[str, str | None], int] = {}
    for asset, partition, kind, event in log.execute(_LATEST):
        (planned if kind.endswith("PLANNED") else made)["/".join(json.loads(asset)), partition] = event
    return [(*at, event) for at, event in planned.items() if event > made.get(at, -1)]


def ask_dagster(home: Home, graph: Graph) -> DagsterKnows:
    """As `dagster_knows`, from Dagster itself."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        sets = {groups: list(instance.get_dynamic_partitions(set_name(groups))) for groups in all_groups(graph)}
        failed = {
            stage.key: _failed_partitions(instance, stage.key, stage.groups, sets[stage.groups])
            if stage.partitioned
            else _failed_whole(instance, stage.key)
            for stage in graph
        }
    return DagsterKnows(sets, {asset: keys for asset, keys in failed.items() if keys})


def _failed_partitions(
    instance: "dg.DagsterInstance", asset: str, groups: tuple[str, ...], keys: list[str]
) -> set[str | None]:
    import dagster as dg
    from dagster._core.storage.partition_status_cache import AssetPartitionStatus

    found = instance.get_status_by_partition(dg.AssetKey(asset.split("/")), keys, partition_set(groups)) or {}
    return {key for key, status in found.items() if status == AssetPartitionStatus.FAILED}


def _failed_whole(instance: "dg.DagsterInstance", asset: str) -> set[str | None]:
    import dagster as dg

    record = next(iter(instance.get_asset_records([dg.AssetKey(asset.split("/"))])), None)
    if record is None or record.asset_entry.last_run_id is None:
        return set()
    entry = record.asset_entry
    run = instance.get_run_by_id(str(entry.last_run_id))
    made = entry.last_materialization is not None and entry.last_materialization.run_id == entry.last_run_id
    return {None} if run is not None and run.status == dg.DagsterRunStatus.FAILURE and not made else set()

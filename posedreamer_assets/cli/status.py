"""`posedreamer status`: what is stored, what is out of date, what failed, and what the checks last said."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs

from posedreamer_assets.cli.dagster_log import DagsterKnows, dagster_knows
from posedreamer_assets.pipeline import Stage
from posedreamer_assets.pipeline.rounds import planned_keys, planned_of
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import NO_ROOM

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore


@dataclass(frozen=True)
class StageStatus:
    """One asset. An unpartitioned one counts as one partition.

    Attributes:
        asset: key, parts joined by "/".
        done: partitions that are stored, up to date and passed their checks.
        stale: stored, but made from other inputs than there are now.
        unchecked: stored and made from the present inputs, but not all of their checks of severity error have been run.
        missing: asked for by the profile or known to Dagster, and not stored.
        failed: whose stored rows failed a check of severity error, or whose last run failed before it made any.
        rows: stored rows; None for an asset without a table.
        bytes: stored, older versions included; those of a table that several assets share are divided by their rows.
        checks_passed: last results of its checks, over all stored partitions.
        checks_failed: names of the checks of severity error whose last result is a failure, with how many partitions.
        checks_warned: the same of those of severity warn.
    """

    asset: str
    done: int
    stale: int
    unchecked: int
    missing: int
    failed: int
    rows: int | None
    bytes: int
    checks_passed: int
    checks_failed: dict[str, int]
    checks_warned: dict[str, int]


def status_of(home: Home, store: "LanceStore") -> list[StageStatus]:
    """The status of every asset, in the order of the graph."""
    snapshot = Snapshot(home.profile(), store)
    log = dagster_knows(home, snapshot.graph)
    sizes = {name: _bytes(place) for name, place in _places(snapshot).items()}
    return [_status(snapshot, stage, log, sizes) for stage in snapshot.graph]


def _status(snapshot: Snapshot, stage: Stage, log: DagsterKnows, sizes: Mapping[str, int]) -> StageStatus:
    stored = _stored(snapshot, stage)
    done = {key for key in stored if snapshot.is_current(stage, key)}
    bad = {key for key in stored if snapshot.failed(stage, key)}
    stale = {key for key in stored if not snapshot.is_fresh(stage, key)}
    known = [found for key in stored if (found := snapshot.known(stage, key))]
    return StageStatus(
        stage.key,
        done=len(done),
        stale=len(stale),
        unchecked=len(stored - done - stale - bad),
        missing=len(_expected(snapshot, stage, log) - stored),
        failed=len(bad | log.failed.get(stage.key, set()) - done),
        rows=sum(one.rows for one in snapshot.partitions(stage).values()) if stage.table else None,
        bytes=_share_of(snapshot, stage, sizes[stage.stored_as]),
        checks_passed=sum(one.checks - len(one.failed) - len(one.warned) for one in known),
        checks_failed=_counted(one.failed for one in known),
        checks_warned=_counted(one.warned for one in known),
    )


def _stored(snapshot: Snapshot, stage: Stage) -> set[str | None]:
    """Keys of what is stored; None stands for the result of a stage without partitions."""
    if stage.partitioned:
        return {*snapshot.partitions(stage)}
    return {None} if snapshot.checkpoint(stage) else set()


def _expected(snapshot: Snapshot, stage: Stage, log: DagsterKnows) -> set[str | None]:
    """Keys that the profile asks for or that Dagster knows."""
    if not stage.partitioned:
        return {None}
    planned = planned_of(snapshot.profile, stage)
    if len(planned) < len(planned_keys(snapshot.profile, stage.groups)):
        return {*planned}
    return {*planned, *log.partitions.get(stage.groups, ())}


def _counted(names: Iterable[Sequence[str]]) -> dict[str, int]:
    return dict(sorted(Counter(name for some in names for name in some).items()))


def _places(snapshot: Snapshot) -> dict[str, str]:
    """Where each table and checkpoint lies."""
    root = snapshot.store.root
    return {
        s.stored_as: f"{root}/{s.table}.lance" if s.table else f"{root}/checkpoints/{s.stored_as}"
        for s in snapshot.graph
    }


def _share_of(snapshot: Snapshot, stage: Stage, size: int) -> int:
    """The stage's part of the size of its table; all of a checkpoint's."""
    if stage.table is None:
        return size
    everything = sum(one.rows for one in snapshot.table(stage.table).values())
    own = sum(one.rows for one in snapshot.partitions(stage).values())
    return size * own // everything if everything else 0


def _bytes(place: str) -> int:
    """Size of all files below a folder or URI; 0 where there is none."""
    system, path = (
        fs.FileSystem.from_uri(place) if "://" in place else (fs.LocalFileSystem(), str(Path(place).resolve()))
    )
    found = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    return sum(info.size for info in found if info.type == fs.FileType.File)


def as_lines(statuses: Sequence[StageStatus]) -> list[str]:
    """A table for the terminal."""
    wide = max([len("asset"), *(len(status.asset) for status in statuses)])
    lines = [f"{'asset':<{wide}} {'done':>6} {'stale':>6} {'missing':>7} {'failed':>6} {'rows':>9} {'MB':>9}  checks"]
    for s in statuses:
        rows = "" if s.rows is None else str(s.rows)
        line = (
            f"{s.asset:<{wide}} {s.done:>6} {s.stale:>6} {s.missing:>7} {s.failed:>6} {rows:>9} {s.bytes / 1e6:>9.1f}"
        )
        lines.append(f"{line}  {_checks_in_words(s)}".rstrip())
    return lines


def pose_file_lines(store: "LanceStore") -> list[str]:
    """How many pose files could not be read, and of how many something was assumed or dropped; nothing where none."""
    lines = []
    kinds = (
        ("quarantine", f"reason != '{NO_ROOM}'", "not readable, whole or in part"),
        ("pose_notes", None, "read with notes"),
    )
    for table, where, what in kinds:
        found = store.read(table, columns=["path"], filter=where, missing_ok=True)
        files = set(found.column("path").to_pylist())
        if files:
            lines.append(f"pose files {what}: {len(files)}; posedreamer view {table}")
    return lines


def _checks_in_words(status: StageStatus) -> str:
    def listed(names: dict[str, int]) -> str:
        return ", ".join(f"{name} ({count})" for name, count in names.items())

    parts = (
        f"{status.checks_passed} ok" if status.checks_passed else "",
        f"not checked: {status.unchecked}" if status.unchecked else "",
        f"FAILED: {listed(status.checks_failed)}" if status.checks_failed else "",
        f"warnings: {listed(status.checks_warned)}" if status.checks_warned else "",
    )
    return "; ".join(filter(None, parts))

"""Upkeep of a table: small files are merged along partitions, columns that select rows are indexed, old versions go.

Every replaced partition is a file and a version. Without upkeep, opening a table and finding a partition take longer
with each of them. All of it is safe beside writers: where a merge and a writer touch the same files, the merge is
refused and left for the next time; files that no version names yet are deleted only when they are a week old.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from lance import LanceDataset
from lance.fragment import LanceFragment

from posedreamer_assets.errors import StorageError
from posedreamer_assets.progress import advance
from posedreamer_assets.storage.failures import explained, is_conflict

_UNBOUNDED_ROWS = 1 << 30
_SCAN_BYTES = 32 << 20  # rows of about this size are held at a time while files are merged
INDEXES: dict[str, Literal["BITMAP", "BTREE"]] = {"partition_key": "BITMAP", "sample_id": "BTREE"}


@dataclass(frozen=True)
class Plan:
    """What upkeep aims at.

    Attributes:
        rows: files are merged up to about this many rows...
        megabytes: ...and this size, whichever comes first.
        dead_share: a file with a larger share of deleted rows is rewritten without them.
        index_from: a table with at least this many rows is indexed.
        keep: versions younger than this stay, and all tagged ones. Readers and writers of that age are safe.
        checkpoints: so many superseded checkpoints of each name stay at least, see `superseded.py`.
        releases: the same of datasets; None keeps all.
    """

    rows: int = 65_536
    megabytes: int = 128
    dead_share: float = 0.2
    index_from: int = 10_000
    keep: timedelta = timedelta(days=7)
    checkpoints: int = 2
    releases: int | None = None


@dataclass(frozen=True)
class Upkeep:
    """What was done to a table.

    Attributes:
        table: its name.
        version: the newest version afterwards.
        files_before: data files of the newest version before...
        files_after: ...and after.
        postponed: groups of files that a writer was busy with.
        indexed: whether the table has indexes.
        versions_removed: number of versions that went.
        bytes_freed: on the disk.
    """

    table: str
    version: int
    files_before: int
    files_after: int
    postponed: int
    indexed: bool
    versions_removed: int
    bytes_freed: int


def maintain(newest: Callable[[], LanceDataset], table: str, plan: Plan) -> Upkeep:
    """Merge, index and clean up one table; reports progress in groups of files.

    Raises:
        StorageError: the storage failed. Every step before stays done.
    """
    dataset = newest()
    before = len(dataset.get_fragments())
    try:
        indexed = _index(newest(), plan)  # first, because covered and uncovered files are not merged
        postponed = _merge(newest, plan)
        stats = newest().cleanup_old_versions(older_than=plan.keep, error_if_tagged_old_versions=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise StorageError(f"table {table!r}, version {dataset.version}: upkeep failed: {explained(error)}") from error
    advance(1)
    after = newest()
    return Upkeep(
        table,
        after.version,
        before,
        len(after.get_fragments()),
        postponed,
        indexed,
        stats.old_versions,
        stats.bytes_removed,
    )


def groups(dataset: LanceDataset, plan: Plan) -> list[list[int]]:
    """Ids of neighbouring fragments that are to become one each.

    Whole fragments are merged, and a partition's rows lie in one fragment, so they still do afterwards: replacing a
    partition touches one fragment, and reading it reads one run of rows.
    """
    found: list[list[int]] = []
    open_group: list[LanceFragment] = []

    def close() -> None:
        if len(open_group) > 1 or any(_dead_share(f) > plan.dead_share for f in open_group):
            found.append([f.fragment_id for f in open_group])
        open_group.clear()

    rows = size = 0
    for fragment in dataset.get_fragments():
        own_rows, own_size = fragment.count_rows(), _bytes(fragment)
        wasteful = _dead_share(fragment) > plan.dead_share
        if not wasteful and (own_rows > plan.rows // 2 or own_size > plan.megabytes << 19):
            close()
            rows = size = 0
            continue
        if rows + own_rows > plan.rows or size + own_size > plan.megabytes << 20:
            close()
            rows = size = 0
        open_group.append(fragment)
        rows, size = rows + own_rows, size + own_size
    close()
    return found


def _merge(newest: Callable[[], LanceDataset], plan: Plan) -> int:
    """Merge group by group, each in its own commit; returns how many were refused."""
    refused = 0
    for group in groups(newest(), plan):
        dataset = newest()
        present = {f.fragment_id: f for f in dataset.get_fragments()}
        if not all(name in present for name in group):
            refused += 1
            continue
        size, rows = (sum(f(present[name]) for name in group) for f in (_bytes, LanceFragment.count_rows))
        try:
            dataset.optimize.compact_files(
                target_rows_per_fragment=_UNBOUNDED_ROWS,  # the group becomes one file, never cut through a partition
                excluded_fragment_ids=[name for name in present if name not in group],
                materialize_deletions_threshold=plan.dead_share,
                batch_size=max(1, min(8192, _SCAN_BYTES * max(1, rows) // max(1, size))),
                num_threads=1,
            )
        except OSError as error:
            if not is_conflict(error):
                raise
            refused += 1
        advance(1)
    return refused


def _index(dataset: LanceDataset, plan: Plan) -> bool:
    """Make the indexes, or have them cover what is new; returns whether there are any."""
    if dataset.count_rows() < plan.index_from:
        return False
    present = {name for index in dataset.describe_indices() for name in index.field_names}
    try:
        for column, kind in INDEXES.items():
            if column not in present:
                dataset.create_scalar_index(column, kind, replace=True)
        if present:
            dataset.optimize.optimize_indices()
    except OSError as error:
        if not is_conflict(error):
            raise
        return bool(present)  # a writer came between; the next time will do
    return True


def _dead_share(fragment: LanceFragment) -> float:
    return fragment.num_deletions / max(1, fragment.physical_rows)


def _bytes(fragment: LanceFragment) -> int:
    return sum(file.file_size_bytes or 0 for file in fragment.metadata.files)

"""`LanceStore`: what everybody uses of the storage.

A partition is replaced in one commit: readers see all its old rows or all its new ones. New data files are written
once, stay invisible until the commit, and are reused when the commit has to be repeated because of a neighbour's.

Lance is not fork-safe: processes that use a store are started with spawn or forkserver.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from lance.fragment import write_fragments

from posedreamer_assets.config import cache_folder
from posedreamer_assets.digests import content_digest
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import columns as table_columns
from posedreamer_assets.storage import damage, probing, tags, upkeep
from posedreamer_assets.storage.arriving import Stamper, check_key, table_schema
from posedreamer_assets.storage.checkpoints import CheckpointFolders
from posedreamer_assets.storage.commits import drop_fragments, replace_rows
from posedreamer_assets.storage.failures import explained
from posedreamer_assets.storage.infos import CheckpointInfo, PartitionInfo
from posedreamer_assets.storage.recorded import TABLE as CHECKPOINTS
from posedreamer_assets.storage.recorded import Recorded, check_name, parsed, record, recorded_key
from posedreamer_assets.storage.stored import StoredTables
from posedreamer_assets.storage.superseded import Reference, Removed, remove_superseded


class LanceStore(StoredTables):
    """Lance tables `<root>/<table>.lance` and checkpoints `<root>/checkpoints/<name>/<digest>-<content>`.

    Args:
        root: a folder, or an object store's URI such as `s3://bucket/prefix`. The store must enforce conditional puts
            (If-None-Match), as Amazon S3, Azure, MinIO and Cloudflare R2 do: without them, commits of several writers are
            lost. `probe` tries it.
        storage_options: credentials and endpoint; environment variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...)
            work as well.
        cache: a folder for copies of checkpoints where `root` is a URI.
    """

    def __init__(
        self, root: str | Path, storage_options: dict[str, str] | None = None, *, cache: str | Path | None = None
    ) -> None:
        super().__init__(root, storage_options)
        remote = self.root if self._tables.remote else None
        local = Path(cache or cache_folder()) if remote else Path(self.root)
        self.checkpoint_folders = CheckpointFolders(local, remote, self.storage_options)

    def probe(self) -> None:
        """Try whether the place keeps what concurrent writers commit; a folder always does.

        Raises:
            StorageError: an object store that ignores conditional puts, or one that cannot be written.
        """
        if self._tables.remote:
            probing.probe(self.root, self.storage_options)

    # Writing

    def replace_partition(
        self, table: str, key: str, rows: pa.Table | Iterable[pa.RecordBatch], *, input_digest: str
    ) -> PartitionInfo:
        """Replace all rows of a partition in one commit.

        Missing nullable columns become null and a missing `partition_key` is filled in; `row_digest` and
        `input_digest` are computed. Batches are streamed: memory holds a few of them, never the partition.
        Zero rows leave the table without the partition. With several writers of one partition, the last commit wins.
        Nullable columns that the stored table lacks are added first, in a commit of their own.

        Raises:
            StorageError: unknown table, bad key, rows that do not fit the table's schema, rows of another partition,
                a sample id given twice, a stored table whose columns cannot be those of this release, or a commit that
                could not be made. The rows are then as they were.
        """
        schema = table_schema(table)
        check_key(table, key)
        dataset = self._tables.open_or_create(table, schema)
        stamper = Stamper(table, key, schema, input_digest)
        reader = pa.RecordBatchReader.from_batches(schema, stamper.stream(rows))
        try:
            fragments = write_fragments(
                reader, dataset, mode="append", max_rows_per_file=1 << 20, storage_options=self.storage_options
            )
        except (OSError, ValueError) as error:
            # Lance reports what the caller's iterator raised as text of an OSError.
            if stamper.failure is not None:
                raise stamper.failure from None
            raise StorageError(
                f"table {table!r}, partition {key!r}: could not write rows: {explained(error)}"
            ) from error
        version = self._replace(table, key, fragments if stamper.digests else [])
        return PartitionInfo(key, len(stamper.digests), input_digest, content_digest(stamper.digests), version)

    def delete_partition(self, table: str, key: str) -> None:
        """Remove all rows of a partition in one commit; nothing happens when there are none.

        Raises:
            StorageError: unknown table, bad key, or a commit that could not be made.
        """
        check_key(table, key)
        if self._tables.open(table) is not None:
            self._replace(table, key, [])

    def _replace(self, table: str, key: str, new: list[Any]) -> int:
        where = f"table {table!r}, partition {key!r}"
        version = replace_rows(lambda: self._tables.must_open(table), where, key, new)
        self._tables.note(table, version)
        return version

    # Upkeep

    def migrate(self, table: str) -> table_columns.Migration:
        """Give a table the columns of this release: add nullable ones with nulls, drop those that it has no longer.

        Nothing that was made from the rows becomes out of date by it. Safe beside writers of this release, and again
        after it was killed.

        Raises:
            StorageError: unknown or missing table, a column whose type changed, or a commit that could not be made.
        """
        return table_columns.migrate(lambda: self._tables.must_open(table), table, table_schema(table))

    def maintain(self, table: str, plan: upkeep.Plan = upkeep.Plan()) -> upkeep.Upkeep:  # noqa: B008, frozen
        """Merge small files along partitions, index, and clean up old versions; safe beside writers and readers.

        Raises:
            StorageError: unknown or missing table, or the storage failed.
        """
        return upkeep.maintain(lambda: self._tables.must_open(table), table, plan)

    def remove_superseded(
        self, plan: upkeep.Plan, references: Sequence[Reference], releases: Collection[str]
    ) -> Removed:
        """Remove checkpoints that nothing names any more, their tags, and what killed writers left.

        Args:
            plan: how many of each name stay, and for how long all do.
            references: columns of tables whose values name checkpoints, which stay for that.
            releases: names of checkpoints that are kept for good, or as many as the plan says.

        Raises:
            StorageError: the storage failed, or a reference to an unknown table or column.
        """
        return remove_superseded(self, self.checkpoint_folders, plan, references, releases, datetime.now(UTC))

    def groups_to_merge(self, table: str, plan: upkeep.Plan = upkeep.Plan()) -> list[list[int]]:  # noqa: B008, frozen
        """Groups of fragments that `maintain` would make into one each; none when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        dataset = self._tables.open(table)
        return [] if dataset is None else upkeep.groups(dataset, plan)

    def verify(self, table: str) -> Iterator[damage.Damage]:
        """Read everything in the newest version and compare it with the digests it was written with.

        Raises:
            StorageError: unknown or missing table.
        """
        return damage.all_damage(self._tables.must_open(table), table_schema(table).names)

    def drop_damaged(self, table: str) -> list[damage.Damage]:
        """Take fragments with damage out of the newest version; their partitions are then missing and can be made again.

        Older versions keep them.

        Raises:
            StorageError: unknown or missing table, or a commit that could not be made.
        """
        found = list(self.verify(table))
        drop_fragments(lambda: self._tables.must_open(table), f"table {table!r}", {d.fragment for d in found})
        return found

    # Checkpoints

    def write_checkpoint(
        self,
        name: str,
        key_digest: str,
        write: Callable[[Path], Mapping[str, Any]],
        *,
        input_digest: str,
        reads: Mapping[str, int] | None = None,
    ) -> CheckpointInfo:
        """Let `write` fill a folder, put it into its place and point table `checkpoints` at it.

        The folder is named after its content and never changes afterwards: whoever loads the checkpoint while a newer
        one is written goes on reading the older files. Writing the same files again reuses the folder.

        Args:
            name: of lower-case letters, digits, `-` and `_`.
            key_digest: digest of everything that determines the checkpoint, of letters, digits, `.`, `-` and `_`.
            write: fills the empty folder that it is given and returns metrics (JSON values).
            input_digest: of the rows that the checkpoint was trained on.
            reads: versions of the tables that it is made from. They are tagged `<name>-<beginning of key_digest>`
                before `write` is called, so that what the checkpoint was made from stays.

        Raises:
            StorageError: bad name or digest, nothing written, a link out of the folder, a disk that is full or must not
                be written, or a failed upload or tag. What else `write` raises goes through. All of them leave the
                former checkpoint in place.
        """
        check_name(name, key_digest)
        for table, version in (reads or {}).items():
            self.tag(table, tags.of_checkpoint(name, key_digest), version)
        made = record(self.checkpoint_folders, name, key_digest, write, input_digest)
        self.replace_partition(CHECKPOINTS, recorded_key(name), made.rows, input_digest=input_digest)
        self.checkpoint_folders.confirm(made.place)
        return self._info(made)

    def checkpoint(self, name: str) -> CheckpointInfo | None:
        """The current checkpoint of that name, or None when there is none.

        Raises:
            StorageError: bad name, its files are gone from a local root, or a row that no checkpoint can have written.
        """
        found = self.read(CHECKPOINTS, [recorded_key(name)], missing_ok=True).to_pylist()
        if not found:
            return None
        made = parsed(name, found)
        if not self._tables.remote:
            self.checkpoint_folders.find(made.place)
        return self._info(made)

    def _info(self, made: Recorded) -> CheckpointInfo:
        find = self.checkpoint_folders.find
        return CheckpointInfo(made.name, made.digest, made.place, made.metrics, made.input_digest, find)

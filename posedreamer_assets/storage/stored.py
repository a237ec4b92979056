"""`StoredTables`: reading tables, and naming their versions."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from lance import LanceDataset

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import tags
from posedreamer_assets.storage.arriving import check_key, table_schema
from posedreamer_assets.storage.infos import PartitionInfo
from posedreamer_assets.storage.listing import Listing
from posedreamer_assets.storage.opening import Tables
from posedreamer_assets.storage.reading import Version, checked_columns

_LISTING = Listing()


class StoredTables:
    """The tables under one root; what `LanceStore` is without writing rows.

    Args:
        root: a folder, or an object store's URI.
        storage_options: credentials and endpoint.
    """

    def __init__(self, root: str | Path, storage_options: dict[str, str] | None = None) -> None:
        self.root = str(root).rstrip("/")
        self._tables = Tables(self.root, storage_options)
        self.storage_options = self._tables.options

    # Reading

    def read(
        self,
        table: str,
        keys: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        *,
        missing_ok: bool = False,
        version: int | str | None = None,
    ) -> pa.Table:
        """Rows ordered by `sample_id`, all from one version of the table.

        Nullable columns that are new in this release are null where that version lacks them.

        Args:
            table: a name in `tables.fields.SCHEMAS`.
            keys: partitions to read; None reads all.
            columns: columns in the order wanted; None returns all, bookkeeping included.
            filter: an SQL condition on columns, for example `oks > 0.8`.
            missing_ok: read a missing table or partition as one without rows.
            version: a version or tag of the table; None reads the newest, 0 is the table before it was first written.

        Raises:
            StorageError: unknown table or column, bad filter, a table or partition that was never written, a column
                whose type is not that of this release, or a damaged file, which is named.
        """
        names = checked_columns(table, table_schema(table), columns)
        opened = self._version(table, version, missing_ok or (keys is not None and not keys), keys)
        if opened is None:
            return _no_rows(table, names)
        check = keys is not None and not missing_ok
        found = opened.read(
            keys, [*names, *(["partition_key"] if check and "partition_key" not in names else [])], filter
        )
        if check:
            opened.check_partitions(keys or (), found.column("partition_key"))
        return found.select(names)

    def batches(
        self,
        table: str,
        keys: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        *,
        missing_ok: bool = False,
        version: int | str | None = None,
        rows: int = 1024,
    ) -> Iterator[pa.Table]:
        """What `read` returns, in the same order (by `sample_id`), in tables of `rows` rows, the last one of fewer.

        All of them are from the version that was the newest when this was called, whatever is written meanwhile. Memory
        holds the rows of one table and about 100 bytes for each sample id. Zero rows give no table.

        Args:
            table, keys, columns, filter, missing_ok, version: as in `read`.
            rows: of each table but the last.

        Raises:
            StorageError: as `read` does; what is wrong with the question is raised at once, damaged files when it is
                their turn.
        """
        names = checked_columns(table, table_schema(table), columns)
        opened = self._version(table, version, missing_ok or (keys is not None and not keys), keys)
        if opened is None:
            return iter(())
        places, found = opened.places(keys, filter)
        if keys is not None and not missing_ok:
            opened.check_partitions(keys, found)
        return (opened.at(places[start : start + rows], names) for start in range(0, len(places), rows))

    def take(
        self,
        table: str,
        ids: Sequence[str],
        columns: Sequence[str] | None = None,
        *,
        missing_ok: bool = False,
        version: int | str | None = None,
    ) -> pa.Table:
        """The rows of these samples, in the order of `ids`; a sample that is named twice is returned twice.

        Args:
            table, columns, version: as in `read`.
            ids: sample ids.
            missing_ok: leave out samples that are not there.

        Raises:
            StorageError: as `read` does, and a sample that is not there, by name.
        """
        names = checked_columns(table, table_schema(table), columns)
        opened = self._version(table, version, missing_ok or not ids, None)
        return _no_rows(table, names) if opened is None else opened.take(ids, names, missing_ok=missing_ok)

    def _version(
        self, table: str, version: int | str | None, missing_ok: bool, keys: Sequence[str] | None
    ) -> Version | None:
        dataset = self._tables.open(table, version)
        if dataset is not None:
            return Version(table, dataset, table_schema(table))
        if missing_ok:
            return None
        asked = f" (asked for partition {keys[0]!r})" if keys else ""
        raise StorageError(f"table {table!r} does not exist under {self.root}{asked}; materialise it first")

    def partitions(self, table: str, *, version: int | str | None = None) -> dict[str, PartitionInfo]:
        """The table's partitions by key, sorted; empty when the table was never written.

        Args:
            table: its name.
            version: as in `read`.

        Raises:
            StorageError: unknown table or version.
        """
        opened = self._version(table, version, True, None)
        return {} if opened is None else opened.partitions(self.uri(table), _LISTING)

    def partition(self, table: str, key: str, *, version: int | str | None = None) -> PartitionInfo | None:
        """One partition, or None when it has no rows.

        Raises:
            StorageError: unknown table or version, or bad key.
        """
        check_key(table, key)
        opened = self._version(table, version, True, None)
        return None if opened is None else opened.partitions_of([key]).get(key)

    # Versions

    def version(self, table: str) -> int | None:
        """The table's newest version; None when it was never written.

        Raises:
            StorageError: unknown table.
        """
        dataset = self._tables.open(table)
        return None if dataset is None else dataset.version

    def tag(self, table: str, name: str, version: int) -> None:
        """Name a version, which keeps it, with all its rows, from being cleaned up. A tag of that name is moved.

        Args:
            table: a table that was written.
            name: of letters, digits, `.`, `-` and `_`.
            version: for example `PartitionInfo.version`.

        Raises:
            StorageError: unknown or missing table, a bad name, or no such version (any more).
        """
        tags.put(self._tables.must_open(table), table, name, version)

    def tags(self, table: str) -> dict[str, int]:
        """Tagged versions by tag; empty when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        dataset = self._tables.open(table)
        return {} if dataset is None else {name: tag["version"] for name, tag in sorted(dataset.tags.list().items())}

    def tag_times(self, table: str) -> dict[str, datetime]:
        """When each tag was last made or moved; empty when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        dataset = self._tables.open(table)
        return {} if dataset is None else tags.times(dataset)

    def untag(self, table: str, name: str) -> None:
        """Remove a tag; the version that it kept may then be cleaned up.

        Raises:
            StorageError: unknown or missing table, or a tag that could not be removed.
        """
        tags.remove(self._tables.must_open(table), table, name)

    # Opening

    def uri(self, table: str) -> str:
        """Where a table lies.

        Raises:
            StorageError: unknown table.
        """
        return self._tables.uri(table)

    def table_at(self, table: str, version: int | str | None = None) -> LanceDataset | None:
        """The Lance table itself at a version or tag, for readers at random; None when it was never written."""
        return self._tables.open(table, version)


def _no_rows(table: str, names: Sequence[str]) -> pa.Table:
    return pa.schema([table_schema(table).field(name) for name in names]).empty_table()

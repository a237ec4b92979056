"""Rows of one version of a table: selected, complete with columns that it lacks, and in the order of their ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance import LanceDataset

from posedreamer_assets.digests import content_digest
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.arriving import check_key
from posedreamer_assets.storage.columns import check_types, condition_on, with_nulls
from posedreamer_assets.storage.damage import named
from posedreamer_assets.storage.failures import explained, is_failure
from posedreamer_assets.storage.infos import PartitionInfo
from posedreamer_assets.storage.listing import COLUMNS, Listing

MOST_IDS = 1000  # that are given to Lance as a condition; for more, the ids of the whole table are looked through


class Version:
    """One version of a table.

    Args:
        table: its name.
        dataset: the version.
        schema: the columns of this release.
    """

    def __init__(self, table: str, dataset: LanceDataset, schema: pa.Schema) -> None:
        self._table = table
        self._dataset = dataset
        self._schema = schema
        self._where = f"table {table!r}, version {dataset.version}"

    # Rows

    def read(self, keys: Sequence[str] | None, names: Sequence[str], condition: str | None) -> pa.Table:
        """Rows of these partitions that meet a condition, by sample id; partitions that are not there are left out."""
        wanted = list(dict.fromkeys([*names, "sample_id"]))
        return self._ordered(self._scan(wanted, _selection(keys, condition))).select(list(names))

    def places(self, keys: Sequence[str] | None, condition: str | None) -> tuple[np.ndarray, pa.ChunkedArray]:
        """Where the same rows lie, in the order of their ids, and the keys of their partitions in any order."""
        selection = _selection(keys, condition)
        found = self._scan(["sample_id", "partition_key"], selection, with_row_address=True)
        all_rows = found if selection is None else self._scan([], None, with_row_address=True)
        scanned = all_rows.column("_rowaddr").to_numpy()
        order = np.argsort(scanned)
        wanted = self._ordered(found.drop_columns("partition_key")).column("_rowaddr").to_numpy()
        return order[np.searchsorted(scanned, wanted, sorter=order)], found.column("partition_key").unique()

    def at(self, places: np.ndarray, names: Sequence[str]) -> pa.Table:
        """Rows at these places in the order of a scan of the whole version."""
        wanted = pa.schema([self._schema.field(name) for name in names])
        stored = self._dataset.schema
        check_types(self._where, stored, wanted)
        present = [name for name in names if name in stored.names] or ["sample_id"]  # one at least tells their number
        try:
            return with_nulls(self._dataset.take(places.tolist(), columns=present), wanted)
        except BaseException as error:
            raise self._failure(error, present, None) from error

    def take(self, ids: Sequence[str], names: Sequence[str], *, missing_ok: bool) -> pa.Table:
        """The rows of these samples, in this order."""
        wanted = list(dict.fromkeys(ids))
        columns = list(dict.fromkeys([*names, "sample_id"]))
        if len(wanted) <= MOST_IDS:
            quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in wanted)
            found = self._scan(columns, f"sample_id IN ({quoted})" if wanted else "false")
        else:
            at = _index(wanted, self._scan(["sample_id"], None).column("sample_id"))
            found = self.at(at.drop_null().to_numpy(), columns)
        found = self._ordered(found)
        at = _index(ids, found.column("sample_id"))
        if at.null_count and not missing_ok:
            missing = next(name for name, place in zip(ids, at.to_pylist(), strict=True) if place is None)
            raise StorageError(f"{self._where}: no sample {missing!r}")
        return found.take(at.drop_null()).select(list(names))

    def check_partitions(self, keys: Sequence[str], found: pa.ChunkedArray) -> None:
        """Raises StorageError unless each partition has rows; `found` are the keys of rows that were read."""
        present = set(found.unique().to_pylist())
        for key in keys:
            check_key(self._table, key)
            # A condition may have left nothing of a partition that is there.
            if key not in present and self._dataset.count_rows(filter=_selection([key], None)) == 0:
                raise StorageError(f"{self._where}: no partition {key!r}; materialise it first")

    def _scan(self, names: Sequence[str], selection: str | None, **more: Any) -> pa.Table:
        wanted = pa.schema([self._schema.field(name) for name in names])
        stored = self._dataset.schema
        check_types(self._where, stored, wanted)
        present = [name for name in names if name in stored.names]
        condition = condition_on(selection, stored, self._schema) if selection else None
        try:
            rows = self._dataset.scanner(columns=present, filter=condition, **more).to_table()
        except BaseException as error:
            raise self._failure(error, present, selection) from error
        extra = [field for field in rows.schema if field.name not in present]
        return with_nulls(rows, pa.schema([*wanted, *extra]))

    def _failure(self, error: BaseException, columns: Sequence[str], selection: str | None) -> BaseException:
        if not is_failure(error):
            return error
        return named(self._where, self._dataset, columns) or StorageError(
            f"{self._where}: could not read where {selection or 'true'}: {explained(error)}"
        )

    def _ordered(self, rows: pa.Table) -> pa.Table:
        """Rows by sample id; replaced partitions move to the end of a Lance scan."""
        ids = rows.column("sample_id").combine_chunks()
        if pc.call_function("any", [pc.call_function("greater", [ids[:-1], ids[1:]])]).as_py():
            rows = rows.sort_by("sample_id")
            ids = rows.column("sample_id").combine_chunks()
        repeated = ids[1:].filter(pc.call_function("equal", [ids[:-1], ids[1:]]))
        if len(repeated):
            name = repeated[0].as_py()
            raise StorageError(
                f"{self._where}, partition {name.rpartition('/')[0]!r}: sample {name!r} is stored twice, which this store "
                "never does; materialise the partition again"
            )
        return rows

    # Partitions

    def partitions(self, uri: str, listing: Listing) -> dict[str, PartitionInfo]:
        """All partitions by key, sorted; what is read of files at `uri` goes into the listing."""
        fragments = self._dataset.get_fragments()
        unknown = listing.unknown(uri, fragments)
        if unknown:
            listing.learn(uri, unknown, self._scan(COLUMNS, None, fragments=unknown, with_row_address=True))
        parts = listing.parts(uri, fragments)
        if parts is None or any(len(own) > 1 for own in parts.values()):
            return self.partitions_of(None)  # more files than are remembered, or rows in several of them
        return {
            key: PartitionInfo(key, part.rows, part.input_digest, part.content, self._dataset.version)
            for key, (part,) in sorted(parts.items())
        }

    def partitions_of(self, keys: Sequence[str] | None) -> dict[str, PartitionInfo]:
        """The same of some partitions, read from their rows."""
        scan = self._scan(COLUMNS, _selection(keys, None))
        rows: dict[str, list[str]] = {}
        inputs: dict[str, str] = {}
        for key, row, made_from in zip(*(c.to_pylist() for c in scan.columns), strict=True):
            rows.setdefault(key, []).append(row)
            inputs[key] = made_from
        return {
            key: PartitionInfo(key, len(rows[key]), inputs[key], content_digest(rows[key]), self._dataset.version)
            for key in sorted(rows)
        }


def checked_columns(table: str, schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    """The columns asked for, or all; raises StorageError where one is unknown."""
    names = schema.names if columns is None else list(columns)
    unknown = [n for n in names if n not in schema.names]
    if unknown:
        raise StorageError(f"table {table!r} has no column {unknown[0]!r}; known: {', '.join(schema.names)}")
    return names


def _index(wanted: Sequence[str], among: pa.ChunkedArray) -> pa.Array:
    """Where each of these lies among others; null where it does not."""
    return pc.call_function("index_in", [pa.array(wanted, pa.string())], pc.SetLookupOptions(among.combine_chunks()))


def _selection(keys: Sequence[str] | None, condition: str | None) -> str | None:
    """SQL for rows of some partitions that meet a condition; None selects all."""
    parts = [f"({condition})"] if condition else []
    if keys is not None:
        quoted = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
        parts.append(f"partition_key IN ({quoted})" if keys else "false")
    return " AND ".join(parts) or None

"""Rows on their way into a table: fitted to its schema, stamped with bookkeeping and digested, a few at a time."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from posedreamer_assets.digests import row_digests
from posedreamer_assets.errors import StorageError
from posedreamer_assets.tables.fields import BOOKKEEPING, SCHEMAS, names_of
from posedreamer_assets.tables.keys import PARTITION_KEY_PATTERN

BATCH_ROWS = 256  # rows that are held at a time while a table is digested and written
BOOKKEEPING_NAMES = names_of(BOOKKEEPING)


def table_schema(table: str) -> pa.Schema:
    """The columns of a stored table: `records.SCHEMAS[table]` and bookkeeping.

    Raises:
        StorageError: no such table.
    """
    if table not in SCHEMAS:
        raise StorageError(f"unknown table {table!r}; known: {', '.join(SCHEMAS)}")
    return pa.schema([*SCHEMAS[table], *(column.field for column in BOOKKEEPING)])


def check_key(table: str, key: str) -> None:
    """Raises StorageError unless the key is one of `records.PARTITION_KEY_PATTERN`."""
    if not PARTITION_KEY_PATTERN.fullmatch(key):
        raise StorageError(
            f"table {table!r}: bad partition key {key!r}; expected <source>-<number of 4 or more digits> "
            "of a-z, 0-9 and '-'"
        )


class Stamper:
    """Streams batches in the table's schema with bookkeeping, and keeps the row digests.

    Attributes:
        digests: of the rows streamed so far.
        failure: what went wrong while streaming.
    """

    def __init__(self, table: str, key: str, schema: pa.Schema, input_digest: str) -> None:
        self._where = f"table {table!r}, partition {key!r}"
        self._key = key
        self._schema = schema
        self._content = pa.schema([f for f in schema if f.name not in BOOKKEEPING_NAMES])
        self._input_digest = input_digest
        self._seen: set[str] = set()
        self.digests: list[str] = []
        self.failure: BaseException | None = None

    def stream(self, rows: pa.Table | Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            for batch in _batches(rows):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield self._stamp(batch.slice(start, BATCH_ROWS))
        except (Exception, KeyboardInterrupt) as error:
            self.failure = error
            raise

    def _stamp(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        content = self._conform(batch)
        self._check_identity(content)
        digests = row_digests(content)
        self.digests += digests
        constant = pa.repeat(pa.scalar(self._input_digest, pa.string()), batch.num_rows)
        return pa.RecordBatch.from_arrays([*content.columns, pa.array(digests), constant], schema=self._schema)

    def _conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        unknown = sorted(set(batch.schema.names) - set(self._schema.names))
        if unknown:
            raise StorageError(f"{self._where}: unknown column {unknown[0]!r}; known: {', '.join(self._content.names)}")
        columns = [self._column(batch, field) for field in self._content]
        return pa.RecordBatch.from_arrays(columns, schema=self._content)

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        if field.name in batch.schema.names:
            column = batch.column(field.name)
        elif field.name == "partition_key":
            column = pa.repeat(pa.scalar(self._key), batch.num_rows)
        else:
            column = pa.nulls(batch.num_rows, field.type)
        try:
            column = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise StorageError(
                f"{self._where}: column {field.name!r} has type {column.type}, expected {field.type}: {error}"
            ) from error
        if not field.nullable and column.null_count:
            raise StorageError(f"{self._where}: column {field.name!r} has {column.null_count} nulls, expected none")
        return column

    def _check_identity(self, batch: pa.RecordBatch) -> None:
        for found in batch.column("partition_key").unique().to_pylist():
            if found != self._key:
                raise StorageError(f"{self._where}: given rows of partition {found!r}")
        for sample in batch.column("sample_id").to_pylist():
            if sample in self._seen:
                raise StorageError(f"{self._where}: sample {sample!r} is given twice")
            self._seen.add(sample)


def _batches(rows: Any) -> Iterable[pa.RecordBatch]:
    return rows.to_batches() if isinstance(rows, pa.Table) else rows

"""Rows in Lance tables, one table per asset, partitions replaced whole. The one module that imports lance.

A partition is replaced in one commit: readers see all its old rows or all its new ones. New data files are written
once, stay invisible until the commit, and are reused when the commit has to be repeated because of a neighbour's.

Lance is not fork-safe: processes that use a store are started with spawn or forkserver.
"""

import json
import random
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance import LanceDataset, LanceOperation
from lance.fragment import FragmentMetadata, write_fragments

from posedreamer_assets.digests import content_digest, folder_digest, row_digests
from posedreamer_assets.errors import StorageError
from posedreamer_assets.records import BOOKKEEPING, PARTITION_KEY_PATTERN, SCHEMAS

BATCH_ROWS = 256  # rows that are held at a time while a table is digested and written
COMMIT_ATTEMPTS = 60
READ_ATTEMPTS = 8
READ_PAUSE_S = 0.1
_BOOKKEEPING_NAMES = tuple(f.name for f in BOOKKEEPING)


@dataclass(frozen=True)
class PartitionInfo:
    """What is known of a partition without reading its content.

    Attributes:
        key: partition key.
        rows: number of rows.
        input_digest: of what the partition was made from.
        content_digest: of the set of its rows, whatever their order.
        version: the table's version in which this was seen.
    """

    key: str
    rows: int
    input_digest: str
    content_digest: str
    version: int


@dataclass(frozen=True)
class CheckpointInfo:
    """A trained model: a folder of files and a row in table `checkpoints`.

    Attributes:
        name: for example `dpo`.
        digest: of what the checkpoint was asked for; the caller's.
        path: the folder with its files.
        metrics: what the training reported.
        input_digest: of the rows it was trained on.
    """

    name: str
    digest: str
    path: Path
    metrics: Mapping[str, Any]
    input_digest: str


class LanceStore:
    """Lance tables `<root>/<table>.lance` and checkpoints `<root>/checkpoints/<name>/<digest>-<content>`.

    Args:
        root: a folder, or an object store's URI such as `s3://bucket/prefix`.
        storage_options: credentials and endpoint for object stores; environment variables work as well.
        checkpoints_root: a local folder for checkpoints, needed where `root` is a URI.
    """

    def __init__(
        self,
        root: str | Path,
        storage_options: dict[str, str] | None = None,
        *,
        checkpoints_root: str | Path | None = None,
    ) -> None:
        self.root = str(root).rstrip("/")
        self.storage_options = storage_options
        self._remote = "://" in self.root
        if checkpoints_root is None and not self._remote:
            checkpoints_root = self.root
        self._checkpoints_root = None if checkpoints_root is None else Path(checkpoints_root)

    # Writing

    def replace_partition(
        self, table: str, key: str, rows: pa.Table | Iterable[pa.RecordBatch], *, input_digest: str
    ) -> PartitionInfo:
        """Replace all rows of a partition in one commit.

        Missing nullable columns become null and a missing `partition_key` is filled in; `row_digest` and
        `input_digest` are computed. Batches are streamed: memory holds a few of them, never the partition.
        Zero rows leave the table without the partition. With several writers of one partition, the last commit wins.

        Raises:
            StorageError: unknown table, bad key, rows that do not fit the table's schema, rows of another partition,
                a sample id given twice, or a commit that could not be made. The table is then as it was.
        """
        schema = table_schema(table)
        _check_key(table, key)
        dataset = self._open_or_create(table, schema)
        stamper = _Stamper(table, key, schema, input_digest)
        reader = pa.RecordBatchReader.from_batches(schema, stamper.stream(rows))
        try:
            fragments = write_fragments(
                reader, dataset, mode="append", max_rows_per_file=1 << 20, storage_options=self.storage_options
            )
        except (OSError, ValueError) as error:
            # Lance reports what the caller's iterator raised as text of an OSError.
            if stamper.failure is not None:
                raise stamper.failure from None
            raise StorageError(f"table {table!r}, partition {key!r}: could not write rows: {error}") from error
        version = self._commit(table, dataset, key, fragments if stamper.digests else [])
        return PartitionInfo(key, len(stamper.digests), input_digest, content_digest(stamper.digests), version)

    def delete_partition(self, table: str, key: str) -> None:
        """Remove all rows of a partition in one commit; nothing happens when there are none.

        Raises:
            StorageError: unknown table, bad key, or a commit that could not be made.
        """
        table_schema(table)
        _check_key(table, key)
        dataset = self._open(table)
        if dataset is not None:
            self._commit(table, dataset, key, [])

    def _commit(self, table: str, dataset: LanceDataset, key: str, new: list[FragmentMetadata]) -> int:
        """Commit `new` in place of the rows of `key`; returns the version.

        Lance refuses a commit that touches fragments which a neighbour has changed meanwhile, and silently rebases any
        other. A rebased commit may hold rows of the same new partition by two writers: as fragment ids grow with
        every commit, each writer then drops the rows of its partition in fragments older than its own. The rule is
        one-sided, so that of any number of writers exactly the last one's rows remain.
        """
        mine = {file.path for fragment in new for file in fragment.files}
        pending = new
        for attempt in range(COMMIT_ATTEMPTS):
            before = _first_fragment(dataset, mine) if not pending else None
            if mine and not pending and before is None:
                return dataset.version  # a later writer has replaced these rows already
            removed, updated = _plan_removal(dataset, key, before)
            if not pending and not removed and not updated:
                return dataset.version
            operation = LanceOperation.Update(
                removed_fragment_ids=removed, updated_fragments=updated, new_fragments=pending
            )
            try:
                committed = LanceDataset.commit(
                    dataset,
                    operation,
                    read_version=dataset.version,
                    commit_message=f"replace {key}",
                    storage_options=self.storage_options,
                )
            except OSError as error:
                if "conflict" not in str(error).lower():
                    raise StorageError(
                        f"table {table!r}, version {dataset.version}, partition {key!r}: commit failed: {error}"
                    ) from error
                # Spreads the retries of competing writers; the outcome does not depend on it.
                time.sleep(random.uniform(0.005, 0.02) * (1 + min(attempt, 10)))
                dataset = self._must_open(table)
                continue
            if committed.version == dataset.version + 1:
                return committed.version
            dataset, pending = committed, []
        raise StorageError(
            f"table {table!r}, version {dataset.version}, partition {key!r}: "
            f"gave up after {COMMIT_ATTEMPTS} conflicting commits of other writers"
        )

    # Reading

    def read(
        self,
        table: str,
        keys: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        *,
        missing_ok: bool = False,
    ) -> pa.Table:
        """Rows ordered by `sample_id`, all from one version of the table.

        Args:
            table: a name in `records.SCHEMAS`.
            keys: partitions to read; None reads all.
            columns: columns in the order wanted; None returns all, bookkeeping included.
            filter: an SQL condition on columns, for example `oks > 0.8`.
            missing_ok: read a missing table or partition as one without rows.

        Raises:
            StorageError: unknown table or column, bad filter, or a table or partition that was never written.
        """
        schema = table_schema(table)
        names = _check_columns(table, schema, columns)
        wanted = list(dict.fromkeys([*names, "sample_id"]))
        for _ in range(READ_ATTEMPTS):
            dataset = self._open(table)
            if dataset is None:
                if missing_ok or (keys is not None and not keys):
                    return pa.schema([schema.field(n) for n in names]).empty_table()
                asked = f" (asked for partition {keys[0]!r})" if keys else ""
                raise StorageError(f"table {table!r} does not exist under {self.root}{asked}; materialise it first")
            if keys is not None and not missing_ok:
                self._check_partitions(table, dataset, keys)
            found = self._scan(table, dataset, wanted, _condition(keys, filter))
            ids = found.column("sample_id").to_pylist()
            repeated = next((i for i, n in Counter(ids).items() if n > 1), None)
            if repeated is None:
                return _ordered(found, ids).select(names)
            # Seen for a moment while several writers make the same new partition; for good if one of them was killed.
            time.sleep(READ_PAUSE_S)
        raise StorageError(
            f"table {table!r}, version {dataset.version}, partition {repeated.rpartition('/')[0]!r}: "
            f"sample {repeated!r} is stored twice by competing writers; materialise the partition again"
        )

    def _scan(self, table: str, dataset: LanceDataset, columns: list[str], condition: str | None) -> pa.Table:
        try:
            return dataset.scanner(columns=columns, filter=condition).to_table()
        except (ValueError, OSError) as error:
            where = f"table {table!r}, version {dataset.version}"
            raise StorageError(f"{where}: could not read where {condition or 'true'}: {error}") from error

    def partitions(self, table: str) -> dict[str, PartitionInfo]:
        """The table's partitions by key, sorted; empty when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        return self._partition_infos(table, None)

    def partition(self, table: str, key: str) -> PartitionInfo | None:
        """One partition, or None when it has no rows.

        Raises:
            StorageError: unknown table or bad key.
        """
        _check_key(table, key)
        return self._partition_infos(table, [key]).get(key)

    def _partition_infos(self, table: str, keys: Sequence[str] | None) -> dict[str, PartitionInfo]:
        table_schema(table)
        dataset = self._open(table)
        if dataset is None:
            return {}
        scan = dataset.scanner(columns=["partition_key", *_BOOKKEEPING_NAMES], filter=_condition(keys, None)).to_table()
        rows: dict[str, list[str]] = {}
        inputs: dict[str, str] = {}
        for key, row, made_from in zip(*(c.to_pylist() for c in scan.columns), strict=True):
            rows.setdefault(key, []).append(row)
            inputs[key] = made_from
        return {
            key: PartitionInfo(key, len(rows[key]), inputs[key], content_digest(rows[key]), dataset.version)
            for key in sorted(rows)
        }

    def _check_partitions(self, table: str, dataset: LanceDataset, keys: Sequence[str]) -> None:
        for key in keys:
            _check_key(table, key)
            if dataset.count_rows(filter=_condition([key], None)) == 0:
                raise StorageError(
                    f"table {table!r}, version {dataset.version}: no partition {key!r}; materialise it first"
                )

    # Upkeep

    def compact(self, table: str, rows_per_file: int = 4096) -> int:
        """Merge small files and return the table's version; worthwhile after every few hundred replaced partitions.

        Safe beside writers: where both touch the same files, this call is the one that fails.

        Raises:
            StorageError: unknown or missing table, or a writer came between.
        """
        table_schema(table)
        dataset = self._must_open(table)
        try:
            dataset.optimize.compact_files(target_rows_per_fragment=rows_per_file)
        except OSError as error:
            raise StorageError(f"table {table!r}, version {dataset.version}: not compacted: {error}") from error
        return dataset.version

    def clean(self, table: str, older_than: timedelta = timedelta(days=7)) -> int:
        """Delete versions older than that with the files that only they use; returns the bytes freed.

        What an interrupted writer left is deleted too once it is seven days old, which no running writer's files are.

        Raises:
            StorageError: unknown or missing table.
        """
        table_schema(table)
        return self._must_open(table).cleanup_old_versions(older_than=older_than).bytes_removed

    # Checkpoints

    def write_checkpoint(
        self, name: str, key_digest: str, write: Callable[[Path], Mapping[str, Any]], *, input_digest: str
    ) -> CheckpointInfo:
        """Let `write` fill a folder, move it into place and point table `checkpoints` at it.

        The folder is named after its content and never changes afterwards: whoever loads the checkpoint while a newer
        one is written goes on reading the older files. Writing the same files again reuses the folder.

        Args:
            name: of lower-case letters, digits, `-` and `_`.
            key_digest: digest of everything that determines the checkpoint.
            write: fills the empty folder that it is given and returns metrics (JSON values).
            input_digest: of the rows that the checkpoint was trained on.

        Raises:
            StorageError: bad name, nothing written, or no folder for checkpoints. What `write` raises goes through,
                and leaves the former checkpoint in place.
        """
        key = _checkpoint_key(name)
        base = self._checkpoints_folder() / name
        base.mkdir(parents=True, exist_ok=True)
        scratch = base / f".writing-{uuid.uuid4().hex}"
        scratch.mkdir()
        try:
            metrics = dict(write(scratch))
            if not any(scratch.iterdir()):
                raise StorageError(f"checkpoint {name!r}: nothing was written into its folder")
            final = base / f"{key_digest}-{folder_digest(scratch)[:12]}"
            _move_into_place(scratch, final)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        row = {
            "sample_id": f"{name}/{key_digest}",
            "partition_key": key,
            "name": name,
            "path": final.relative_to(self._checkpoints_folder().parent).as_posix(),
            "metrics": json.dumps(metrics, sort_keys=True),
        }
        rows = pa.Table.from_pylist([row], schema=SCHEMAS["checkpoints"])
        self.replace_partition("checkpoints", key, rows, input_digest=input_digest)
        return CheckpointInfo(name, key_digest, final, metrics, input_digest)

    def checkpoint(self, name: str) -> CheckpointInfo | None:
        """The current checkpoint of that name, or None when there is none.

        Raises:
            StorageError: bad name, or its files are gone.
        """
        found = self.read("checkpoints", [_checkpoint_key(name)], missing_ok=True).to_pylist()
        if not found:
            return None
        row = found[0]
        path = self._checkpoints_folder().parent / row["path"]
        if not path.is_dir():
            raise StorageError(f"table 'checkpoints', partition {row['partition_key']!r}: its files {path} are gone")
        digest_of_key = row["sample_id"].removeprefix(f"{name}/")
        return CheckpointInfo(name, digest_of_key, path, json.loads(row["metrics"]), row["input_digest"])

    def _checkpoints_folder(self) -> Path:
        if self._checkpoints_root is None:
            raise StorageError(f"storage root {self.root} is not a local folder: set checkpoints_root to one")
        return self._checkpoints_root / "checkpoints"

    # Opening

    def uri(self, table: str) -> str:
        """Where a table lies."""
        return f"{self.root}/{table}.lance"

    def _open(self, table: str) -> LanceDataset | None:
        try:
            return lance.dataset(self.uri(table), storage_options=self.storage_options)
        except ValueError as error:
            # Lance raises ValueError for every failure to open; only this text means that the table is absent.
            if "was not found" in str(error):
                return None
            raise StorageError(f"table {table!r} at {self.uri(table)} could not be opened: {error}") from error

    def _must_open(self, table: str) -> LanceDataset:
        dataset = self._open(table)
        if dataset is None:
            raise StorageError(f"table {table!r} does not exist under {self.root}; materialise it first")
        return dataset

    def _open_or_create(self, table: str, schema: pa.Schema) -> LanceDataset:
        dataset = self._open(table)
        if dataset is None:
            if not self._remote:
                Path(self.root).mkdir(parents=True, exist_ok=True)
            try:
                dataset = lance.write_dataset(
                    [], self.uri(table), schema=schema, mode="create", storage_options=self.storage_options
                )
            except OSError as error:
                # Another writer may have made the table first, which Lance reports in several ways.
                dataset = self._open(table)
                if dataset is None:
                    raise StorageError(f"table {table!r} could not be made at {self.uri(table)}: {error}") from error
        _check_same_schema(table, dataset, schema)
        return dataset


def table_schema(table: str) -> pa.Schema:
    """The columns of a stored table: `records.SCHEMAS[table]` and bookkeeping.

    Raises:
        StorageError: no such table.
    """
    if table not in SCHEMAS:
        raise StorageError(f"unknown table {table!r}; known: {', '.join(SCHEMAS)}")
    return pa.schema([*SCHEMAS[table], *BOOKKEEPING])


class _Stamper:
    """Streams batches in the table's schema with bookkeeping, and keeps the row digests.

    Attributes:
        digests: of the rows streamed so far.
        failure: what went wrong while streaming.
    """

    def __init__(self, table: str, key: str, schema: pa.Schema, input_digest: str) -> None:
        self._where = f"table {table!r}, partition {key!r}"
        self._key = key
        self._schema = schema
        self._content = pa.schema([f for f in schema if f.name not in _BOOKKEEPING_NAMES])
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


def _check_key(table: str, key: str) -> None:
    if not PARTITION_KEY_PATTERN.fullmatch(key):
        raise StorageError(
            f"table {table!r}: bad partition key {key!r}; expected <source>-<number of 4 or more digits> "
            "of a-z, 0-9 and '-'"
        )


def _checkpoint_key(name: str) -> str:
    key = f"checkpoint-{name.replace('_', '-')}-0000"
    if not PARTITION_KEY_PATTERN.fullmatch(key):
        raise StorageError(f"bad checkpoint name {name!r}: expected a-z, 0-9, '-' and '_'")
    return key


def _check_columns(table: str, schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    names = schema.names if columns is None else list(columns)
    unknown = [n for n in names if n not in schema.names]
    if unknown:
        raise StorageError(f"table {table!r} has no column {unknown[0]!r}; known: {', '.join(schema.names)}")
    return names


def _check_same_schema(table: str, dataset: LanceDataset, schema: pa.Schema) -> None:
    if dataset.schema.equals(schema):
        return
    stored, wanted = ({f.name: str(f.type) for f in s} for s in (dataset.schema, schema))
    differing = sorted(n for n in stored.keys() | wanted.keys() if stored.get(n) != wanted.get(n)) or ["(order)"]
    name = differing[0]
    raise StorageError(
        f"table {table!r}, version {dataset.version}: column {name!r} is stored as {stored.get(name)}, this release "
        f"writes {wanted.get(name)}; move {dataset.uri} away and materialise the table again"
    )


def _condition(keys: Sequence[str] | None, condition: str | None) -> str | None:
    """SQL for rows of some partitions that meet a condition; None selects all."""
    parts = [f"({condition})"] if condition else []
    if keys is not None:
        quoted = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
        parts.append(f"partition_key IN ({quoted})" if keys else "false")
    return " AND ".join(parts) or None


def _ordered(rows: pa.Table, ids: list[str]) -> pa.Table:
    """Rows by sample id; replaced partitions move to the end of a Lance scan."""
    return rows if all(a <= b for a, b in pairwise(ids)) else rows.sort_by("sample_id")


def _plan_removal(dataset: LanceDataset, key: str, before: int | None) -> tuple[list[int], list[FragmentMetadata]]:
    """Fragments to drop whole, and fragments with the rows of `key` marked as deleted.

    Args:
        dataset: the version to plan on.
        key: partition key.
        before: look only at fragments of a smaller id; None looks at all.
    """
    condition = f"partition_key = '{key}'"  # keys are checked to be of a-z, 0-9 and -
    addresses = dataset.scanner(columns=[], filter=condition, with_row_address=True).to_table()["_rowaddr"]
    counts = Counter((addresses.to_numpy() >> 32).tolist())  # the upper half of a row address is the fragment id
    removed, updated = [], []
    for fragment_id, rows in sorted(counts.items()):
        if before is not None and fragment_id >= before:
            continue
        fragment = dataset.get_fragment(fragment_id)
        assert fragment is not None  # its rows were just seen in this version
        left = None if rows == fragment.count_rows() else fragment.delete(condition)
        if left is None:
            removed.append(fragment_id)
        else:
            updated.append(left)
    return removed, updated


def _first_fragment(dataset: LanceDataset, paths: set[str]) -> int | None:
    """The smallest id of the fragments that hold any of these data files."""
    ids = [f.fragment_id for f in dataset.get_fragments() if any(d.path in paths for d in f.metadata.files)]
    return min(ids, default=None)


def _move_into_place(scratch: Path, final: Path) -> None:
    """Rename a finished folder; an equal one that is there already stays."""
    try:
        scratch.rename(final)
    except OSError:
        if not final.is_dir():
            raise

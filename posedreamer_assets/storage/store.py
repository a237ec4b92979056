"""`LanceStore`: what everybody uses of the storage.

A partition is replaced in one commit: readers see all its old rows or all its new ones. New data files are written
once, stay invisible until the commit, and are reused when the commit has to be repeated because of a neighbour's.

Lance is not fork-safe: processes that use a store are started with spawn or forkserver.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance import LanceDataset
from lance.file import LanceFileSession
from lance.fragment import write_fragments

from posedreamer_assets.digests import content_digest
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import damage, upkeep
from posedreamer_assets.storage.arriving import Stamper, check_key, table_schema
from posedreamer_assets.storage.checkpoints import CheckpointFolders
from posedreamer_assets.storage.commits import drop_fragments, replace_rows
from posedreamer_assets.storage.listing import COLUMNS, Listing
from posedreamer_assets.storage.superseded import Removed, remove_superseded
from posedreamer_assets.tables.fields import PARTITION_KEY_PATTERN, SCHEMAS

_LISTING = Listing()
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


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
    """A trained model or report: a folder of files and a row in table `checkpoints`.

    Attributes:
        name: for example `dpo`.
        digest: of what the checkpoint was asked for; the caller's.
        place: its folder below the storage root; the last part names the request and the content of the files.
        metrics: what the training reported.
        input_digest: of the rows it was trained on.
    """

    name: str
    digest: str
    place: str
    metrics: Mapping[str, Any]
    input_digest: str
    _find: Callable[[str], Path] = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        """The local folder with its files, fetched from the object store when it is first asked for.

        Raises:
            StorageError: the files are gone or damaged, or cannot be fetched.
        """
        return self._find(self.place)


class LanceStore:
    """Lance tables `<root>/<table>.lance` and checkpoints `<root>/checkpoints/<name>/<digest>-<content>`.

    Args:
        root: a folder, or an object store's URI such as `s3://bucket/prefix`. The store must enforce conditional puts
            (If-None-Match), as Amazon S3, Google Cloud Storage, Azure, MinIO and Cloudflare R2 do: without them,
            commits of several writers are lost.
        storage_options: credentials and endpoint; environment variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...)
            work as well.
        cache: a folder for copies of checkpoints where `root` is a URI.
    """

    def __init__(
        self, root: str | Path, storage_options: dict[str, str] | None = None, *, cache: str | Path | None = None
    ) -> None:
        self.root = str(root).rstrip("/")
        self.storage_options = _with_plain_http(self.root, storage_options)
        self._remote = "://" in self.root
        self._newest = damage.NewestInObjectStore(self.root, self.storage_options) if self._remote else None
        local = Path(cache or _default_cache()) if self._remote else Path(self.root)
        self.checkpoint_folders = CheckpointFolders(local, self.root if self._remote else None, self.storage_options)

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
        check_key(table, key)
        dataset = self._open_or_create(table, schema)
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
            raise StorageError(f"table {table!r}, partition {key!r}: could not write rows: {error}") from error
        version = self._replace(table, key, fragments if stamper.digests else [])
        return PartitionInfo(key, len(stamper.digests), input_digest, content_digest(stamper.digests), version)

    def delete_partition(self, table: str, key: str) -> None:
        """Remove all rows of a partition in one commit; nothing happens when there are none.

        Raises:
            StorageError: unknown table, bad key, or a commit that could not be made.
        """
        table_schema(table)
        check_key(table, key)
        if self._open(table) is not None:
            self._replace(table, key, [])

    def _replace(self, table: str, key: str, new: list[Any]) -> int:
        version = replace_rows(lambda: self._must_open(table), f"table {table!r}, partition {key!r}", key, new)
        if self._newest is not None:
            self._newest.note(table, version)
        return version

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

        Args:
            table: a name in `records.SCHEMAS`.
            keys: partitions to read; None reads all.
            columns: columns in the order wanted; None returns all, bookkeeping included.
            filter: an SQL condition on columns, for example `oks > 0.8`.
            missing_ok: read a missing table or partition as one without rows.
            version: a version or tag of the table; None reads the newest.

        Raises:
            StorageError: unknown table or column, bad filter, a table or partition that was never written, or a
                damaged file, which is named.
        """
        schema = table_schema(table)
        names = _check_columns(table, schema, columns)
        dataset = self._open(table, version)
        if dataset is None:
            if missing_ok or (keys is not None and not keys):
                return pa.schema([schema.field(n) for n in names]).empty_table()
            asked = f" (asked for partition {keys[0]!r})" if keys else ""
            raise StorageError(f"table {table!r} does not exist under {self.root}{asked}; materialise it first")
        wanted = list(dict.fromkeys([*names, "sample_id", "partition_key"]))
        found = self._scan(table, dataset, wanted, _condition(keys, filter))
        if keys is not None and not missing_ok:
            self._check_partitions(table, dataset, keys, set(found.column("partition_key").unique().to_pylist()))
        return _ordered(table, dataset, found).select(names)

    def _scan(
        self, table: str, dataset: LanceDataset, columns: list[str], condition: str | None, **more: Any
    ) -> pa.Table:
        try:
            return dataset.scanner(columns=columns, filter=condition, **more).to_table()
        except BaseException as error:
            if not damage.is_failure(error):
                raise
            where = f"table {table!r}, version {dataset.version}"
            raise damage.named(where, dataset, columns) or StorageError(
                f"{where}: could not read where {condition or 'true'}: {error}"
            ) from error

    def partitions(self, table: str) -> dict[str, PartitionInfo]:
        """The table's partitions by key, sorted; empty when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        table_schema(table)
        dataset = self._open(table)
        return {} if dataset is None else self._listed(table, dataset)

    def partition(self, table: str, key: str) -> PartitionInfo | None:
        """One partition, or None when it has no rows.

        Raises:
            StorageError: unknown table or bad key.
        """
        check_key(table, key)
        table_schema(table)
        dataset = self._open(table)
        return None if dataset is None else self._read_infos(table, dataset, [key]).get(key)

    def _listed(self, table: str, dataset: LanceDataset) -> dict[str, PartitionInfo]:
        fragments = dataset.get_fragments()
        unknown = _LISTING.unknown(self.uri(table), fragments)
        if unknown:
            scan = self._scan(table, dataset, COLUMNS, None, fragments=unknown, with_row_address=True)
            _LISTING.learn(self.uri(table), unknown, scan)
        parts = _LISTING.parts(self.uri(table), fragments)
        if parts is None or any(len(own) > 1 for own in parts.values()):
            return self._read_infos(table, dataset, None)  # more files than are remembered, or rows in several of them
        return {
            key: PartitionInfo(key, part.rows, part.input_digest, part.content, dataset.version)
            for key, (part,) in sorted(parts.items())
        }

    def _read_infos(self, table: str, dataset: LanceDataset, keys: Sequence[str] | None) -> dict[str, PartitionInfo]:
        scan = self._scan(table, dataset, COLUMNS, _condition(keys, None))
        rows: dict[str, list[str]] = {}
        inputs: dict[str, str] = {}
        for key, row, made_from in zip(*(c.to_pylist() for c in scan.columns), strict=True):
            rows.setdefault(key, []).append(row)
            inputs[key] = made_from
        return {
            key: PartitionInfo(key, len(rows[key]), inputs[key], content_digest(rows[key]), dataset.version)
            for key in sorted(rows)
        }

    def _check_partitions(self, table: str, dataset: LanceDataset, keys: Sequence[str], found: set[str]) -> None:
        for key in keys:
            check_key(table, key)
            # A filter may have left nothing of a partition that is there.
            if key not in found and dataset.count_rows(filter=_condition([key], None)) == 0:
                raise StorageError(
                    f"table {table!r}, version {dataset.version}: no partition {key!r}; materialise it first"
                )

    # Versions

    def version(self, table: str) -> int | None:
        """The table's newest version; None when it was never written.

        Raises:
            StorageError: unknown table.
        """
        table_schema(table)
        dataset = self._open(table)
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
        table_schema(table)
        tags = self._must_open(table).tags
        try:
            # Several writers may make the same tag.
            if name not in tags.list():
                tags.create(name, version)
            else:
                tags.update(name, version)
        except (ValueError, OSError) as error:
            if self.tags(table).get(name) != version:
                raise StorageError(
                    f"table {table!r}, version {version}: could not be tagged {name!r}: {error}"
                ) from error

    def tags(self, table: str) -> dict[str, int]:
        """Tagged versions by tag; empty when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        table_schema(table)
        dataset = self._open(table)
        return {} if dataset is None else {name: tag["version"] for name, tag in sorted(dataset.tags.list().items())}

    def tag_times(self, table: str) -> dict[str, datetime]:
        """When each tag was last made or moved; empty when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        table_schema(table)
        dataset = self._open(table)
        tags = {} if dataset is None else dataset.tags.list()
        return {name: max(filter(None, (tag["created_at"], tag["updated_at"]))) for name, tag in tags.items()}

    def untag(self, table: str, name: str) -> None:
        """Remove a tag; the version that it kept may then be cleaned up.

        Raises:
            StorageError: unknown or missing table, or a tag that could not be removed.
        """
        table_schema(table)
        try:
            self._must_open(table).tags.delete(name)
        except (ValueError, OSError) as error:
            raise StorageError(f"table {table!r}: tag {name!r} could not be removed: {error}") from error

    # Upkeep

    def maintain(self, table: str, plan: upkeep.Plan = upkeep.Plan()) -> upkeep.Upkeep:  # noqa: B008, frozen
        """Merge small files along partitions, index, and clean up old versions; safe beside writers and readers.

        Raises:
            StorageError: unknown or missing table, or the storage failed.
        """
        table_schema(table)
        return upkeep.maintain(lambda: self._must_open(table), table, plan)

    def remove_superseded(self, plan: upkeep.Plan = upkeep.Plan()) -> Removed:  # noqa: B008, frozen
        """Remove checkpoints that nothing names any more, their tags, and what killed writers left.

        Raises:
            StorageError: the storage failed.
        """
        return remove_superseded(self, plan, datetime.now(UTC))

    def groups_to_merge(self, table: str, plan: upkeep.Plan = upkeep.Plan()) -> list[list[int]]:  # noqa: B008, frozen
        """Groups of fragments that `maintain` would make into one each; none when the table was never written.

        Raises:
            StorageError: unknown table.
        """
        table_schema(table)
        dataset = self._open(table)
        return [] if dataset is None else upkeep.groups(dataset, plan)

    def verify(self, table: str) -> Iterator[damage.Damage]:
        """Read everything in the newest version and compare it with the digests it was written with.

        Raises:
            StorageError: unknown or missing table.
        """
        table_schema(table)
        return damage.all_damage(self._must_open(table))

    def drop_damaged(self, table: str) -> list[damage.Damage]:
        """Take fragments with damage out of the newest version; their partitions are then missing and can be made again.

        Older versions keep them.

        Raises:
            StorageError: unknown or missing table, or a commit that could not be made.
        """
        found = list(self.verify(table))
        drop_fragments(lambda: self._must_open(table), f"table {table!r}", {d.fragment for d in found})
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
            key_digest: digest of everything that determines the checkpoint.
            write: fills the empty folder that it is given and returns metrics (JSON values).
            input_digest: of the rows that the checkpoint was trained on.
            reads: versions of the tables that it is made from. They are tagged `<name>-<beginning of key_digest>`
                before `write` is called, so that what the checkpoint was made from stays.

        Raises:
            StorageError: bad name, nothing written, or a failed upload or tag. What `write` raises goes through, and
                leaves the former checkpoint in place.
        """
        key = _checkpoint_key(name)
        for table, version in (reads or {}).items():
            self.tag(table, checkpoint_tag(name, key_digest), version)
        with self.checkpoint_folders.scratch(name) as scratch:
            metrics = dict(write(scratch))
            if not any(scratch.iterdir()):
                raise StorageError(f"checkpoint {name!r}: nothing was written into its folder")
            place = self.checkpoint_folders.store(scratch, key_digest)
        row = {
            "sample_id": f"{name}/{key_digest}",
            "partition_key": key,
            "name": name,
            "path": place,
            "metrics": json.dumps(metrics, sort_keys=True),
        }
        rows = pa.Table.from_pylist([row], schema=SCHEMAS["checkpoints"])
        self.replace_partition("checkpoints", key, rows, input_digest=input_digest)
        self.checkpoint_folders.confirm(place)
        return CheckpointInfo(name, key_digest, place, metrics, input_digest, self.checkpoint_folders.find)

    def checkpoint(self, name: str) -> CheckpointInfo | None:
        """The current checkpoint of that name, or None when there is none.

        Raises:
            StorageError: bad name, or its files are gone from a local root.
        """
        found = self.read("checkpoints", [_checkpoint_key(name)], missing_ok=True).to_pylist()
        if not found:
            return None
        row = found[0]
        if not self._remote:
            self.checkpoint_folders.find(row["path"])
        digest_of_key = row["sample_id"].removeprefix(f"{name}/")
        metrics = json.loads(row["metrics"])
        return CheckpointInfo(
            name, digest_of_key, row["path"], metrics, row["input_digest"], self.checkpoint_folders.find
        )

    # Opening

    def uri(self, table: str) -> str:
        """Where a table lies."""
        return f"{self.root}/{table}.lance"

    def table_at(self, table: str, version: int | str | None = None) -> LanceDataset | None:
        """The Lance table itself at a version or tag, for readers at random; None when it was never written."""
        return self._open(table, version)

    def _open(self, table: str, version: int | str | None = None) -> LanceDataset | None:
        written = 0 if self._remote or version is not None else damage.newest_written(Path(self.uri(table)))
        try:
            dataset = self._open_or_none(table, version)
            if dataset is None:
                if version is None and not self._list(table, "data"):
                    return None
                # Only a table that was made has data files. Another writer may have made it just now.
                dataset = lance.dataset(self.uri(table), version, storage_options=self.storage_options)
        except BaseException as error:
            if not damage.is_failure(error):
                raise
            raise self._not_opened(table, version, error) from error
        note = damage.NEWEST_FILE
        if self._newest is not None and version is None:
            note, written = damage.NEWEST_NOTE, self._newest.newer_than(table, dataset.version)
            if written:  # perhaps by somebody who wrote it in this moment
                dataset = lance.dataset(self.uri(table), storage_options=self.storage_options)
        if dataset.version < written:
            raise StorageError(
                f"table {table!r}: version {written} was written, but the newest in _versions is {dataset.version}: a "
                f"manifest is missing. Put it back, or remove {note} to go on with {dataset.version}"
            )
        return dataset

    def _open_or_none(self, table: str, version: int | str | None) -> LanceDataset | None:
        try:
            return lance.dataset(self.uri(table), version, storage_options=self.storage_options)
        except ValueError as error:
            # Lance raises ValueError for every failure to open; only this text means that the table is absent.
            if "was not found" not in str(error):
                raise
            return None

    def _not_opened(self, table: str, version: int | str | None, error: BaseException) -> StorageError:
        """Names the manifest that could not be read, where there is one."""
        found = {damage.manifest_version(name): name for name in self._list(table, "_versions")}
        numbers = [number for number in found if number is not None]
        number = version if version is not None else max(numbers, default=None)
        which = "no version" if number is None else f"version {number!r}"
        file = (
            f", file _versions/{found[number].rpartition('/')[2]}"
            if isinstance(number, int) and number in found
            else ""
        )
        return StorageError(
            f"table {table!r}, {which}{file}: {self.uri(table)} could not be opened: {damage.first_line(error)}"
        )

    def _list(self, table: str, folder: str) -> list[str]:
        """Names of the files in a folder of a table."""
        if not self._remote:
            return [path.name for path in Path(self.uri(table), folder).glob("*")]
        try:
            return LanceFileSession(self.root, storage_options=self.storage_options).list(f"{table}.lance/{folder}")
        except (OSError, RuntimeError) as error:
            raise StorageError(f"table {table!r}: {self.uri(table)} could not be opened: {error}") from error

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
            except (OSError, ValueError) as error:
                # Another writer may have made the table first, which Lance reports in several ways.
                dataset = self._open(table)
                if dataset is None:
                    raise StorageError(f"table {table!r} could not be made at {self.uri(table)}: {error}") from error
        _check_same_schema(table, dataset, schema)
        return dataset


def checkpoint_tag(name: str, key_digest: str) -> str:
    """The tag of what a checkpoint was made from."""
    return f"{name}-{key_digest[:12]}"


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posedreamer"


def _with_plain_http(root: str, options: dict[str, str] | None) -> dict[str, str] | None:
    """Lance refuses an endpoint without TLS unless told; one that is spelt http:// was meant."""
    given = options or {}
    endpoints = (given.get("aws_endpoint"), given.get("endpoint"), *map(os.environ.get, _ENDPOINTS))
    if root.startswith("s3://") and next(filter(None, endpoints), "").startswith("http://"):
        return {"allow_http": "true", **given}
    return options


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


def _ordered(table: str, dataset: LanceDataset, rows: pa.Table) -> pa.Table:
    """Rows by sample id; replaced partitions move to the end of a Lance scan."""
    ids = rows.column("sample_id").to_pylist()
    if any(a > b for a, b in pairwise(ids)):
        rows = rows.sort_by("sample_id")
    repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
    if repeated is not None:
        raise StorageError(
            f"table {table!r}, version {dataset.version}, partition {repeated.rpartition('/')[0]!r}: "
            f"sample {repeated!r} is stored twice, which this store never does; materialise the partition again"
        )
    return rows

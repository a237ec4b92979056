"""Tables as Lance opens them: where they lie, which version, and errors that name the manifest."""

import os
from pathlib import Path

import lance
import pyarrow as pa
from lance import LanceDataset
from lance.file import LanceFileSession

from posedreamer_assets.errors import StorageError
from posedreamer_assets.links import check_link
from posedreamer_assets.storage import newest
from posedreamer_assets.storage.arriving import table_schema
from posedreamer_assets.storage.columns import prepare
from posedreamer_assets.storage.failures import as_storage_errors, explained, first_line, is_failure

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class Tables:
    """The tables under one root.

    Attributes:
        root: a folder, or an object store's URI.
        options: credentials and endpoint.
        remote: whether the root is a URI.
    """

    def __init__(self, root: str, options: dict[str, str] | None) -> None:
        self.root = root
        self.options = _with_plain_http(root, options)
        self.remote = "://" in root
        self._newest = newest.NewestInObjectStore(root, self.options) if self.remote else None

    def uri(self, table: str) -> str:
        """Where a table lies; raises StorageError where there is no table of that name, which may then be a path."""
        table_schema(table)
        return f"{self.root}/{table}.lance"

    def note(self, table: str, version: int) -> None:
        """Say that this version was made."""
        if self._newest is not None:
            self._newest.note(table, version)

    def open(self, table: str, version: int | str | None = None) -> LanceDataset | None:
        """A table at a version or tag; None where it was never written, and at version 0, when it was not yet.

        Raises:
            StorageError: unknown table, one that cannot be opened, no such version, or a lost newest manifest.
        """
        if version == 0:
            return None
        written = 0 if self.remote or version is not None else newest.newest_written(Path(self.uri(table)))
        try:
            dataset = self._open_or_none(table, version)
            if dataset is None:
                if version is None and not self._list(table, "data"):
                    if not self.remote:
                        check_link(Path(self.uri(table)))
                    return None
                # Only a table that was made has data files. Another writer may have made it just now.
                dataset = lance.dataset(self.uri(table), version, storage_options=self.options)
        except BaseException as error:
            if not is_failure(error):
                raise
            raise self._not_opened(table, version, error) from error
        note = newest.NEWEST_FILE
        if self._newest is not None and version is None:
            note, written = newest.NEWEST_NOTE, self._newest.newer_than(table, dataset.version)
            if written:  # perhaps by somebody who wrote it in this moment
                dataset = lance.dataset(self.uri(table), storage_options=self.options)
        if dataset.version < written:
            raise StorageError(
                f"table {table!r}: version {written} was written, but the newest in _versions is {dataset.version}: a "
                f"manifest is missing. Put it back, or remove {note} to go on with {dataset.version}"
            )
        return dataset

    def must_open(self, table: str) -> LanceDataset:
        """The newest version.

        Raises:
            StorageError: also where the table was never written.
        """
        dataset = self.open(table)
        if dataset is None:
            raise StorageError(f"table {table!r} does not exist under {self.root}; materialise it first")
        return dataset

    def open_or_create(self, table: str, schema: pa.Schema) -> LanceDataset:
        """The newest version, made where there is none, with all columns of this release.

        Raises:
            StorageError: the table cannot be made, or cannot take rows of this schema.
        """
        if self.open(table) is None:
            self._create(table, schema)
        return prepare(lambda: self.must_open(table), table, schema)

    def _create(self, table: str, schema: pa.Schema) -> None:
        if not self.remote:
            with as_storage_errors(f"table {table!r}: {self.root} could not be made"):
                Path(self.root).mkdir(parents=True, exist_ok=True)
        try:
            lance.write_dataset([], self.uri(table), schema=schema, mode="create", storage_options=self.options)
        except (OSError, ValueError) as error:
            # Another writer may have made the table first, which Lance reports in several ways.
            if self.open(table) is None:
                raise StorageError(
                    f"table {table!r} could not be made at {self.uri(table)}: {explained(error)}"
                ) from error

    def _open_or_none(self, table: str, version: int | str | None) -> LanceDataset | None:
        try:
            return lance.dataset(self.uri(table), version, storage_options=self.options)
        except ValueError as error:
            # Lance raises ValueError for every failure to open; only this text means that the table is absent.
            if "was not found" not in str(error):
                raise
            return None

    def _not_opened(self, table: str, version: int | str | None, error: BaseException) -> StorageError:
        """Names the manifest that could not be read, where there is one."""
        found = {newest.manifest_version(name): name for name in self._list(table, "_versions")}
        numbers = [number for number in found if number is not None]
        number = version if version is not None else max(numbers, default=None)
        which = "no version" if number is None else f"version {number!r}"
        file = (
            f", file _versions/{found[number].rpartition('/')[2]}"
            if isinstance(number, int) and number in found
            else ""
        )
        return StorageError(
            f"table {table!r}, {which}{file}: {self.uri(table)} could not be opened: {explained(error)}"
        )

    def _list(self, table: str, folder: str) -> list[str]:
        """Names of the files in a folder of a table."""
        if not self.remote:
            return [path.name for path in Path(self.uri(table), folder).glob("*")]
        try:
            return LanceFileSession(self.root, storage_options=self.options).list(f"{table}.lance/{folder}")
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"table {table!r}: {self.uri(table)} could not be opened: {first_line(error)}"
            ) from error


def _with_plain_http(root: str, options: dict[str, str] | None) -> dict[str, str] | None:
    """Lance refuses an endpoint without TLS unless told; one that is spelt http:// was meant."""
    given = options or {}
    endpoints = (given.get("aws_endpoint"), given.get("endpoint"), *map(os.environ.get, _ENDPOINTS))
    if root.startswith("s3://") and next(filter(None, endpoints), "").startswith("http://"):
        return {"allow_http": "true", **given}
    return options

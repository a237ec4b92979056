"""Which file of a table is damaged or missing: asked when a read fails, and by `posedreamer storage verify`."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lance import LanceDataset
from lance.file import LanceFileSession
from lance.fragment import LanceFragment

from posedreamer_assets.digests import row_digests
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.arriving import BOOKKEEPING_NAMES

BATCH_ROWS = 64


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a table.

    Attributes:
        fragment: its id.
        files: data files of the fragment, and its deletion file where it has one.
        what: what was found.
    """

    fragment: int
    files: tuple[str, ...]
    what: str


def is_failure(error: BaseException) -> bool:
    """Whether Lance says that it could not read or write. It has no error class of its own, and its code panics,
    which is no `Exception`, where a file's first bytes are damaged.
    """
    return isinstance(error, (OSError, ValueError, RuntimeError)) or type(error).__name__ == "PanicException"


def first_damage(dataset: LanceDataset, columns: Sequence[str]) -> Damage | None:
    """The first fragment whose columns cannot be read; None when all can."""
    return next(_unreadable(dataset, columns), None)


def named(where: str, dataset: LanceDataset, columns: Sequence[str]) -> StorageError | None:
    """An error that names the first damaged file; None where all can be read."""
    found = first_damage(dataset, columns)
    if found is None:
        return None
    return StorageError(
        f"{where}: {' or '.join(found.files)} is damaged or missing: {found.what}. Put it back, or run `posedreamer "
        "storage verify --drop` and make the partitions that were in it again"
    )


def all_damage(dataset: LanceDataset) -> Iterator[Damage]:
    """Fragments that cannot be read, and rows that are not those that were written, by their stored digests."""
    for fragment in dataset.get_fragments():
        try:
            for batch in fragment.to_batches(batch_size=BATCH_ROWS):
                found = row_digests(batch, skip=BOOKKEEPING_NAMES)
                stored = batch.column("row_digest").to_pylist()
                names = batch.column("sample_id").to_pylist()
                for name, a, b in zip(names, found, stored, strict=True):
                    if a != b:
                        found_and_written = f"row {name!r} has the digest {a}, it was written with {b}"
                        yield Damage(fragment.fragment_id, files_of(fragment), found_and_written)
        except BaseException as error:
            if not is_failure(error):
                raise
            yield _damage(fragment, error)


def _unreadable(dataset: LanceDataset, columns: Sequence[str]) -> Iterator[Damage]:
    for fragment in dataset.get_fragments():
        try:
            for _ in fragment.to_batches(columns=list(columns), batch_size=BATCH_ROWS):
                continue
        except BaseException as error:
            if not is_failure(error):
                raise
            yield _damage(fragment, error)


def _damage(fragment: LanceFragment, error: BaseException) -> Damage:
    files = files_of(fragment)
    named = tuple(file for file in files if file in str(error))
    return Damage(fragment.fragment_id, named or files, first_line(error))


def files_of(fragment: LanceFragment) -> tuple[str, ...]:
    """A fragment's files, relative to the table."""
    files = [f"data/{file.path}" for file in fragment.metadata.files]
    deletions = fragment.deletion_file()
    return (*files, str(deletions)) if deletions else tuple(files)


def first_line(error: BaseException) -> str:
    """The beginning of a message of Lance, whose later lines are a trace of its own code."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


NEWEST_FILE = "_versions/latest_version_hint.json"
NEWEST_NOTE = "posedreamer_newest"


def newest_written(table: Path) -> int:
    """The newest version that a table in a local folder had, as Lance notes it down; 0 where it did not."""
    try:
        return int(json.loads((table / NEWEST_FILE).read_text())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # only a note: object stores have none, and a killed writer may not have come to it


class NewestInObjectStore:
    """The newest version of each table in an object store, noted down beside it: there Lance leaves no note of its own.

    Written after each replaced partition and read when a process meets a version for the first time. The last of several
    writers may note an older version than the newest, never a newer one.
    """

    _DIGITS = 20

    def __init__(self, root: str, options: dict[str, str] | None) -> None:
        self._root = root
        self._options = options
        self._met: dict[str, int] = {}

    def note(self, table: str, version: int) -> None:
        """Write the version down; a failure leaves the former note."""
        with suppress(OSError, RuntimeError), tempfile.NamedTemporaryFile("w") as file:
            file.write(f"{version:0{self._DIGITS}d}")
            file.flush()
            self._session().upload_file(file.name, f"{table}.lance/{NEWEST_NOTE}")

    def newer_than(self, table: str, version: int) -> int:
        """A version newer than this one that the table had; 0 where none is known."""
        if self._met.get(table) == version:
            return 0
        try:
            noted = int(self._session().read_range(f"{table}.lance/{NEWEST_NOTE}", 0, self._DIGITS))
        except (OSError, RuntimeError, ValueError):
            noted = 0  # never noted, or by nobody who could
        if noted <= version:
            self._met[table] = version
            return 0
        return noted

    def _session(self) -> LanceFileSession:
        return LanceFileSession(self._root, storage_options=self._options)


def manifest_version(name: str) -> int | None:
    """The version of a file in `_versions`, whose names count down so that the newest is listed first."""
    stem, _, suffix = name.rpartition("/")[2].partition(".")
    if suffix != "manifest" or not stem.isdigit():
        return None
    return (1 << 64) - 1 - int(stem) if len(stem) == 20 else int(stem)

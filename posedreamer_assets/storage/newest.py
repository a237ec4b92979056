"""The newest version that each table had: a lost manifest is noticed, instead of older rows being read."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

from lance.file import LanceFileSession

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

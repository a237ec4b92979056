"""What an export's folder remembers of each shard, and the checksums of all that was written.

`.shards/<name>.json` holds the digest of what a shard is made of and the checksum of every file that it wrote; it is
written last, so a shard without one is not complete.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from posedreamer_assets import progress
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.plan import Planned, check_names

RECORDS = ".shards"
MANIFEST = "export.json"
CHECKSUMS = "SHA256SUMS"
_MARKER = "format"


@dataclass(frozen=True)
class File:
    """A file that was written: path relative to the export's folder, size and checksum."""

    path: str
    bytes: int
    sha256: str


def damaged_files(folder: Path) -> dict[str, str]:
    """Files of a finished export that are missing or are not what was written, and what is wrong with each.

    The next export into the folder writes the shards again that they belong to.

    Raises:
        ExportError: no finished export there, or a list that names files outside of it.
    """
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except FileNotFoundError as error:
        raise ExportError(f"{folder}: no {CHECKSUMS}; it holds no finished export") from error
    wrong = {}
    for line in progress.track(lines):
        expected, _, name = line.partition("  ")
        check_names(f"{folder / CHECKSUMS}", [name])
        if not (folder / name).is_file():
            wrong[name] = "missing"
        elif sha256(folder / name) != expected:
            wrong[name] = "changed"
    return wrong


def check_folder(folder: Path, form: str, splits: Sequence[str]) -> None:
    """Whether an export in this format may write here; changes nothing.

    Args:
        folder: absent, empty, or of an export in the same format.
        form: name of the format.
        splits: that were asked for; empty for all.

    Raises:
        ExportError: it holds something else, or splits that were not asked for and would be removed.
    """
    marker = folder / RECORDS / _MARKER
    if not marker.is_file():
        if folder.exists() and (not folder.is_dir() or any(p.name != RECORDS for p in folder.iterdir())):
            raise ExportError(f"{folder}: holds files that are no export; give an empty folder")
        return
    if (found := marker.read_text()) != form:
        raise ExportError(f"{folder}: holds an export in format {found!r}; give another folder for {form!r}")
    held = {record["split"] for _, record in _records(folder)}
    if splits and (others := sorted(held - set(splits))):
        raise ExportError(
            f"{folder}: holds split {', '.join(others)} too, which this would remove; name all of them "
            f"({' '.join(f'--split {name}' for name in sorted(held | set(splits)))}) or give another folder"
        )


@contextmanager
def writing(folder: Path, form: str) -> Iterator[None]:
    """Keep other processes out while this one writes; a folder that was made for nothing goes again.

    Raises:
        ExportError: another process is exporting there.
    """
    records = folder / RECORDS
    made = [p for p in (records, folder, *folder.parents) if not p.exists()]
    records.mkdir(parents=True, exist_ok=True)
    with (records / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"{folder}: another process is exporting there") from error
        replace_text(records / _MARKER, form)
        try:
            yield
        except ExportError:
            if not any(records.glob("*.json")):
                _forget(folder, made)
            raise


def _forget(folder: Path, made: list[Path]) -> None:
    """Remove what `writing` made in a folder where no shard was finished; files of others stay."""
    for name in (_MARKER, "lock"):
        (folder / RECORDS / name).unlink(missing_ok=True)
    emptied = [path for path in folder.rglob("*") if path.is_dir()]
    for path in [*sorted(emptied, reverse=True), *made]:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def remove_files(folder: Path, files: Sequence[str]) -> None:
    """Remove files and the folders that they leave empty."""
    for name in files:
        path = folder / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == folder or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()


def complete(folder: Path, planned: Planned) -> list[File] | None:
    """The files of a shard that needs no more work, all of them read and found to be what was written, or None."""
    record = _record(folder / RECORDS / f"{planned.name}.json")
    if record is None or record["digest"] != planned.digest:
        return None
    files = [File(**entry) for entry in record["files"]]
    return files if all(_is_whole(folder / f.path, f) for f in files) else None


def _is_whole(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and sha256(path) == file.sha256


def write_record(folder: Path, planned: Planned, files: list[File]) -> None:
    """The record of a shard; what its former self wrote stays named there until it has been removed."""
    path = folder / RECORDS / f"{planned.name}.json"
    before = _record(path) or {"files": [], "former": []}
    named = {entry["path"] for entry in before["files"]} | set(before["former"])
    former = sorted(named - {f.path for f in files})
    record = {"digest": planned.digest, "split": planned.split, "samples": planned.samples}
    replace_text(path, json.dumps({**record, "files": [asdict(f) for f in files], "former": former}))


def remove_stale(folder: Path, names: set[str], kept: set[str]) -> None:
    """Remove what earlier exports into this folder wrote and the present one has no more."""
    for path, record in _records(folder):
        written = {entry["path"] for entry in record["files"]} | set(record["former"])
        remove_files(folder, sorted(written - kept))
        if path.stem not in names:
            path.unlink()
        elif record["former"]:
            replace_text(path, json.dumps({**record, "former": []}))


def _records(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = ((path, _record(path)) for path in sorted((folder / RECORDS).glob("*.json")))
    return [(path, record) for path, record in found if record is not None]


def _record(path: Path) -> dict[str, Any] | None:
    """A shard's record; None where it was never written, or is torn: the shard is written again.

    Raises:
        ExportError: it names a file outside of the export: somebody else wrote it.
    """
    try:
        record = json.loads(path.read_text())
        record.setdefault("split", path.stem.rpartition("-")[0])  # of exports before splits were recorded
        names = [*(entry["path"] for entry in record["files"]), *record["former"], record["split"]]
    except (FileNotFoundError, json.JSONDecodeError, AttributeError, KeyError, TypeError):
        return None
    check_names(str(path), map(str, names))
    return record


def replace_text(path: Path, text: str) -> None:
    """Write a text in one step."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

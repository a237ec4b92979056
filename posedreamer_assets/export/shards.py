"""The engine of an export: shards that are written once, resumed, checked and listed.

A shard is a run of samples of one split. What it is made of (format, options, rows by digest) has a digest, kept in
`.shards/<name>.json` with the checksum of every file that the shard wrote; that record is written last. Running an
export again does only the shards whose record is missing or tells of something else, and removes files that no shard
has any more. `SHA256SUMS` is checked with `sha256sum -c SHA256SUMS`.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from posedreamer_assets import progress
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.samples import Rig, Samples
from posedreamer_assets.export.source import Reader
from posedreamer_assets.export.subject import Subject

RECORDS = ".shards"
MANIFEST = "export.json"
CHECKSUMS = "SHA256SUMS"
# Raised by hand when the same rows give other files.
_VERSION = 1


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    Attributes:
        shard_size: samples of a shard; None takes the format's own.
        splits: which splits to write; empty writes all.
        pickles: write what only Python's pickle can read, where the format's own readers want that.
    """

    shard_size: int | None = None
    splits: tuple[str, ...] = ()
    pickles: bool = False


@dataclass(frozen=True)
class File:
    """A file that was written: path relative to the export's folder, size and checksum."""

    path: str
    bytes: int
    sha256: str


@dataclass
class Shard:
    """A shard that is being written.

    Attributes:
        name: for example `train-00000`.
        split: of its samples.
        first: number of its first sample, counted over the whole export.
        folder: of the export.
        options: of the export.
        subject: the body that the labels belong to.
        files: written so far.
    """

    name: str
    split: str
    first: int
    folder: Path
    options: Options
    subject: Subject
    files: list[File] = field(default_factory=list)

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """A temporary path to write to; the file takes its place when it is complete."""
        final = self.folder / path
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.partial")
        try:
            yield partial
            self.files.append(File(path, partial.stat().st_size, _sha256(partial)))
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)

    def put(self, path: str, data: bytes) -> None:
        """Write a whole file."""
        with self.file(path) as partial:
            partial.write_bytes(data)

    def put_images(self, samples: Samples) -> list[str]:
        """Write the images, as they are stored, under `images/`; returns their paths relative to that folder."""
        for name, image in zip(samples.image_names, samples.images, strict=True):
            self.put(f"images/{name}", image)
        return samples.image_names


@dataclass(frozen=True)
class Format:
    """One way to write a dataset.

    Attributes:
        name: on the command line.
        title: in the card.
        shard_size: samples of a shard where none is asked for.
        write: writes the files of one shard.
        reads_pickles: whether the format's own readers need `Options.pickles`.
    """

    name: str
    title: str
    shard_size: int
    write: Callable[[Iterable[Samples], Shard], None]
    reads_pickles: bool = False


@dataclass(frozen=True)
class Planned:
    """A shard before it is written: name, split, number of the first sample, sample ids, and digest of the content."""

    name: str
    split: str
    first: int
    ids: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Result:
    """What an export did: samples and files in all, shards written now and found complete, and the rows' index."""

    samples: int
    written: int
    complete: int
    files: tuple[File, ...]
    index: pa.Table


def export(
    reader: Reader,
    subject: Subject,
    form: Format,
    folder: Path,
    options: Options = Options(),
) -> Result:
    """Write the dataset in a format, or finish an export that was interrupted.

    Args:
        reader: the rows; one shard's batches are streamed at a time.
        subject: the body that the labels belong to.
        form: the format.
        folder: where to; it is empty, or holds an export in the same format.
        options: what the user chose.

    Raises:
        ExportError: the folder holds something else, there is nothing to write, or rows that the format cannot hold.
    """
    _check_folder(folder, form)
    index = _chosen(reader.index(), options)
    plan = _plan(index, form, options, subject)
    rig = Rig(subject.body)
    written, files = 0, []
    with _alone(folder):
        for name in (MANIFEST, CHECKSUMS):  # of the former export; they come back when this one is finished
            (folder / name).unlink(missing_ok=True)
        for planned in plan:
            done = _complete(folder, planned)
            if done is None:
                shard = Shard(planned.name, planned.split, planned.first, folder, options, subject)
                form.write(_samples(reader, planned, rig), shard)
                done = shard.files
                _write_record(folder / RECORDS / f"{planned.name}.json", planned, done)
                written += 1
            else:
                progress.advance(len(planned.ids))
            files += done
        _remove_stale(folder, {p.name for p in plan}, {f.path for f in files})
    return Result(index.num_rows, written, len(plan) - written, tuple(files), index)


def finish(folder: Path, form: Format, result: Result, options: Options, texts: dict[str, str]) -> None:
    """Write the texts that describe the export, the list of checksums and, last, the manifest."""
    described = []
    for name, text in texts.items():
        _replace_text(folder / name, text)
        described.append(File(name, (folder / name).stat().st_size, _sha256(folder / name)))
    lines = [f"{f.sha256}  {f.path}\n" for f in sorted((*result.files, *described), key=lambda f: f.path)]
    _replace_text(folder / CHECKSUMS, "".join(lines))
    manifest = {"format": form.name, "samples": result.samples, "files": len(result.files), "options": asdict(options)}
    _replace_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def damaged_files(folder: Path) -> dict[str, str]:
    """Files of a finished export that are missing or are not what was written, and what is wrong with each.

    The next export into the folder writes the shards again that they belong to.

    Raises:
        ExportError: no finished export there.
    """
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except FileNotFoundError as error:
        raise ExportError(f"{folder}: no {CHECKSUMS}; it holds no finished export") from error
    wrong = {}
    for line in progress.track(lines):
        expected, _, name = line.partition("  ")
        if not (folder / name).is_file():
            wrong[name] = "missing"
        elif _sha256(folder / name) != expected:
            wrong[name] = "changed"
    for path in (folder / RECORDS).glob("*.json"):
        record = _record(path)
        if record is not None and any(entry["path"] in wrong for entry in record["files"]):
            _replace_text(path, json.dumps({**record, "digest": ""}))
    return wrong


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out while this one writes; the lock goes with the process.

    Raises:
        ExportError: another process is exporting there.
    """
    with (folder / RECORDS / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"{folder}: another process is exporting there") from error
        yield


def _check_folder(folder: Path, form: Format) -> None:
    marker = folder / RECORDS / "format"
    if marker.is_file():
        found = marker.read_text()
        if found != form.name:
            raise ExportError(f"{folder}: holds an export in format {found!r}; give another folder for {form.name!r}")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ExportError(f"{folder}: holds files that are no export; give an empty folder")
    marker.parent.mkdir(parents=True, exist_ok=True)
    _replace_text(marker, form.name)


def _chosen(index: pa.Table, options: Options) -> pa.Table:
    splits = [value or "unsplit" for value in index.column("split").to_pylist()]
    missing = [name for name in options.splits if name not in splits]
    if missing or not splits:
        raise ExportError(f"no rows of split {missing[0]!r}" if missing else "the table 'dataset' has no rows")
    index = index.set_column(index.column_names.index("split"), "split", pa.array(splits, pa.string()))
    return index.filter(pa.array([s in options.splits for s in splits])) if options.splits else index


def _plan(index: pa.Table, form: Format, options: Options, subject: Subject) -> list[Planned]:
    size = options.shard_size or form.shard_size
    rows: dict[str, list[tuple[str, str]]] = {}
    for name, split, row in zip(
        *(index.column(c).to_pylist() for c in ("sample_id", "split", "row_digest")), strict=True
    ):
        rows.setdefault(split, []).append((name, row))
    plan, first = [], 0
    made_by = {"format": form.name, "version": _VERSION, "options": asdict(options), "subject": subject.digest}
    for split in sorted(rows):
        for number, start in enumerate(range(0, len(rows[split]), size)):
            some = rows[split][start : start + size]
            content = digest({**made_by, "split": split, "first": first, "rows": some})
            plan.append(Planned(f"{split}-{number:05d}", split, first, tuple(name for name, _ in some), content))
            first += len(some)
    return plan


def _samples(reader: Reader, planned: Planned, rig: Rig) -> Iterator[Samples]:
    """The shard's rows a few at a time.

    Raises:
        ExportError: the reader gave other rows than were asked for.
    """
    expected = iter(planned.ids)
    for batch in reader.batches(planned.ids):
        samples = Samples(pa.Table.from_batches([batch]), rig)
        for name in samples.ids:
            wanted = next(expected, None)
            if name != wanted:
                raise ExportError(f"shard {planned.name!r}: got sample {name!r}, expected {wanted!r}")
        yield samples
        progress.advance(len(samples))
    missing = next(expected, None)
    if missing is not None:
        raise ExportError(f"shard {planned.name!r}: no sample {missing!r}")


def _complete(folder: Path, planned: Planned) -> list[File] | None:
    """The files of a shard that needs no more work, or None."""
    record = _record(folder / RECORDS / f"{planned.name}.json")
    if record is None or record["digest"] != planned.digest:
        return None
    files = [File(**entry) for entry in record["files"]]
    sizes = ((folder / f.path).stat().st_size if (folder / f.path).is_file() else -1 for f in files)
    return files if all(f.bytes == size for f, size in zip(files, sizes, strict=True)) else None


def _record(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None  # never written, or torn: the shard is written again


def _write_record(path: Path, planned: Planned, files: list[File]) -> None:
    """The record of a shard; what its former self wrote stays named there until it has been removed."""
    before = _record(path) or {"files": [], "former": []}
    named = {entry["path"] for entry in before["files"]} | set(before["former"])
    former = sorted(named - {f.path for f in files})
    record = {"digest": planned.digest, "samples": len(planned.ids), "files": [asdict(f) for f in files]}
    _replace_text(path, json.dumps({**record, "former": former}))


def _remove_stale(folder: Path, names: set[str], kept: set[str]) -> None:
    """Remove what earlier exports into this folder wrote and the present one has no more."""
    for path in (folder / RECORDS).glob("*.json"):
        record = _record(path)
        if record is None:
            continue
        for name in {entry["path"] for entry in record["files"]} | set(record["former"]):
            if name not in kept:
                (folder / name).unlink(missing_ok=True)
        if path.stem not in names:
            path.unlink()
        elif record["former"]:
            _replace_text(path, json.dumps({**record, "former": []}))


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

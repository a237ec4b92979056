"""The engine of an export: shards that are written once, resumed, checked and listed.

A shard is a set of images of one split with all people in them (plan.py). What it is made of (format, options, body,
rows by digest) has a digest, kept with the checksum of every file that the shard wrote (records.py). Running an export
again does only the shards whose record is missing or tells of something else, or whose files are not what was written,
and removes files that no shard has any more. `SHA256SUMS` is checked with `sha256sum -c SHA256SUMS`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from posedreamer_assets import progress
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.plan import Planned, chosen_rows, plan_shards
from posedreamer_assets.export.records import (
    CHECKSUMS,
    MANIFEST,
    File,
    check_folder,
    complete,
    remove_files,
    remove_stale,
    replace_text,
    sha256,
    write_record,
    writing,
)
from posedreamer_assets.export.samples import Rig, Samples
from posedreamer_assets.export.source import Reader
from posedreamer_assets.export.subject import Subject

# Raised by hand when the same rows give other files.
_VERSION = 2


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    Attributes:
        shard_size: images of a shard at most; None takes the format's own.
        splits: which splits to write; empty writes all.
        pickles: write what only Python's pickle can read, where the format's own readers want that; without them those
            formats have plain arrays, which their own readers do not find.
        keypoints_only: write a format whose body cannot be had from these rows with keypoints alone.
    """

    shard_size: int | None = None
    splits: tuple[str, ...] = ()
    pickles: bool = True
    keypoints_only: bool = False


@dataclass
class Shard:
    """A shard that is being written.

    Attributes:
        name: for example `train-01`.
        split: of its images.
        numbers: of its images and samples by id, unique in the whole dataset.
        crowded: whether an image of it has several people.
        folder: of the export.
        options: of the export.
        subject: the body that the labels belong to.
        files: written so far.
    """

    name: str
    split: str
    numbers: Mapping[str, int]
    crowded: bool
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
            self.files.append(File(path, partial.stat().st_size, sha256(partial)))
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)

    def put(self, path: str, data: bytes) -> None:
        """Write a whole file."""
        with self.file(path) as partial:
            partial.write_bytes(data)

    def put_images(self, samples: Samples, folder: str = "images") -> None:
        """Write each image once, as it is stored, under its name (`Samples.image_names`) below a folder."""
        for image in samples.pictures:
            self.put(f"{folder}/{samples.picture_names[image]}", samples.pictures[image])


@dataclass(frozen=True)
class LabelFiles:
    """Where an export's labels are, for programs that look for them.

    Attributes:
        pattern: of the files below the export's folder.
        encoding: MIME type.
        about: what is in them, where Croissant cannot say it by fields.
        per_image: whether each image has one of its own.
        images: the folder of the images.
    """

    pattern: str
    encoding: str = "application/octet-stream"
    about: str = ""
    per_image: bool = False
    images: str = "images"


@dataclass(frozen=True)
class Format:
    """One way to write a dataset.

    Attributes:
        name: on the command line.
        title: in the card.
        shard_size: images of a shard where none is asked for.
        write: writes the files of one shard.
        reads_pickles: whether the format's own readers need `Options.pickles`.
        pixels: where the format has the centre of the first pixel, and so what is taken off the table's coordinates.
        labels: its label files.
        check: raises ExportError where the format cannot be written with these options and this body.
        notes: what a reader of the card has to know, given the options and the body.
        texts: files of the whole export beside those of its shards, by name, given its splits and the body.
    """

    name: str
    title: str
    shard_size: int
    write: Callable[[Iterable[Samples], Shard], None]
    pixels: str
    labels: LabelFiles
    reads_pickles: bool = False
    check: Callable[[Options, Subject], None] = lambda options, subject: None
    notes: Callable[[Options, Subject], list[str]] = lambda options, subject: []
    texts: Callable[[Sequence[str], Subject], dict[str, str]] = lambda splits, subject: {}


@dataclass(frozen=True)
class Result:
    """What an export did.

    Attributes:
        samples: people in all.
        images: in all.
        written: shards written now.
        complete: shards found complete.
        files: of all shards.
        index: of the rows.
        options: of the export.
        subject: the body of the labels.
    """

    samples: int
    images: int
    written: int
    complete: int
    files: tuple[File, ...]
    index: pa.Table
    options: Options
    subject: Subject


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
        ExportError: the folder holds something else or splits that were not asked for, there is nothing to write, or
            rows or a body that the format cannot hold. A folder that was not there is not there then.
    """
    form.check(options, subject)
    check_folder(folder, form.name, options.splits)
    index = chosen_rows(reader.index(), options.splits)
    made_by = {"format": form.name, "version": _VERSION, "pickles": options.pickles, "subject": subject.digest}
    plan = plan_shards(index, options.shard_size or form.shard_size, made_by)
    rig = Rig(subject.body)
    written, files = 0, []
    with writing(folder, form.name):
        for name in (MANIFEST, CHECKSUMS):  # of the former export; they come back when this one is finished
            (folder / name).unlink(missing_ok=True)
        for planned in plan:
            done = complete(folder, planned)
            if done is None:
                done = _write(reader, planned, rig, form, _shard(planned, folder, options, subject))
                write_record(folder, planned, done)
                written += 1
            else:
                progress.advance(planned.samples)
            files += done
        remove_stale(folder, {p.name for p in plan}, {f.path for f in files})
    images = sum(len(p.people) for p in plan)
    return Result(index.num_rows, images, written, len(plan) - written, tuple(files), index, options, subject)


def _shard(planned: Planned, folder: Path, options: Options, subject: Subject) -> Shard:
    crowded = planned.samples > len(planned.people)
    return Shard(planned.name, planned.split, planned.numbers, crowded, folder, options, subject)


def _write(reader: Reader, planned: Planned, rig: Rig, form: Format, shard: Shard) -> list[File]:
    try:
        form.write(_samples(reader, planned, rig), shard)
    except ExportError:  # rows that cannot be written: nothing of the shard stays
        remove_files(shard.folder, [file.path for file in shard.files])
        raise
    return shard.files


def _samples(reader: Reader, planned: Planned, rig: Rig) -> Iterator[Samples]:
    """The shard's rows a few at a time.

    Raises:
        ExportError: the reader gave other rows than were asked for, or rows of another body.
    """
    expected = iter([name for names in planned.people.values() for name in names])
    for batch in reader.batches(tuple(planned.people)):
        samples = Samples(batch.people, batch.images, rig)
        for name in samples.ids:
            wanted = next(expected, None)
            if name != wanted:
                raise ExportError(f"shard {planned.name!r}: got sample {name!r}, expected {wanted!r}")
        samples.check_body()
        yield samples
        progress.advance(len(samples))
    missing = next(expected, None)
    if missing is not None:
        raise ExportError(f"shard {planned.name!r}: no sample {missing!r}")


def finish(folder: Path, form: Format, result: Result, texts: dict[str, str]) -> None:
    """Write the texts that describe the export, the list of checksums and, last, the manifest."""
    described = []
    splits = sorted(set(result.index.column("split").to_pylist()))
    for name, text in {**texts, **form.texts(splits, result.subject)}.items():
        replace_text(folder / name, text)
        described.append(File(name, (folder / name).stat().st_size, sha256(folder / name)))
    lines = [f"{f.sha256}  {f.path}\n" for f in sorted((*result.files, *described), key=lambda f: f.path)]
    replace_text(folder / CHECKSUMS, "".join(lines))
    manifest = {
        "format": form.name,
        "samples": result.samples,
        "images": result.images,
        "files": len(result.files),
        "body": asdict(result.subject.identity),
        "pixels": form.pixels,
        "options": asdict(result.options),
    }
    replace_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")

"""Which file of a table is damaged or missing: asked when a read fails, and by `posedreamer storage verify`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lance import LanceDataset
from lance.fragment import LanceFragment

from posedreamer_assets.digests import row_digests
from posedreamer_assets.storage.arriving import BOOKKEEPING_NAMES

BATCH_ROWS = 64


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a table.

    Attributes:
        files: data files of the fragment, and its deletion file where it has one.
        what: what was found.
    """

    files: tuple[str, ...]
    what: str


def first_damage(dataset: LanceDataset, columns: Sequence[str]) -> Damage | None:
    """The first fragment whose columns cannot be read; None when all can."""
    return next(_unreadable(dataset, columns), None)


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
                        yield Damage(files_of(fragment), f"row {name!r} has the digest {a}, it was written with {b}")
        except (OSError, ValueError, RuntimeError) as error:
            yield Damage(files_of(fragment), first_line(error))


def _unreadable(dataset: LanceDataset, columns: Sequence[str]) -> Iterator[Damage]:
    for fragment in dataset.get_fragments():
        try:
            for _ in fragment.to_batches(columns=list(columns), batch_size=BATCH_ROWS):
                continue
        except (OSError, ValueError, RuntimeError) as error:
            yield Damage(files_of(fragment), first_line(error))


def files_of(fragment: LanceFragment) -> tuple[str, ...]:
    """A fragment's files, relative to the table."""
    files = [f"data/{file.path}" for file in fragment.metadata.files]
    deletions = fragment.deletion_file()
    return (*files, str(deletions)) if deletions else tuple(files)


def first_line(error: BaseException) -> str:
    """The beginning of a message of Lance, whose later lines are a trace of its own code."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__

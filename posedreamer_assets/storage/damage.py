"""Which file of a table is damaged or missing: asked when a read fails, and by `posedreamer storage verify`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lance import LanceDataset
from lance.fragment import LanceFragment

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.failures import first_line, is_failure
from posedreamer_assets.storage.verifying import added_later, unverified

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


def all_damage(dataset: LanceDataset, known: Sequence[str]) -> Iterator[Damage]:
    """Fragments that cannot be read, and rows that are not those that were written, by their stored digests.

    Args:
        dataset: the version to look at.
        known: columns of this release.
    """
    for fragment in dataset.get_fragments():
        added = added_later(dataset, known, fragment)
        try:
            for batch in fragment.to_batches(batch_size=BATCH_ROWS):
                for number, found, written in unverified(batch, added, known):
                    name = batch.column("sample_id")[number].as_py()
                    found_and_written = f"row {name!r} has the digest {found}, it was written with {written}"
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

"""The one commit that replaces a partition, whoever else commits meanwhile.

Lance refuses a commit that touches a fragment which another commit has touched since the version it was planned on,
and rebases every other commit onto the newest version. So each change of a partition is made to touch a fragment that
any other change of the same partition touches too:

* A partition with rows is replaced by touching the fragments that hold them.
* A partition without rows is made by touching the table's oldest fragment, the *anchor*, without changing it. Of two
  writers that make the same new partition, the second is refused and plans again, now on the first one's rows. The
  anchor of a newer version is another fragment only if the older anchor was removed, and that commit touched it.
* A table without fragments has no anchor: its first rows are an overwrite that fails after any other commit.

Hence a partition is never stored twice, not even for a moment, and a writer that is killed leaves the table as it was
before or after its commit. Refused writers reuse the data files that they have written.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from lance import LanceDataset, LanceOperation
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.damage import named
from posedreamer_assets.storage.failures import explained, is_failure

CONFLICTS = 200  # refusals by other writers' commits before giving up
FAILURES = 5  # attempts that the storage itself may fail


def replace_rows(newest: Callable[[], LanceDataset], where: str, key: str, new: list[FragmentMetadata]) -> int:
    """Commit `new`, data files written but in no version yet, in place of all rows of `key`; returns the version.

    Args:
        newest: opens the newest version of the table.
        where: names table and partition in errors.
        key: partition key, already checked.
        new: the partition's rows; none deletes the partition.

    Raises:
        StorageError: too many conflicts or failures of the storage.
    """
    files = {file.path for fragment in new for file in fragment.files}
    conflicts = failures = 0
    while True:
        dataset = newest()
        # A lost answer of the storage looks like a failure although the commit was made.
        if files and conflicts + failures and _holds(dataset, files):
            return dataset.version
        try:
            operation = _plan(dataset, key, new)
            return dataset.version if operation is None else _commit(dataset, operation, f"replace {key}").version
        except CommitConflictError as error:
            conflicts += 1
            if conflicts == CONFLICTS:
                raise StorageError(
                    f"{where}, version {dataset.version}: gave up after {CONFLICTS} conflicting commits of other writers"
                ) from error
        except BaseException as error:
            if not is_failure(error):
                raise
            failures += 1
            if failures == FAILURES:
                at = f"{where}, version {dataset.version}"
                known = named(at, dataset, ["partition_key"])
                raise known or StorageError(f"{at}: commit failed: {explained(error)}") from error
        # Spreads the attempts of competing writers; the outcome does not depend on it.
        time.sleep(random.uniform(0.0, 0.02) * min(conflicts + failures, 20))


def drop_fragments(newest: Callable[[], LanceDataset], where: str, fragments: set[int]) -> None:
    """Commit the removal of whole fragments, of those that are still there.

    Raises:
        StorageError: the commit failed, or a writer came between.
    """
    dataset = newest()
    present = sorted(fragments & {f.fragment_id for f in dataset.get_fragments()})
    if not present:
        return
    try:
        _commit(dataset, LanceOperation.Update(removed_fragment_ids=present), f"drop fragments {present}")
    except OSError as error:
        raise StorageError(f"{where}, version {dataset.version}: commit failed: {explained(error)}") from error


def _commit(dataset: LanceDataset, operation: Any, message: str) -> LanceDataset:
    # No retries make an overwrite fail after any other commit; the other operations are checked against each of them.
    retries = 0 if isinstance(operation, LanceOperation.Overwrite) else 20
    return LanceDataset.commit(
        dataset, operation, read_version=dataset.version, commit_message=message, max_retries=retries
    )


def _plan(dataset: LanceDataset, key: str, new: list[FragmentMetadata]) -> Any:
    """The operation that puts `new` in place of the partition's rows; None where there is nothing to do."""
    removed, updated = _plan_removal(dataset, key)
    if removed or updated:
        return LanceOperation.Update(removed_fragment_ids=removed, updated_fragments=updated, new_fragments=new)
    if not new:
        return None
    anchor = min(dataset.get_fragments(), key=lambda fragment: fragment.fragment_id, default=None)
    if anchor is None:
        return LanceOperation.Overwrite(dataset.lance_schema, new)
    return LanceOperation.Update(updated_fragments=[anchor.metadata], new_fragments=new)


def _plan_removal(dataset: LanceDataset, key: str) -> tuple[list[int], list[FragmentMetadata]]:
    """Fragments that hold nothing but the partition, and the others with its rows marked as deleted."""
    condition = f"partition_key = '{key}'"  # keys are checked to be of a-z, 0-9 and -
    addresses = dataset.scanner(columns=[], filter=condition, with_row_address=True).to_table()["_rowaddr"]
    counts = Counter((addresses.to_numpy() >> 32).tolist())  # the upper half of a row address is the fragment id
    removed, updated = [], []
    for fragment_id, rows in sorted(counts.items()):
        fragment = dataset.get_fragment(fragment_id)
        assert fragment is not None  # its rows were just seen in this version
        left = None if rows == fragment.count_rows() else fragment.delete(condition)
        if left is None:
            removed.append(fragment_id)
        else:
            updated.append(left)
    return removed, updated


def _holds(dataset: LanceDataset, files: set[str]) -> bool:
    return any(d.path in files for f in dataset.get_fragments() for d in f.metadata.files)

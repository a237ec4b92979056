"""Columns that the tables of this release have and a stored table has not, or the other way round.

A nullable column that is new: reads fill it with null, and the first writer adds it in one commit that writes no data.
Lance refuses that commit after any other change of the rows, and every change of the rows after it, so that the later
of two rivals plans again and finds the column there.

A column that is gone: reads leave it out, writes fill it with null, and `migrate` drops it. Rows that were written with
it have a digest that counts it, and the digests stay, as others were made from them. So `migrate` first adds a column
`kept_digest_<n>_...` with the digest of what is left of each row, which `verify` goes by from then on. That column also
keeps Lance from giving the number of a dropped column to another one, under which a writer that is under way would
then store its values.

A type that changed is refused: nothing here knows what the values mean.
"""

import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa
from lance import LanceDataset

from posedreamer_assets.digests import digest, row_digests
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.arriving import BOOKKEEPING_NAMES
from posedreamer_assets.storage.commits import CONFLICTS, FAILURES
from posedreamer_assets.storage.failures import explained, is_conflict, is_failure
from posedreamer_assets.storage.verifying import KEPT, added_later, is_kept, kept_number, unverified

MIGRATE = "posedreamer storage migrate"
_BATCH_ROWS = 256
_SQL_TYPES = {
    "string": "STRING",
    "float": "FLOAT",
    "double": "DOUBLE",
    "int32": "INT",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
}
# Quoted texts are matched first, so that a name within them is left alone.
_WORDS = re.compile(r"'(?:[^']|'')*'|`[^`]+`|\"[^\"]+\"|[A-Za-z_][A-Za-z_0-9]*")


@dataclass(frozen=True)
class Migration:
    """What was done to a table so that it has the columns of this release.

    Attributes:
        table: its name.
        version: the newest version afterwards.
        added: nullable columns that it lacked, null in every row.
        dropped: columns that this release does not have.
        loosened: columns that may be null from now on.
    """

    table: str
    version: int
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    loosened: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Between a stored table and this release."""

    added: tuple[pa.Field, ...]
    gone: tuple[pa.Field, ...]
    loosened: tuple[str, ...]


def difference(where: str, stored: pa.Schema, wanted: pa.Schema) -> Difference:
    """What a stored table lacks and has too much.

    Raises:
        StorageError: a column that nothing can be done about, by name.
    """
    check_types(where, stored, wanted)
    present, known = set(stored.names), set(wanted.names)
    return Difference(
        tuple(f for f in wanted if f.name not in present),
        tuple(f for f in stored if f.name not in known and not is_kept(f.name)),
        tuple(f.name for f in wanted if f.name in present and f.nullable and not stored.field(f.name).nullable),
    )


def check_types(where: str, stored: pa.Schema, wanted: pa.Schema) -> None:
    """Raises StorageError unless every column wanted is stored as such, or may be null and is not stored."""
    present = set(stored.names)
    for field in wanted:
        if field.name not in present:
            if not field.nullable:
                raise _refused(where, field.name, "nothing", f"{field.type}, never null")
            continue
        own = stored.field(field.name)
        if own.type != field.type:
            raise _refused(where, field.name, str(own.type), str(field.type))
        if own.nullable and not field.nullable:
            raise _refused(where, field.name, f"{own.type} or null", f"{field.type}, never null")


def _refused(where: str, name: str, stored: str, wanted: str) -> StorageError:
    return StorageError(
        f"{where}: column {name!r} is stored as {stored}, this release has {wanted}, and `{MIGRATE}` cannot know what to "
        "put there: move the table's folder away and materialise it again"
    )


def with_nulls(rows: pa.Table, wanted: pa.Schema) -> pa.Table:
    """The rows with the columns wanted, null where they are not stored."""
    present = set(rows.schema.names)
    columns = [rows.column(f.name) if f.name in present else pa.nulls(rows.num_rows, f.type) for f in wanted]
    return pa.Table.from_arrays(columns, schema=wanted)


def condition_on(condition: str, stored: pa.Schema, known: pa.Schema) -> str:
    """An SQL condition in which columns that are not stored are null."""
    missing = set(known.names) - set(stored.names)

    def replaced(match: re.Match[str]) -> str:
        name = match[0].strip('`"')
        if match[0].startswith("'") or name not in missing:
            return match[0]
        sql = _SQL_TYPES.get(str(known.field(name).type))
        return f"CAST(NULL AS {sql})" if sql else "NULL"

    return _WORDS.sub(replaced, condition) if missing else condition


def prepare(newest: Callable[[], LanceDataset], table: str, wanted: pa.Schema) -> LanceDataset:
    """The newest version once rows of this release can be written into it: what it lacks is added.

    Raises:
        StorageError: a column that cannot be added, or must be dropped first.
    """

    def attempt(dataset: LanceDataset) -> bool:
        found = difference(_where(table, dataset), dataset.schema, wanted)
        for field in found.gone:
            if not field.nullable:
                raise StorageError(
                    f"{_where(table, dataset)}: column {field.name!r} is not in this release and cannot be left empty; "
                    f"run `{MIGRATE}`, which drops it"
                )
        return _add(dataset, found)

    return _until_done(newest, table, attempt)


def migrate(newest: Callable[[], LanceDataset], table: str, wanted: pa.Schema) -> Migration:
    """Add what a table lacks and drop what this release does not have; safe beside writers, and when it is killed.

    Raises:
        StorageError: a column whose type changed, or a commit that could not be made.
    """
    before = newest()
    found = difference(_where(table, before), before.schema, wanted)
    dataset = _until_done(newest, table, lambda now: _add(now, difference(_where(table, now), now.schema, wanted)))
    if found.gone:
        dataset = _until_done(newest, table, lambda now: _drop(table, now, wanted))
    added, gone = (tuple(f.name for f in fields) for fields in (found.added, found.gone))
    return Migration(table, dataset.version, added, gone, found.loosened)


def _add(dataset: LanceDataset, found: Difference) -> bool:
    """One commit at most for each kind; whether there was nothing to do."""
    if found.added:
        dataset.add_columns(pa.schema(found.added))
    if found.loosened:
        alterations: list[Any] = [{"path": name, "nullable": True} for name in found.loosened]
        dataset.alter_columns(*alterations)
    return not (found.added or found.loosened)


def _drop(table: str, dataset: LanceDataset, wanted: pa.Schema) -> bool:
    gone = [f.name for f in difference(_where(table, dataset), dataset.schema, wanted).gone]
    if not gone:
        return True
    kept = sorted(filter(is_kept, dataset.schema.names), key=kept_number)
    name = f"_{digest(sorted(gone))[:8]}"
    if kept and kept[-1].endswith(name) and _all_kept(dataset, gone, kept[-1], wanted.names):
        dataset.drop_columns(gone)
    else:
        number = kept_number(kept[-1]) + 1 if kept else 1
        _keep_digests(dataset, gone, f"{KEPT}{number}{name}", wanted.names)
    return False  # look again: somebody may have written meanwhile


def _all_kept(dataset: LanceDataset, gone: Sequence[str], kept: str, known: Sequence[str]) -> bool:
    """Whether what was written since digests were kept can be verified without these columns."""
    added = added_later(dataset, known)
    left = [name for name in dataset.schema.names if name not in gone]
    batches = dataset.scanner(columns=left, filter=f"`{kept}` IS NULL", batch_size=_BATCH_ROWS).to_batches()
    return not any(unverified(batch, added, known) for batch in batches)


def _keep_digests(dataset: LanceDataset, gone: Sequence[str], name: str, known: Sequence[str]) -> None:
    """Add a column with the digest of each row without `gone`; empty for rows that are not what was written."""
    added = added_later(dataset, known)
    left_out = [*gone, *BOOKKEEPING_NAMES, *filter(is_kept, dataset.schema.names)]

    def digests(batch: pa.RecordBatch) -> pa.RecordBatch:
        own = row_digests(batch, skip=left_out)
        for damaged, _, _ in unverified(batch, added, batch.schema.names):
            own[damaged] = ""
        return pa.record_batch({name: pa.array(own, pa.string())})

    output = pa.schema([pa.field(name, pa.string())])
    dataset.add_columns(lance.batch_udf(output_schema=output)(digests), batch_size=_BATCH_ROWS)


def _until_done(
    newest: Callable[[], LanceDataset], table: str, attempt: Callable[[LanceDataset], bool]
) -> LanceDataset:
    """Attempt on the newest version, again after each commit and each conflict, until there is nothing to do."""
    failures = 0
    for number in range(CONFLICTS):
        dataset = newest()
        try:
            if attempt(dataset):
                return dataset
        except BaseException as error:
            if not is_failure(error):
                raise
            failures += not is_conflict(error)
            if failures == FAILURES:
                at = _where(table, dataset)
                raise StorageError(f"{at}: its columns could not be changed: {explained(error)}") from error
        time.sleep(random.uniform(0.0, 0.02) * min(number + 1, 20))
    raise StorageError(f"table {table!r}: gave up changing its columns after {CONFLICTS} commits of other writers")


def _where(table: str, dataset: LanceDataset) -> str:
    return f"table {table!r}, version {dataset.version}"

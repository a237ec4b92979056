"""Running the data checks on what is stored: shared by Dagster's asset checks and `posedreamer checks run`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from posedreamer_assets.checks import CheckOutcome, load_table_checks, run_checks
from posedreamer_assets.errors import CheckError
from posedreamer_assets.records import SCHEMAS

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore


def check_partition(store: "LanceStore", table: str, key: str | None) -> list[CheckOutcome]:
    """Outcomes of a table's checks on one partition, or on the whole table."""
    keys = None if key is None else [key]

    def references(other: str, column: str) -> list[Any]:
        present = store.partitions(other)
        wanted = sorted(present) if keys is None else [k for k in keys if k in present]
        return store.read(other, keys=wanted, columns=[column]).column(column).to_pylist() if wanted else []

    return run_checks(table, store.read(table, keys=keys), references)


def check_store(
    store: "LanceStore", table: str | None = None, key: str | None = None
) -> Iterator[tuple[str, CheckOutcome]]:
    """Outcomes over a store, partition by partition, each with where it was found: "table[partition]".

    Raises:
        CheckError: an unknown table, or one that holds nothing.
    """
    if table is not None:
        table = load_table_checks(table).table
        if not store.partitions(table):
            raise CheckError(f"table {table!r} holds nothing yet")
    for name in [table] if table else list(SCHEMAS):
        stored = sorted(store.partitions(name))
        if key is not None and table is not None and key not in stored:
            raise CheckError(f"table {name!r} has no partition {key!r}; there are {', '.join(stored)}")
        for partition in stored:
            if key is None or partition == key:
                for outcome in check_partition(store, name, partition):
                    yield f"{name}[{partition}]", outcome

"""What a kind of test is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

import pyarrow as pa

from posedreamer_assets.checks.model import Around, DataCheck, Measured, Verdicts

if TYPE_CHECKING:
    from posedreamer_assets.checks.rows import Rows

Compute = Callable[["Rows", DataCheck, Around], Verdicts | Measured]


def is_plain(kind: pa.DataType) -> bool:
    """Neither a list nor binary."""
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


@dataclass(frozen=True)
class Kind:
    """What a test takes.

    Attributes:
        sentence: describes it; filled with `column` and the arguments.
        args: names and types of its arguments; the required ones end in "!".
        accepts: which column types it tests; None for a test of the whole table.
        compute: finds its verdicts; None for what Great Expectations does itself.
        needs: columns that the table must have.
        needs_of_to: columns that the tables named by `to` must have.
        whole: it finds one figure for the table, so `where` and `mostly` mean nothing.
    """

    sentence: str
    args: Mapping[str, type] = field(default_factory=dict)
    accepts: Callable[[pa.DataType], bool] | None = is_plain
    compute: Compute | None = None
    needs: tuple[str, ...] = ()
    needs_of_to: tuple[str, ...] = ()
    whole: bool = False


def late(module: str, name: str) -> Compute:
    """A function that is imported when it is first called: reading check files stays light."""

    def call(rows: "Rows", check: DataCheck, around: Around) -> Verdicts | Measured:
        return getattr(import_module(f"posedreamer_assets.checks.{module}"), name)(rows, check, around)

    return call

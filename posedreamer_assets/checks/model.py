"""What a check is, what it finds, and what it may look at beside the rows that it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from posedreamer_assets.config import Profile

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel

Verdicts = list[bool | None]
"""One for each row: true, false, or None where the row is not judged."""


@dataclass(frozen=True)
class Measured:
    """A finding about a table as a whole.

    Attributes:
        value: what was measured; the check holds where it is at most `limit`.
        limit: the bound.
        text: the finding in words.
        failing_ids: ids of samples that it is about.
    """

    value: float
    limit: float
    text: str
    failing_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataCheck:
    """One test of a table or column, as written in its file.

    Attributes:
        name: unique within the table, for example `between__oks`.
        kind: name of the test, a key of `KINDS`.
        column: the tested column; None for a test of the whole table.
        args: the test's own arguments.
        severity: `error` (what is downstream must wait) or `warn`.
        where: condition on rows it is about; None means all rows.
        mostly: share of values that must pass.
        description: one sentence.
    """

    name: str
    kind: str
    column: str | None
    args: Mapping[str, Any]
    severity: str
    where: str | None
    mostly: float
    description: str

    @property
    def blocking(self) -> bool:
        """Whether a failure keeps what is downstream from being made."""
        return self.severity == "error"


@dataclass(frozen=True)
class TableChecks:
    """All checks of one table."""

    table: str
    description: str
    checks: tuple[DataCheck, ...]


@dataclass(frozen=True)
class CheckOutcome:
    """What a check found.

    Attributes:
        name: the check's.
        passed: whether it holds.
        severity: `error` or `warn`.
        description: the check's.
        observed: what was found, in words.
        failing_ids: sample ids of failing rows, at most `EXAMPLES`.
        checked: rows that it looked at.
        failed: rows that failed; 0 for a finding about the table as a whole.
    """

    name: str
    passed: bool
    severity: str
    description: str
    observed: str
    failing_ids: tuple[str, ...]
    checked: int = 0
    failed: int = 0

    @property
    def blocking(self) -> bool:
        """Whether a failure keeps what is downstream from being made."""
        return self.severity == "error"


class Around(Protocol):
    """What surrounds the rows: other tables, the batches before, the profile and the body."""

    def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Rows of another table at the same partitions; none where it has none of them."""
        ...

    def everywhere(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Rows of another table at all partitions."""
        ...

    def before(self, columns: Sequence[str], batches: int, rows: int) -> list[pa.Table]:
        """At most `rows` rows of each of the `batches` batches of the same source before this one, earliest first."""
        ...

    def profile(self) -> Profile | None:
        """The settings that the rows were made with; None where they are not known, as for rows out of date."""
        ...

    def body(self) -> "BodyModel":
        """The body that labels are made with."""
        ...

    def folder(self, place: str) -> Path | None:
        """The local folder of a checkpoint; None where its files are gone."""
        ...

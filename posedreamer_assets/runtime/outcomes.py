"""What the data checks said of every stored partition: table `check_results`, which all machines that share a store share.

A row names the content that was looked at. It says nothing of rows that were written since.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from posedreamer_assets.checks.model import CheckOutcome
from posedreamer_assets.digests import content_digest, digest
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import partition_key

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

TABLE = "check_results"
EMPTY = content_digest([])  # of a partition without rows, which a table cannot hold
_BRIEF = ("checked", "key", "content", "made_from", "blocking", "failed", "warned", "time", "rows", "checks")


@dataclass(frozen=True)
class Known:
    """What is known of a partition, or of a checkpoint, beside its rows.

    Attributes:
        checked: table or checkpoint.
        key: partition; None for a checkpoint.
        content: digest of the rows, or place of the checkpoint, that this is about.
        made_from: input digest of a partition without rows; empty otherwise.
        blocking: checks of severity error that have looked at it.
        failed: those of them that failed.
        warned: failed checks of severity warn.
        time: when, ISO 8601.
        rows: that were looked at.
        checks: how many were run.
    """

    checked: str
    key: str | None
    content: str
    made_from: str
    blocking: tuple[str, ...]
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    time: str
    rows: int
    checks: int

    @property
    def is_empty(self) -> bool:
        """Whether it is about a partition that was made and has no rows."""
        return self.content == EMPTY and bool(self.made_from)


def known_outcomes(store: "LanceStore") -> dict[tuple[str, str | None], Known]:
    """By table or checkpoint, and partition."""
    rows = store.read(TABLE, columns=_BRIEF, missing_ok=True).to_pylist()
    return {(row["checked"], row["key"]): _known(row) for row in rows}


def _known(row: dict[str, Any]) -> Known:
    lists = {name: tuple(row[name] or ()) for name in ("blocking", "failed", "warned")}
    return Known(**{**row, **lists, "made_from": row["made_from"] or ""})


def known_of(known: Known | None, name: str) -> tuple[str, ...]:
    """Checks of severity error of `dbt_like_checks/<name>.yml` that failed, or have not looked at the rows."""
    wanted = blocking_checks(name)
    if known is None:
        return wanted
    return tuple(dict.fromkeys((*known.failed, *(check for check in wanted if check not in known.blocking))))


@lru_cache(maxsize=64)
def blocking_checks(name: str) -> tuple[str, ...]:
    """Names of a table's or checkpoint's checks of severity error; none where it has no checks."""
    from posedreamer_assets.checks.files import has_checks, load_table_checks

    return tuple(c.name for c in load_table_checks(name).checks if c.blocking) if has_checks(name) else ()


def record(
    store: "LanceStore",
    checked: str,
    key: str | None,
    content: str,
    outcomes: Sequence[CheckOutcome],
    made_from: str = "",
) -> None:
    """Keep what checks found, in place of what is known of that partition.

    Args:
        store: where the rows are.
        checked: table or checkpoint.
        key: partition; None for a checkpoint.
        content: see `Known`.
        outcomes: of all checks.
        made_from: see `Known`.
    """
    row = {
        "sample_id": f"{checked}/{key or ''}",
        "checked": checked,
        "key": key,
        "content": content,
        "made_from": made_from,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": max((o.checked for o in outcomes), default=0),
        "checks": len(outcomes),
        "blocking": [o.name for o in outcomes if o.blocking],
        "failed": [o.name for o in outcomes if o.blocking and not o.passed],
        "warned": [o.name for o in outcomes if not o.blocking and not o.passed],
        "outcomes": json.dumps([asdict(o) for o in outcomes]),
    }
    place = _partition(checked, key)
    rows = pa.Table.from_pylist([{**row, "partition_key": place}], schema=SCHEMAS[TABLE])
    store.replace_partition(TABLE, place, rows, input_digest=digest([checked, key, content]))


def note_empty(store: "LanceStore", table: str, key: str, made_from: str) -> None:
    """Remember that a partition was made and has no rows; its checks have yet to be run."""
    record(store, table, key, EMPTY, (), made_from)


def full_records(store: "LanceStore", checked: str | None = None) -> list[dict[str, Any]]:
    """Whole rows with their outcomes, for pages; of one table or checkpoint, or all."""
    wanted = None if checked is None else f"checked = '{checked}'"
    rows = store.read(TABLE, filter=wanted, missing_ok=True).to_pylist()
    return [{**row, "outcomes": json.loads(row["outcomes"])} for row in rows]


def _partition(checked: str, key: str | None) -> str:
    name = checked.replace("_", "-")
    return partition_key(name, 0) if key is None else f"{name}-{key}"

"""What reports read of a store: rows and checkpoints that are up to date, of the columns that are needed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from posedreamer_assets.pipeline import Stage
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.tables.keys import of_groups

if TYPE_CHECKING:
    from posedreamer_assets.storage import CheckpointInfo

MOST_SHOWN = 20_000  # samples that are plotted one by one, or whose many columns are read
_AT_ONCE = 4096


def rows_of(
    snapshot: Snapshot, stage: Stage, columns: Sequence[str], groups: Sequence[str] | None = None
) -> pa.Table | None:
    """Up-to-date rows of a stage (of some of its groups) by sample id; None where it has no up-to-date partition."""
    keys = snapshot.current_of(stage) if groups is None else of_groups(snapshot.current_of(stage), groups)
    return Listed(snapshot).rows(str(stage.table), keys, columns) if keys else None


def rows_of_all(snapshot: Snapshot, name: str, columns: Sequence[str]) -> pa.Table | None:
    """The same of all stages of a name, round after round."""
    found = [rows_of(snapshot, stage, columns) for stage in snapshot.graph.named(name)]
    made = [rows for rows in found if rows is not None]
    return pa.concat_tables(made) if made else None


def count_of(snapshot: Snapshot, stage: Stage) -> int:
    """How many up-to-date rows a stage has."""
    stored = snapshot.partitions(stage)
    return sum(stored[key].rows for key in snapshot.current_of(stage))


def poses_in_parts(snapshot: Snapshot, judged: Stage, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Poses of the up-to-date partitions of a round's verdicts, a few thousand rows at a time."""
    stored = snapshot.table("pose_library")
    keys = [key for key in snapshot.current_of(judged) if key in stored and stored[key].rows]
    return snapshot.store.batches("pose_library", keys, columns, rows=_AT_ONCE)


def result_of(snapshot: Snapshot, key: str) -> "CheckpointInfo | None":
    """The up-to-date result of an unpartitioned stage; None where there is none."""
    stage = snapshot.graph[key]
    return snapshot.checkpoint(stage) if snapshot.is_current(stage) else None


def spread(count: int, most: int) -> np.ndarray:
    """At most so many of the numbers from 0 to `count` - 1, evenly over them."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(int)

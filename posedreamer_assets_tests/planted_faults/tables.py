"""Real tables, small: poses, maps, scenes, images, scores, verdicts and pairs as the graph makes them.

The stages' own functions fill them, without Dagster and without the DPO adapter, which a check cannot see.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa

from posedreamer_assets.checks import CheckOutcome, run_checks
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.keys import ALIGN as ALIGNMENT
from posedreamer_assets.tables.keys import group_of

KEY, EARLIER, ALIGN = "procedural-0001", "procedural-0000", "align-procedural-0000"
TABLES = (
    "pose_library",
    "control_maps",
    "rendered_scenes",
    "raw_generations",
    "sample_scores",
    "filtered_dataset",
    "dataset",
)
OF_ALIGNMENT = ("pose_library", "control_maps", "rendered_scenes", "preference_pairs")
_NO_ADAPTER = cast(Any, SimpleNamespace(metrics={"method": "none"}))


def small_profile(rows: int, seed: int = 0) -> Profile:
    """The pocket profile with small batches; the filter lets many pass, so that the dataset has rows."""
    return load_profile(
        "pocket",
        {
            "seed": seed,
            "poses.batch_size": rows,
            "scenes.supersample": 1,
            "generator.steps": 4,
            "curation.min_oks": 0.3,
            "alignment.candidate_strengths": [1.0, 1.0],
            "alignment.min_gap": 0.0,
            "alignment.min_winner": 0.0,
        },
    )


@dataclass(frozen=True)
class _WithoutAdapter(Listed):
    """Rows of the store; no checkpoint was made, and none changes what the generator paints."""

    def checkpoint(self, key: str) -> Any:
        return _NO_ADAPTER


def make_tables(folder: Path, profile: Profile, keys: tuple[str, ...] = (EARLIER, KEY, ALIGN)) -> LanceStore:
    """Fill a store with the partitions of these keys; the alignment batch has poses, maps, scenes and pairs."""
    store = LanceStore(str(folder))
    for key in keys:
        for table in tables_of(key):
            store.replace_partition(table, key, _rows(store, profile, table, key), input_digest="made")
    return store


def tables_of(key: str) -> tuple[str, ...]:
    """The tables that have a partition of this key, in the order in which they are made."""
    return OF_ALIGNMENT if group_of(key) == ALIGNMENT else TABLES


def _rows(store: LanceStore, profile: Profile, table: str, key: str) -> pa.Table:
    found = graph(2).writer(table, key)
    assert found is not None, f"no stage makes {table}[{key}]"
    snapshot = Snapshot(profile, store)
    stage = snapshot.as_run(found)
    made = stage.make(Inputs(stage, profile, _WithoutAdapter(snapshot), Models(profile), key))
    assert made.rows is not None, f"{stage.key} makes rows"
    return made.rows


def key_of(table: str) -> str:
    """The partition in which faults are planted."""
    return KEY if table in TABLES else ALIGN


def check(
    store: LanceStore,
    profile: Profile,
    table: str,
    key: str,
    rows: pa.Table | None = None,
    only: Collection[str] = (),
) -> list[CheckOutcome]:
    """Outcomes of a table's checks on a stored partition, or on other rows in its place."""
    found = store.read(table, [key]) if rows is None else rows
    return run_checks(table, found, Surroundings(store, profile, table, key), only=only)


def failed(outcomes: list[CheckOutcome]) -> dict[str, CheckOutcome]:
    """Outcomes that did not pass, by name."""
    return {o.name: o for o in outcomes if not o.passed}

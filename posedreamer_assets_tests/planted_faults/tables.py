"""Real tables, small: poses, maps, scenes, images, scores, verdicts and pairs as the graph makes them.

The stages' own functions fill them, without Dagster and without the DPO adapter, which a check cannot see.
"""

from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.body.model import load_body
from posedreamer_assets.checks import CheckOutcome, run_checks
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline.control_maps import render_control_rows
from posedreamer_assets.pipeline.dpo_checkpoint import make_pair_rows
from posedreamer_assets.pipeline.filtered_dataset import filter_rows
from posedreamer_assets.pipeline.pose_library import make_pose_table
from posedreamer_assets.pipeline.raw_generations import generate_rows
from posedreamer_assets.pipeline.rendered_scenes import render_scene_rows
from posedreamer_assets.pipeline.sample_scores import score_rows
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import DATASET

KEY, EARLIER, ALIGN = "procedural-0001", "procedural-0000", "align-procedural-0000"
TABLES = (
    "pose_library",
    "base_control_maps",
    "rendered_scenes",
    "base_raw_generations",
    "base_sample_scores",
    "base_filtered_dataset",
    "dataset",
)
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


def make_tables(folder: Path, profile: Profile, keys: tuple[str, ...] = (EARLIER, KEY, ALIGN)) -> LanceStore:
    """Fill a store with the partitions of these keys; the alignment batch has poses, maps, scenes and pairs."""
    store = LanceStore(folder)
    for key in keys:
        poses = make_pose_table(profile, load_body(None), key)
        maps = render_control_rows(profile, poses, key)[0]
        made = {"pose_library": poses, "base_control_maps": maps}
        made["rendered_scenes"] = render_scene_rows(profile, poses, key)[0]
        if key.startswith("align-"):
            made["preference_pairs"] = make_pair_rows(profile, poses, maps, key)[0]
        else:
            made |= _images(profile, poses, maps, key)
        for table, rows in made.items():
            store.replace_partition(table, key, rows, input_digest="made")
    return store


def _images(profile: Profile, poses: pa.Table, maps: pa.Table, key: str) -> dict[str, pa.Table]:
    images = generate_rows(profile, "base", poses, maps, adapter=_NO_ADAPTER, key=key)[0]
    scores = score_rows(profile, poses, maps, images, key)
    verdicts = filter_rows(profile, "base", poses, maps, images, scores)
    return {
        "base_raw_generations": images,
        "base_sample_scores": scores,
        "base_filtered_dataset": verdicts,
        "dataset": verdicts.filter(pc.field("keep")).select(DATASET.names),
    }


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

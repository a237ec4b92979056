"""Small stores, made as the runtime makes them, checks that pass, and poses that a data check refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pyarrow as pa

from posedreamer_assets.checks import suite
from posedreamer_assets.checks.files import load_table_checks
from posedreamer_assets.checks.model import Around, CheckOutcome
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.runtime.checking import check_asset
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Result, make
from posedreamer_assets.storage import LanceStore

SMALL = {
    "image.width": 32,  # of save_tiny_parts
    "image.height": 32,
    "poses.batch_size": 9,
    "poses.batches": 2,
    "poses.align_batches": 1,
    "poses.files_per_batch": 1,
    "poses.frame_stride_s": 0.01,
    "scenes.supersample": 1,
    "generator.steps": 1,
    "alignment.candidate_strengths": [1.0, 1.0],
    "alignment.min_gap": 0.0,
    "alignment.min_winner": 0.0,
    "alignment.val_share": 0.5,
    "alignment.test_share": 0.35,
    "alignment.test_draws": 1,
    "alignment.steps": 1,
    "alignment.eval_every": 1,
    "alignment.batch_size": 2,
    "curation.min_oks": 0.0,
    "curation.max_people": 99,
    "curation.max_head_error_deg": 180.0,
    "curriculum.pool_size": 9,
    "curriculum.rounds": [{"batches": 1, "size": 2}, {"batches": 1, "size": 2}],
    "curriculum.min_distance": 0.0,
    "curriculum.boost_rounds": 2,
    "curriculum.folds": 2,
    "quality.bootstrap": 2,
    "quality.neighbours": 1,
}
"""Settings with which the whole graph is made in seconds by a generator of random weights."""
KEY, OTHER = "procedural-0000", "procedural-0001"
POSES, MAPS = "pose_library", "base/control_maps"


def small_profile(**settings: object) -> Profile:
    """The pocket profile with two base batches of two poses."""
    sizes = {"poses.batch_size": 2, "poses.batches": 2, "poses.align_batches": 0, "scenes.supersample": 1}
    return load_profile("pocket", {**sizes, **settings})


def make_one(store: LanceStore, profile: Profile, name: str, key: str | None = None, *, checked: bool = True) -> Result:
    """Make a stage as an asset does, and have its checks look at it unless a kill came before them."""
    snapshot = Snapshot(profile, store)
    stage = snapshot.graph[name]
    result = make(snapshot, stage, key)
    if checked:
        check_asset(store, stage, key, profile)
    return result


@contextmanager
def captions_lost(*keys: str) -> Iterator[None]:
    """While entered, poses of these partitions have no captions, which a check of severity error refuses."""
    stage = graph(2)[POSES]
    whole = stage.make

    def without(inputs: Inputs) -> Made:
        made = whole(inputs)
        if inputs.key not in keys:
            return made
        assert made.rows is not None
        place = made.rows.schema.get_field_index("caption")
        blank = pa.array([" "] * made.rows.num_rows)
        return replace(made, rows=made.rows.set_column(place, made.rows.schema.field(place), blank))

    with mock.patch.dict(stage.__dict__, {"make": without}):
        yield


def passing(table: str, rows: pa.Table, around: Around) -> list[CheckOutcome]:
    """Every check of a table as passed."""
    return [CheckOutcome(c.name, True, c.severity, c.description, "", ()) for c in load_table_checks(table).checks]


def make_every_table(place: Path, **settings: object) -> tuple[LanceStore, Profile]:
    """A store with all tables that the profile SMALL gives, one hard round included, by random weights."""
    # Here, since it takes ten seconds, which processes that are killed would spend each.
    from posedreamer_assets_tests.diffusion.conftest import save_tiny_parts

    save_tiny_parts(place / "generator")
    rounds = {"curriculum.rounds": [{"size": 2}]}
    profile = load_profile("pocket", {**SMALL, **rounds, "generator.model_path": str(place / "generator"), **settings})
    store = LanceStore(str(place / "storage"))
    with mock.patch.object(suite, "run_checks", passing):
        for stage in graph(2):
            if stage.key != "quality_report":
                for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
                    make_one(store, profile, stage.key, key)
    return store, profile

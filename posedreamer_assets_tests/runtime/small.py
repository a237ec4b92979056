"""A store with a body, poses and control maps, made as the runtime makes them, and poses that a data check refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pyarrow as pa

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.runtime.checking import check_asset
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Result, make
from posedreamer_assets.storage import LanceStore

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

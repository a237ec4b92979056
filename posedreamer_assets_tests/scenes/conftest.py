"""The study's tables, small: made once by the stages' own functions, for tests that read or damage them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pytest

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.pipeline.studies import scene_stages
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.keys import SCENE

STUDY = "learning_to_train"
KEYS = {"scene": "scenes-0000", "photo": "photos-0000"}
SMALL: Mapping[str, object] = {
    f"{STUDY}.enabled": True,
    f"{STUDY}.arms": [],
    f"{STUDY}.scene_batches": 1,
    f"{STUDY}.photo_batches": 1,
    "crowds.batch_size": 4,
    "crowds.people_mean": 4.0,
    "crowds.size": 128,
    "photos.batch_size": 3,
    "photos.size": 128,
    "mixed.people_mean": 2.0,
    "style.min_pixels": 20,
}


@dataclass(frozen=True)
class Study:
    """A store with one partition of every stage of the study."""

    store: LanceStore
    profile: Profile

    def rows(self, key: str) -> pa.Table:
        """The rows of a stage, by asset key."""
        stage = graph(2, (STUDY,))[key]
        assert stage.table is not None, "all of them have tables"
        return self.store.read(stage.table, [KEYS["scene" if SCENE in stage.groups else "photo"]])


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return load_body(None)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    profile = load_profile("pocket", dict(SMALL))
    store = LanceStore(str(tmp_path_factory.mktemp("study")))
    for stage in scene_stages((), ()):
        key = KEYS["scene" if SCENE in stage.groups else "photo"]
        made = stage.make(Inputs(stage, profile, Listed(Snapshot(profile, store)), Models(profile), key))
        assert made.rows is not None and stage.table is not None
        store.replace_partition(stage.table, key, made.rows, input_digest="made")
    return Study(store, profile)

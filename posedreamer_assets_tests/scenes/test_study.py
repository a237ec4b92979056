"""The study's stages: clean tables pass every check, each planted fault is caught, and plain runs know nothing of it."""

import json

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.checks import run_checks
from posedreamer_assets.cli.run_command import stages_of, study_settings
from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import graph, graph_of
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.pipeline.studies import scene_stages
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.keys import group_of, is_reserved
from posedreamer_assets_tests.scenes.conftest import KEYS, SMALL, STUDY, Study
from posedreamer_assets_tests.scenes.faults import FAULTS, Fault

STAGES = scene_stages(())


def failed(study: Study, key: str, rows: pa.Table, only: tuple[str, ...] = ()) -> dict[str, str]:
    stage = graph(2, (STUDY,))[key]
    assert stage.table is not None
    around = Surroundings(study.store, study.profile, stage.table, KEYS[stage.groups[0]])
    return {o.name: o.observed for o in run_checks(stage.table, rows, around, only=only) if not o.passed}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.key)
def test_clean_tables_pass_all_checks(study: Study, stage) -> None:  # type: ignore[no-untyped-def]
    rows = study.rows(stage.key)
    assert rows.num_rows and failed(study, stage.key, rows) == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.stage}: {fault.name}")
def test_a_planted_fault_is_caught_by_the_check_named_for_it(study: Study, fault: Fault) -> None:
    rows = fault.plant(study.rows(fault.stage))
    assert fault.check in failed(study, fault.stage, rows, (fault.check,))


def test_a_plain_profile_has_no_stage_of_the_study() -> None:
    plain = graph_of(load_profile("pocket"))
    assert not {stage.key for stage in STAGES} & {stage.key for stage in plain}
    assert [stage.key for stage in plain] == [stage.key for stage in graph(2)]
    with_study = [stage.key for stage in graph_of(load_profile("pocket", {f"{STUDY}.enabled": True}))]
    assert with_study == [*(stage.key for stage in plain), *(stage.key for stage in STAGES)]


def test_a_study_makes_its_stages_and_the_models_that_they_read() -> None:
    assert stages_of(None, load_profile("pocket")) == []
    assert stages_of(STUDY, load_profile("pocket")) == ["body_model", *(stage.key for stage in STAGES)]
    assert study_settings(STUDY) == {f"{STUDY}.enabled": True}
    assert study_settings("ablation") == {"students.study": "ablation"}


def test_keys_of_the_study_are_groups_of_their_own() -> None:
    assert (group_of("scenes-0003"), group_of("photos-0000"), group_of("scenes-of-war-0001")) == (
        "scene",
        "photo",
        "base",
    )
    assert is_reserved("scenes") and is_reserved("photos")
    profile = load_profile("pocket", {f"{STUDY}.scene_batches": 2, f"{STUDY}.photo_batches": 1})
    assert planned_keys(profile, ("scene", "photo")) == ["scenes-0000", "scenes-0001", "photos-0000"]


def test_every_column_but_bookkeeping_has_an_origin_of_a_declared_column(study: Study) -> None:
    for stage in STAGES:
        declared = {
            reads.table: {"sample_id", "partition_key", "image_id", "person", *reads.columns} for reads in stage.reads
        }
        for column, found in stage.origins(study.profile).items():
            assert column in SCHEMAS[stage.table or ""].names, (stage.key, column)
            for table, name in found:
                assert name in SCHEMAS[table].names and table in declared, (stage.key, column, table, name)


def test_a_scene_alone_is_the_scene_in_its_batch(study: Study, body: BodyModel) -> None:
    """Layout, picture and labels of a partition of another size, made by the same stages."""
    profile = load_profile("pocket", {**SMALL, "crowds.batch_size": 2})
    snapshot = Snapshot(profile, study.store)
    first = STAGES[0]
    made = first.make(Inputs(first, profile, Listed(snapshot), Models(profile), KEYS["scene"])).rows
    assert made is not None
    kept = study.rows(first.key).select(made.column_names)
    assert made.sort_by("sample_id").equals(kept.slice(0, made.num_rows).cast(made.schema))


def test_people_of_a_mixture_are_the_synthetic_and_the_annotated(study: Study) -> None:
    annotated = study.rows("photos/photo_people").column("image_id").to_pylist()
    rows = study.rows("dm/scene_people").to_pylist()
    for image in {row["image_id"] for row in rows}:
        own = [row for row in rows if row["image_id"] == image]
        from_photo = [row for row in own if row["origin"] == "photo"]
        assert len(from_photo) == annotated.count(own[0]["photo_id"])
        assert sorted(row["person"] for row in own)[-1] < 99 and len({row["person"] for row in own}) == len(own)
    assert {row["origin"] for row in rows} == {"synthetic", "photo"}


def test_a_photograph_is_in_one_split_and_its_ignored_people_are_marked(study: Study) -> None:
    photos = study.rows("photos/annotated_photos").to_pylist()
    assert {row["split"] for row in photos} <= {"train", "val", "test"} and {row["kind"] for row in photos} == {
        "stand_in"
    }
    for row in photos:
        assert decode(row["ignore_mask"]).shape == (128, 128)
        assert json.loads(row["annotations"])["boxes"]


def test_styled_images_differ_from_mixtures_in_synthetic_people_alone(study: Study) -> None:
    mixtures = {row["sample_id"]: row for row in study.rows("dm/scene_images").to_pylist()}
    changed = 0
    for row in study.rows("dm/styled_images").to_pylist():
        before, inside = (
            decode(mixtures[row["sample_id"]]["image"]),
            decode(mixtures[row["sample_id"]]["instances"]) > 0,
        )
        after = decode(row["image"])
        assert np.array_equal(before[~inside], after[~inside])
        changed += not np.array_equal(before, after)
    assert changed

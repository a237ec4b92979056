"""The study's stages: clean tables pass every check, each planted fault is caught, and plain runs know nothing of it."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.checks import run_checks
from posedreamer_assets.cli.run_command import stages_of, study_settings
from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import graph, graph_of, scene_layouts
from posedreamer_assets.pipeline.annotated_photos import split_of
from posedreamer_assets.pipeline.layout_rows import placed_of
from posedreamer_assets.pipeline.mixed_people import photo_columns
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.photo_people import people_of_photos
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.pipeline.studies import scene_stages
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.scenes import people, stand_in
from posedreamer_assets.scenes.rle import decode_rle
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.keys import group_of, is_reserved
from posedreamer_assets.tables.rows import make_table
from posedreamer_assets_tests.scenes.conftest import KEYS, SMALL, STUDY, Study
from posedreamer_assets_tests.scenes.faults import FAULTS, Fault

STAGES = scene_stages((), ())


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
    with_study = [
        stage.key for stage in graph_of(load_profile("pocket", {f"{STUDY}.enabled": True, f"{STUDY}.arms": []}))
    ]
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
                assert name in SCHEMAS[table].names and name in declared.get(table, ()), (
                    stage.key,
                    column,
                    table,
                    name,
                )


def test_a_scene_alone_is_the_scene_in_its_batch(study: Study, body: BodyModel) -> None:
    """Layout, picture and labels of a partition of another size, made by the same stages."""
    profile = load_profile("pocket", {**SMALL, "crowds.batch_size": 2})
    snapshot = Snapshot(profile, study.store)
    first = STAGES[0]
    made = first.make(Inputs(first, profile, Listed(snapshot), Models(profile), KEYS["scene"])).rows
    assert made is not None
    kept = study.rows(first.key).select(made.column_names)
    assert made.sort_by("sample_id").equals(kept.slice(0, made.num_rows).cast(made.schema))


def test_stand_ins_and_scenes_share_no_family(study: Study, body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def spy(*args: Any, **more: Any) -> people.Cast:
        cast = people.draw_cast(*args, **more)
        drawn.extend(cast.families)
        return cast

    monkeypatch.setattr(stand_in, "draw_cast", spy)
    for k in range(4):
        stand_in.stand_in_photo(body, f"photos-0000/{k:06d}", study.profile.seed, 64)
    synthetic = {
        name for key in ("ds", "dm") for name in study.rows(f"{key}/scene_layouts").column("family").to_pylist()
    }
    assert drawn and synthetic and not set(drawn) & synthetic


def test_figures_count_images_whoever_is_left_out(study: Study) -> None:
    rows = study.rows("ds/scene_layouts")
    plain = rows.select(["image_id", "person", "people_drawn", "cam_pitch_deg"]).to_pylist()
    (image,) = {row["image_id"] for row in plain if row["image_id"].endswith("000001")}
    kept = [i for i, row in enumerate(plain) if not (row["image_id"] == image and row["person"] == 0)]
    assert len(kept) == rows.num_rows - 1 and any(plain[i]["image_id"] == image for i in kept)
    figures = scene_layouts.figures(rows.take(kept), study.profile)
    images = {row["image_id"]: row for row in plain}
    assert figures["images"] == len(images) and figures["people_placed"] == len(kept)
    assert figures["people_drawn"] == sum(row["people_drawn"] for row in images.values())
    wanted = np.mean([row["cam_pitch_deg"] for row in images.values()])
    assert figures["mean_camera_pitch_deg"] == pytest.approx(wanted, abs=1e-4)


def test_nobody_placed_and_nobody_annotated_are_no_fault(study: Study) -> None:
    assert list(placed_of(study.rows("ds/scene_layouts").slice(0, 0))) == []
    assert scene_layouts.figures(study.rows("ds/scene_layouts").slice(0, 0), study.profile)["images"] == 0
    rows, photo = study.rows("photos/photo_people"), "photos-0000/000099"
    own, people = people_of_photos(rows, [photo])[photo]
    assert (own.num_rows, len(people)) == (0, 0)
    placed = next(placed_of(study.rows("dm/scene_layouts")))
    columns = photo_columns("photos-0000", placed, own, np.zeros((128, 128), np.uint8))
    assert make_table(columns, SCHEMAS["scene_people"]).num_rows == 0


def test_masks_are_unpacked_where_they_are_asked_for_alone(study: Study) -> None:
    rows = study.rows("photos/photo_people")
    photos = set(rows.column("image_id").to_pylist())
    plain, full = people_of_photos(rows, photos), people_of_photos(rows, photos, masks=True)
    for photo in photos:
        texts = full[photo][0].column("person_mask").to_pylist()
        assert plain[photo][1].masks == [None] * len(texts)
        for text, mask in zip(texts, full[photo][1].masks, strict=True):
            assert mask is not None and np.array_equal(mask, decode_rle(json.loads(text)))


def test_people_of_a_mixture_are_the_synthetic_and_the_annotated(study: Study) -> None:
    annotated = study.rows("photos/photo_people").column("image_id").to_pylist()
    rows = study.rows("dm/scene_people").to_pylist()
    for image in {row["image_id"] for row in rows}:
        own = [row for row in rows if row["image_id"] == image]
        from_photo = [row for row in own if row["origin"] == "photo"]
        assert len(from_photo) == annotated.count(own[0]["photo_id"])
        assert sorted(row["person"] for row in own)[-1] < 99 and len({row["person"] for row in own}) == len(own)
    assert {row["origin"] for row in rows} == {"synthetic", "photo"}


def test_a_split_follows_from_the_content_alone_and_is_as_large_as_asked_for(study: Study) -> None:
    profile = load_profile("pocket", {"photos.val_share": 0.2, "photos.test_share": 0.3})
    found = [split_of(str(k).encode(), profile) for k in range(4000)]
    assert found == [split_of(str(k).encode(), profile) for k in range(4000)]
    for name, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        assert found.count(name) / 4000 == pytest.approx(share, abs=4 * np.sqrt(0.25 / 4000))
    for row in study.rows("photos/annotated_photos").to_pylist():
        assert row["split"] == split_of(row["image"], study.profile)


def test_ignored_people_of_a_photograph_are_marked(study: Study) -> None:
    photos = study.rows("photos/annotated_photos").to_pylist()
    assert {row["kind"] for row in photos} == {"stand_in"}
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

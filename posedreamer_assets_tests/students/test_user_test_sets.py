"""Test sets of the user's files as assets: checked, scored, shown, and made again when they change; students stay as they are."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.body.model import FREE_BODY_PATH, load_body
from posedreamer_assets.config import Profile, UserTestSet
from posedreamer_assets.errors import ConfigError, StudentError
from posedreamer_assets.export.records import sha256
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.student_study import student_key
from posedreamer_assets.report.students import section_of
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.students.outside import crop_about
from posedreamer_assets.tables.keys import group_of, is_reserved
from posedreamer_assets.tables.rows import array, bodies, cameras
from posedreamer_assets_tests.students.outside_files import MATRIX, coco_set, humandata_set, params_of, pixels_of
from posedreamer_assets_tests.students.small import make_stages
from posedreamer_assets_tests.students.test_planted_faults import outcomes

REMADE = (
    "user/benchmark_images",
    "training_manifests",
    "benchmark/student_features",
    "hmr_student",
    "student_scores",
    "hmr_benchmark",
)
COCO, BODIES = "bench-user-snaps-0000", "bench-user-lab-0000"


def with_sets(profile: Profile, *sets: UserTestSet) -> Profile:
    return replace(profile, students=replace(profile.students, test_sets=sets))


@pytest.fixture(scope="module")
def tested(
    study: tuple[LanceStore, Profile], tmp_path_factory: pytest.TempPathFactory
) -> tuple[LanceStore, Profile, list[tuple[str, str | None]], Path]:
    """The tiny study with two sets of the user's; what was made for them; the folder with their files."""
    place = tmp_path_factory.mktemp("user_sets")
    shutil.copytree(study[0].root, place / "storage")
    for name in ("snaps", "lab"):
        (place / name).mkdir()
    snaps = UserTestSet("snaps", "coco", str(coco_set(place / "snaps")), str(place / "snaps" / "images"), least_px=40)
    path = humandata_set(place / "lab", sha256(FREE_BODY_PATH))
    lab = UserTestSet("lab", "humandata", str(path), str(place / "lab" / "images"), least_px=40)
    store, profile = LanceStore(str(place / "storage")), with_sets(study[1], snaps, lab)
    return store, profile, make_stages(store, profile, REMADE), place


Tested = tuple[LanceStore, Profile, list[tuple[str, str | None]], Path]


def test_students_are_not_trained_again_for_a_new_test_set(tested: Tested) -> None:
    store, profile, made, _ = tested
    assert {name for name, _ in made} == {*REMADE} - {"hmr_student"}
    assert [key for name, key in made if name == "user/benchmark_images"] == [COCO, BODIES]
    snapshot = Snapshot(profile, store)
    for name in REMADE:
        stage = snapshot.graph[name]
        keys = planned_keys(profile, stage.groups) if stage.partitioned else [None]
        assert all(snapshot.is_current(stage, key) for key in keys), name
    assert make_stages(store, profile, REMADE) == []


def test_labels_of_the_own_body_are_exact_in_the_crop(tested: Tested) -> None:
    """Bodies of the table before the crop's camera are where the file's pixels go in the crop."""
    store, profile, _, _ = tested
    rows = store.read("benchmark_images", [BODIES])
    assert rows.column("labels").to_pylist() == ["body", "body"]
    seen = cameras(rows).project(load_body(None).joints(bodies(rows))[:, :22])
    for i in range(2):
        pixels = pixels_of(load_body(None).joints(params_of(i))[0, :22])
        box = np.array([*pixels.min(0), *np.ptp(pixels, axis=0)])
        crop = crop_about(box, MATRIX, profile.image.width, profile.image.height)
        assert np.allclose(seen[i], crop.points(pixels), atol=0.01)


def test_each_set_is_scored_by_what_its_labels_tell(tested: Tested) -> None:
    store, _, _, _ = tested
    rows = store.read("student_scores", [student_key("rendered", 0, 1)])
    of_set = np.array(rows.column("test_set").to_pylist())
    known = {
        name: np.isfinite(array(rows, name).astype(float)) for name in ("pve_mm", "pck10", "mpjpe_mm", "floor_pve_mm")
    }
    photos, lab, renders = (of_set == name for name in ("bench-user-snaps", "bench-user-lab", "bench-renders"))
    assert photos.sum() == 3 and lab.sum() == 2
    assert known["pck10"][photos].all() and not known["pve_mm"][photos].any() and not known["mpjpe_mm"][photos].any()
    for sets in (lab, renders):
        assert known["pve_mm"][sets].all() and known["floor_pve_mm"][sets].all() and not known["pck10"][sets].any()
    assert array(rows, "floor_pve_mm")[lab].max() < 1, "their hands and faces are at rest"


def test_scores_of_the_other_sets_stay_as_they_were(tested: Tested, study: tuple[LanceStore, Profile]) -> None:
    columns = ["test_sample_id", "pve_mm", "pa_mpjpe_mm", "orient_deg"]
    key = student_key("rendered", 0, 1)
    before, after = (store.read("student_scores", [key], columns).to_pylist() for store in (study[0], tested[0]))
    theirs = {row["test_sample_id"]: row for row in after}
    for row in before:
        for name in columns[1:]:  # other images beside them may change how sums round
            assert theirs[row["test_sample_id"]][name] == pytest.approx(row[name], rel=1e-4, abs=1e-3)


def test_they_are_shown_and_never_primary_by_themselves(tested: Tested) -> None:
    store, profile, _, _ = tested
    snapshot = Snapshot(profile, store)
    found = snapshot.checkpoint(snapshot.graph["hmr_benchmark"])
    assert found is not None
    figures = found.metrics
    assert figures["test_sets"]["bench-user-snaps"] == 3 and figures["test_sets"]["bench-user-lab"] == 2
    (primary,) = figures["primary"]
    assert primary["test"] == "bench-looks"
    shown = primary["sets"]["bench-user-snaps"]
    assert shown["metric"] == "missed10" and "% of keypoints" in shown["words"] and not shown["corrected"]
    assert primary["sets"]["bench-user-lab"]["metric"] == "pve_mm"
    assert {*figures["cells"]["rendered"]["bench-user-snaps"]} == {"pck05", "pck10", "pck10_aligned"}
    heads = [getattr(block, "columns", ()) for block in section_of(figures, pocket=True).blocks]
    assert ("bench-user-snaps", "PCK@0.05", "PCK@0.1", "PCK@0.1 aligned") in heads
    assert any(columns[:1] == ("bench-user-lab",) and "PVE" in columns for columns in heads)
    cells = next(columns for columns in heads if columns[:1] == ("recipe",))
    assert not any(str(one).startswith("bench-user") for one in cells)


def test_what_changes_in_a_set_makes_that_set_out_of_date_alone(tested: Tested) -> None:
    store, profile, _, place = tested

    def current(asked: Profile) -> dict[str, bool]:
        snapshot = Snapshot(asked, store)
        stage = snapshot.graph["user/benchmark_images"]
        return {key: snapshot.is_current(stage, key) for key in (COCO, BODIES)}

    snaps, lab = profile.students.test_sets
    assert current(profile) == {COCO: True, BODIES: True}
    shutil.copytree(place / "snaps", place / "moved", copy_function=shutil.copy2)
    moved = replace(snaps, path=str(place / "moved" / "people.json"), images=str(place / "moved" / "images"))
    assert current(with_sets(profile, moved, lab)) == {COCO: True, BODIES: True}, "moved files are the same files"
    assert current(with_sets(profile, replace(snaps, people=2), lab)) == {COCO: False, BODIES: True}
    os.utime(place / "moved" / "images" / "0.png", (1, 1))
    assert current(with_sets(profile, moved, lab)) == {COCO: False, BODIES: True}


def test_labels_that_are_not_there_are_caught(tested: Tested) -> None:
    store, profile, _, _ = tested
    rows = store.read("benchmark_images", [COCO])
    assert outcomes(store, profile, "benchmark_images", COCO, rows)["labels_are_there"]
    place = rows.schema.get_field_index("labels")
    for kind in ("pose", "mesh"):
        wrong = rows.set_column(place, rows.schema.field(place), pa.array([kind] * rows.num_rows))
        assert not outcomes(store, profile, "benchmark_images", COCO, wrong)["labels_are_there"]
    assert Surroundings(store, profile, "benchmark_images", COCO).body() is not None


@pytest.mark.parametrize(
    ("test_set", "error", "words"),
    [
        (UserTestSet("Bad Name", "coco", "x"), ConfigError, "name is 'Bad Name'"),
        (UserTestSet("a", "coco", "nowhere.json", "."), ConfigError, "nowhere.json does not exist"),
    ],
)
def test_a_set_that_cannot_be_is_told_before_anything_is_made(
    study: tuple[LanceStore, Profile], test_set: UserTestSet, error: type[Exception], words: str
) -> None:
    store, profile = study
    asked = with_sets(profile, test_set)
    with pytest.raises(error, match=words):
        snapshot = Snapshot(asked, store)
        stage = snapshot.graph["user/benchmark_images"]
        for key in planned_keys(asked, stage.groups):
            snapshot.input_digest(stage, key)


def test_a_set_without_anybody_large_enough_says_which_bounds(tested: Tested, tmp_path: Path) -> None:
    store, profile, _, _ = tested
    (tmp_path / "images").mkdir()
    page = json.loads(coco_set(tmp_path).read_text())
    (tmp_path / "people.json").write_text(json.dumps(page))
    small = UserTestSet("tiny", "coco", str(tmp_path / "people.json"), str(tmp_path / "images"), least_px=5000)
    with pytest.raises(StudentError, match="a box of 5000 pixels; lower least_keypoints or least_px"):
        make_stages(store, with_sets(profile, small), ("user/benchmark_images",))


def test_keys_of_user_sets_are_a_group_of_their_own() -> None:
    assert group_of(COCO) == "bench-user" and group_of("bench-renders-0000") == "bench"
    assert is_reserved("bench-user-snaps")

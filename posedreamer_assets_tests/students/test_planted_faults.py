"""A whole study, tiny: its checks pass, each planted fault is caught by the check that is named, and nothing is made twice."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.checks import run_checks
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import RecipeError, StudentError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.pipeline.student_study import student_key, student_of
from posedreamer_assets.report.students import section_of, students_section
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.runtime.foreign_students import export_test_images, score_predictions
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.runtime.recipe_export import ManifestReader
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.keys import group_of
from posedreamer_assets_tests.students.small import STUDENTS, make_stages, make_study

KEY = student_key("rendered", 0, 1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    """Its rows are only read."""
    return make_study(tmp_path_factory.mktemp("study"))


def _set(column: str, change: Callable[[Any], Any], row: int | None = 0) -> Callable[[pa.Table, LanceStore], pa.Table]:
    def plant(rows: pa.Table, store: LanceStore) -> pa.Table:
        values = rows.column(column).to_pylist()
        places = range(len(values)) if row is None else [row]
        for i in places:
            values[i] = change(values[i])
        place = rows.schema.get_field_index(column)
        return rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))

    return plant


def _of_test(column: str, field: str) -> Callable[[pa.Table, LanceStore], pa.Table]:
    """A value of a test image in the first row."""

    def plant(rows: pa.Table, store: LanceStore) -> pa.Table:
        value = store.read("benchmark_images", columns=[field]).column(field)[0].as_py()
        return _set(column, lambda _: value)(rows, store)

    return plant


def _mirrored(rotations: list[float]) -> list[float]:
    mirror = np.diag([-1.0, 1, 1])
    return (mirror @ np.array(rotations).reshape(22, 3, 3) @ mirror).ravel().tolist()


FAULTS = {
    "a test image in training": ("training_manifests", "no_test_image", _of_test("source_digest", "row_digest")),
    "a test sample in training": ("training_manifests", "no_test_sample", _of_test("source_sample_id", "sample_id")),
    "a test pose in training": ("training_manifests", "no_test_pose", _of_test("pose_group", "pose_group")),
    "an image that was painted again": ("training_manifests", "rows_exist", _set("source_digest", lambda _: "other")),
    "a sample less": ("training_manifests", "budget", lambda rows, store: rows.slice(1)),
    "a sample twice": (
        "training_manifests",
        "no_sample_twice",
        lambda rows, store: pa.concat_tables([rows.slice(0, 1), rows.slice(0, rows.num_rows - 1)]),
    ),
    "more steps than others": ("hmr_student", "equal_budget", _set("samples_seen", lambda seen: seen + 4)),
    "steps that do not add up": ("hmr_student", "steps_times_batch", _set("steps", lambda steps: steps + 1)),
    "a loss that rose": ("hmr_student", "loss_fell", _set("loss_last", lambda _: 1e6)),
    "scores on another body": ("student_scores", "same_body", _set("test_body_digest", lambda _: "other")),
    "errors of mirrored labels": (
        "student_scores",
        "scores_follow_predictions",
        _set("predicted_rotations", _mirrored),
    ),
    "errors of another student": ("student_scores", "scores_follow_predictions", _set("pve_mm", lambda mm: mm - 1)),
    "labels that the body cannot make": (
        "student_scores",
        "true_parameters_score_the_floor",
        _set("floor_pve_mm", lambda mm: mm + 60, None),
    ),
    "a test pose of the run": (
        "benchmark_images",
        "no_pose_of_a_run",
        lambda rows, store: _set(
            "pose_group", lambda _: store.read("pose_library", columns=["provenance"]).column("provenance")[0].as_py()
        )(rows, store),
    ),
}


def outcomes(store: LanceStore, profile: Profile, table: str, key: str, rows: pa.Table) -> dict[str, bool]:
    return {o.name: o.passed for o in run_checks(table, rows, Surroundings(store, profile, table, key))}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_by_its_check(study: tuple[LanceStore, Profile], name: str) -> None:
    store, profile = study
    table, check, plant = FAULTS[name]
    key = "bench-renders-0000" if table == "benchmark_images" else KEY
    rows = store.read(table, [key])
    assert outcomes(store, profile, table, key, rows)[check]
    assert not outcomes(store, profile, table, key, plant(rows, store))[check]


def test_the_pelvis_of_another_protocol_is_caught(study: tuple[LanceStore, Profile]) -> None:
    store, profile = study
    rows = store.read("student_scores", [KEY])
    other = replace(profile, students=replace(profile.students, pelvis="hips"))
    assert not outcomes(store, other, "student_scores", KEY, rows)["scores_follow_predictions"]


def test_everything_passed_its_checks_and_nothing_is_made_again(study: tuple[LanceStore, Profile]) -> None:
    store, profile = study
    snapshot = Snapshot(profile, store)
    for name in STUDENTS:
        stage = snapshot.graph[name]
        for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
            assert snapshot.is_current(stage, key), (name, key, snapshot.blocked_by(stage, key))
    assert make_stages(store, profile, STUDENTS) == []


def test_a_changed_recipe_makes_its_own_students_out_of_date_alone(
    study: tuple[LanceStore, Profile], tmp_path: Path
) -> None:
    store, profile = study
    text = Path(profile.students.study).read_text().replace("size: budget/2", "size: budget/4")
    (tmp_path / "changed.yaml").write_text(text)
    changed = replace(profile, students=replace(profile.students, study=str(tmp_path / "changed.yaml")))
    snapshot = Snapshot(changed, store)
    stage = snapshot.graph["hmr_student"]
    current = {key: snapshot.is_current(stage, key) for key in planned_keys(changed, stage.groups)}
    assert {student_of(key)[0] for key, ok in current.items() if not ok} == {"half"}


def test_the_same_student_again_has_the_same_weights(study: tuple[LanceStore, Profile]) -> None:
    store, profile = study
    snapshot = Snapshot(profile, store)
    stage = snapshot.as_run(snapshot.graph["hmr_student"])
    again = stage.make(Inputs(stage, profile, Listed(snapshot), Models(profile), KEY)).rows
    assert again is not None
    assert again.column("weights")[0].as_py() == store.read("hmr_student", [KEY]).column("weights")[0].as_py()


def test_seeds_of_a_draw_see_the_same_samples_and_recipes_start_from_the_same_seeds(
    study: tuple[LanceStore, Profile],
) -> None:
    store, _ = study
    rows = store.read("hmr_student", columns=["recipe", "training_seed", "seed", "manifest_digest"]).to_pylist()
    for recipe in ("generated", "rendered", "half"):
        assert len({row["manifest_digest"] for row in rows if row["recipe"] == recipe}) == 1
    for number in (0, 1):
        assert len({row["seed"] for row in rows if row["training_seed"] == number}) == 1


def test_without_a_study_there_are_no_students(study: tuple[LanceStore, Profile]) -> None:
    _, profile = study
    off = replace(profile, students=replace(profile.students, study="none"))
    assert not {stage.key for stage in graph_of(off)} & {*STUDENTS}
    assert planned_keys(off, ("student", "bench", "bench-generated")) == []
    missing = replace(profile, students=replace(profile.students, study="nothing-like-it"))
    with pytest.raises(RecipeError, match="pocket"):
        planned_keys(missing, ("student",))


def test_the_report_has_the_section_and_says_what_it_cannot_show(study: tuple[LanceStore, Profile]) -> None:
    store, profile = study
    snapshot = Snapshot(profile, store)
    section = students_section(snapshot)
    assert section is not None and section.title == "What the data is worth"
    assert "says nothing of photographs" in section.intro
    found = snapshot.checkpoint(snapshot.graph["hmr_benchmark"])
    assert found is not None
    figures = found.metrics
    assert figures["test_sets"] == {"bench-looks": 3, "bench-renders": 3, "bench-generated": 2}
    assert [one["name"] for one in figures["primary"]] == ["generated against rendered"]
    assert set(figures["primary"][0]["sets"]) == set(figures["test_sets"]), "a contrast is shown on every set"
    assert figures["recipes"]["half"]["images"] == figures["recipes"]["rendered"]["images"] // 2
    assert "says nothing" not in section_of(figures, pocket=False).intro


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("bench-looks-0000", "bench"),
        ("bench-generated-0000", "bench-generated"),
        ("student-no-filter-0102", "student"),
        ("procedural-0000", "base"),
    ],
)
def test_keys_of_students_are_of_no_round(key: str, group: str) -> None:
    assert group_of(key) == group


def test_another_network_is_scored_as_students_are(study: tuple[LanceStore, Profile], tmp_path: Path) -> None:
    """Predictions of the study's own student, taken out and read in again, get the very errors of its rows."""
    from scipy.spatial.transform import Rotation

    store, profile = study
    assert export_test_images(store, profile, tmp_path / "images") == 8
    with (tmp_path / "images" / "images.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert all((tmp_path / "images" / row["file"]).is_file() for row in listed)
    assert not {"betas", "body_pose", "global_orient"} & {*listed[0]}, "no labels"
    rows = store.read("student_scores", [KEY])
    turns = np.array(rows.column("predicted_rotations").to_pylist()).reshape(-1, 3, 3)
    pose = Rotation.from_matrix(turns).as_rotvec().reshape(-1, 66)
    ids = rows.column("test_sample_id").to_pylist()
    assert {row["sample_id"] for row in listed} == {*ids}
    arrays = {"sample_id": np.array(ids), "global_orient": pose[:, :3], "body_pose": pose[:, 3:]}
    betas = np.array(rows.column("predicted_betas").to_pylist())
    np.savez(tmp_path / "preds.npz", **arrays, betas=betas)  # type: ignore[arg-type]
    found = score_predictions(store, profile, "own", tmp_path / "preds.npz", tmp_path / "own.json")
    assert json.loads((tmp_path / "own.json").read_text()) == found
    for name, of in found["test_sets"].items():
        for metric in ("pve_mm", "pa_mpjpe_mm"):
            own = [row[metric] for row in rows.to_pylist() if row["test_set"] == name]
            assert of[metric]["mean"] == pytest.approx(np.mean(own), abs=0.01)
    some = {key: values[1:] for key, values in arrays.items()}
    np.savez(tmp_path / "some.npz", **some, betas=betas[1:])  # type: ignore[arg-type]
    with pytest.raises(StudentError, match="all of a set or none of it"):
        score_predictions(store, profile, "own", tmp_path / "some.npz", tmp_path / "some.json")


@pytest.mark.parametrize("recipe", ["generated", "rendered", "half"])
def test_a_recipe_is_exported_with_the_very_images_of_its_manifest(
    study: tuple[LanceStore, Profile], recipe: str
) -> None:
    store, profile = study
    reader = ManifestReader(store, profile, recipe)
    manifest = store.read("training_manifests", [student_key(recipe, 0, 0)])
    ids = sorted(manifest.column("source_sample_id").to_pylist())
    index = reader.index()
    assert index.column("image_id").to_pylist() == ids
    assert set(index.column("split").to_pylist()) == {"train"}
    table = manifest.column("table")[0].as_py()
    stored = store.take(table, ids, columns=["sample_id", "image", "row_digest"])
    assert index.column("image_digest").to_pylist() == stored.column("row_digest").to_pylist()
    images = {name: data for batch in reader.batches(ids) for name, data in batch.images.items()}
    assert [images[name] for name in ids] == stored.column("image").to_pylist()
    people = pa.concat_tables([batch.people for batch in reader.batches(ids)])
    poses = store.take("pose_library", ids, columns=["sample_id", "body_pose"])
    assert people.column("body_pose").to_pylist() == poses.column("body_pose").to_pylist()


def test_a_recipe_that_is_not_there_is_told(study: tuple[LanceStore, Profile]) -> None:
    with pytest.raises(StudentError, match="no recipe 'other' in study tiny; there are generated"):
        ManifestReader(*study, "other")

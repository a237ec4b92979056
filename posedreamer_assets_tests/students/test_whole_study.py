"""A whole study, tiny: nothing is made twice, what changed is made again, and others can score and train with it."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from posedreamer_assets.cli import students_command
from posedreamer_assets.config import WEIGHTS_DIR, Profile
from posedreamer_assets.digests import row_digests
from posedreamer_assets.errors import ExportError, RecipeError, StudentError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.pipeline.student_study import student_key, student_of
from posedreamer_assets.report import plots
from posedreamer_assets.report.students import section_of, students_section
from posedreamer_assets.runtime.foreign_students import export_test_images, score_predictions
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.runtime.recipe_export import ManifestReader
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import group_of
from posedreamer_assets_tests.students.small import STUDENTS, make_stages, with_study

KEY = student_key("rendered", 0, 1)


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
    changed = with_study(profile, tmp_path, text)
    snapshot = Snapshot(changed, store)
    stage = snapshot.graph["hmr_student"]
    current = {key: snapshot.is_current(stage, key) for key in planned_keys(changed, stage.groups)}
    assert {student_of(key)[0] for key, ok in current.items() if not ok} == {"half"}


def test_students_of_a_recipe_that_left_the_study_are_out_of_date_alone(
    study: tuple[LanceStore, Profile], tmp_path: Path
) -> None:
    """As after a large study and a small one in the same home."""
    store, profile = study
    lines = Path(profile.students.study).read_text().splitlines()
    fewer = with_study(
        profile, tmp_path, "\n".join(one for one in lines if "half" not in one and "exchange" not in one)
    )
    snapshot = Snapshot(fewer, store)
    for name in ("training_manifests", "hmr_student", "student_scores"):
        stage = snapshot.graph[name]
        current = {key: snapshot.is_current(stage, key) for key in snapshot.partitions(stage)}
        assert {student_of(key)[0] for key, ok in current.items() if not ok} == {"half"}
    assert not snapshot.is_current(snapshot.graph["hmr_benchmark"])


def test_other_weights_in_the_folder_of_the_init_make_features_out_of_date(
    study: tuple[LanceStore, Profile], tmp_path: Path
) -> None:
    store, profile = study
    init = tmp_path / "init"
    shutil.copytree(WEIGHTS_DIR / "ranker", init)
    text = Path(profile.students.study).read_text().replace("student: {", f"student: {{init: '{init}', ")
    own = with_study(profile, tmp_path, text)

    def digests(profile: Profile) -> list[str]:
        snapshot = Snapshot(profile, store)
        asked = (("base/student_features", "procedural-0000"), ("benchmark/student_features", "bench-looks-0000"))
        return [snapshot.input_digest(snapshot.graph[name], key) for name, key in asked]

    before = digests(own)
    assert digests(replace(own, ranker=replace(own.ranker, path="shipped:judge"))) == before, "the ranker is not read"
    weights = init / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert not {*digests(own)} & {*before}


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
    assert figures["test_sets"] == {"bench-looks": 5, "bench-renders": 5, "bench-generated": 2}
    assert [one["name"] for one in figures["primary"]] == ["generated against rendered"]
    assert set(figures["primary"][0]["sets"]) == set(figures["test_sets"]), "a contrast is shown on every set"
    (tested,) = figures["primary"]
    own = tested["sets"][tested["test"]]
    assert own["corrected"] and own["told"] == (tested["p_holm"] <= 0.05 and own["low"] * own["high"] > 0)
    assert "after Holm's correction" in own["words"]
    others = [one for name, one in tested["sets"].items() if name != tested["test"]]
    others += [one for contrast in figures["exploratory"] for one in contrast["sets"].values()]
    assert len(others) == 5
    assert all("without correction" in one["words"] and not one["corrected"] for one in others)
    assert figures["recipes"]["half"]["images"] == figures["recipes"]["rendered"]["images"] // 2
    assert "says nothing" not in section_of(figures, pocket=False).intro
    other = {
        **figures,
        "exploratory": [
            {**one, "sets": {name: {**of, "metric": "pa_pve_mm"} for name, of in one["sets"].items()}}
            for one in figures["exploratory"]
        ],
    }
    with mock.patch.object(plots, "forest", wraps=plots.forest) as drawn:
        section_of(other, pocket=False)
    labels = [call.kwargs["label"] for call in drawn.call_args_list]
    assert labels == ["difference of PVE, mm", "difference of PA-PVE, mm"]


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
    assert export_test_images(store, profile, tmp_path / "images") == 12
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


@pytest.mark.parametrize(
    ("recipe", "tables"),
    [
        ("generated", ("raw_generations", "filtered_dataset")),
        ("rendered", ("rendered_scenes", "pose_library", "control_maps")),
    ],
)
def test_an_export_is_of_the_versions_that_it_names(
    study: tuple[LanceStore, Profile], tmp_path: Path, recipe: str, tables: tuple[str, ...]
) -> None:
    """Images that are made again meanwhile are not mixed with labels of before."""
    shutil.copytree(study[0].root, tmp_path / "storage")
    store, profile = LanceStore(str(tmp_path / "storage")), study[1]
    reader = ManifestReader(store, profile, recipe)
    versions = {name: store.version(name) for name in ("training_manifests", *tables)}
    assert reader.versions == versions
    other = ManifestReader(store, profile, recipe)
    ids = other.index().column("image_id").to_pylist()
    before = list(other.batches(ids))
    for table in tables:
        for key in store.partitions(table):
            rows = store.read(table, [key], SCHEMAS[table].names)
            turned = rows.take(pa.array(range(rows.num_rows)[::-1]))
            for name in ("sample_id", "image_id"):
                turned = turned.set_column(
                    rows.schema.get_field_index(name), rows.schema.field(name), rows.column(name)
                )
            store.replace_partition(table, key, turned, input_digest="other")
    assert {name: store.version(name) for name in versions} != versions
    for old, new in zip(before, reader.batches(ids), strict=True):
        assert old.images == new.images and row_digests(old.people) == row_digests(new.people)


def test_a_recipe_is_exported_by_the_command_as_the_dataset_is(
    study: tuple[LanceStore, Profile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, profile = study
    home = SimpleNamespace(store=lambda: store, profile=lambda: profile)
    monkeypatch.setattr(students_command, "find_home", lambda _: home)
    asked = ["export", "half", "--format", "humandata", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(students_command.students, asked, catch_exceptions=False)
    assert "samples of recipe half, draw 0, 1 shards written, 0 complete before" in result.output
    assert "humandata: " in result.output, "what the format cannot hold"
    notes = (tmp_path / "out" / "train.md").read_text()
    assert "trainset_humandata = ['PoseDreamerHalf']" in notes and "data_strategy = 'balance'" in notes
    with pytest.raises(ExportError, match="unknown format 'other'"):
        asked[3] = "other"
        CliRunner().invoke(students_command.students, asked, catch_exceptions=False)


def test_a_recipe_that_is_not_there_is_told(study: tuple[LanceStore, Profile]) -> None:
    with pytest.raises(StudentError, match="no recipe 'other' in study tiny; there are generated"):
        ManifestReader(*study, "other")

"""A whole study, tiny: its checks pass, and each planted fault is caught by the check that is named."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.checks import run_checks
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import StudentError
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.pipeline.student_study import student_key, student_of
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.students.small import Changed, with_study

KEY = student_key("rendered", 0, 1)


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
    **{
        f"a camera far from a {kind} body": (
            "benchmark_images",
            check,
            lambda rows, store, cut=cut: _set(
                "cam_translation", lambda at: [at[0] + 5, *at[1:]], rows.column("truncated").to_pylist().index(cut)
            )(rows, store),
        )
        for kind, check, cut in (("whole", "body_in_frame", False), ("cut", "cut_body_in_frame", True))
    },
    "a test image from a seed of the run": (
        "benchmark_images",
        "seed_apart",
        lambda rows, store: _set(
            "seed", lambda _: store.read("pose_library", columns=["seed"]).column("seed")[0].as_py()
        )(rows, store),
    ),
}


def benchmark_of(
    store: LanceStore, profile: Profile, folder: Path, table: str, change: Callable[[pa.Table], pa.Table]
) -> Mapping[str, Any]:
    """Figures of the benchmark where one of its tables holds something else."""
    snapshot = Snapshot(profile, store)
    stage = snapshot.graph["hmr_benchmark"]
    inputs = Inputs(stage, profile, Changed(snapshot, table, change), Models(profile), folder=folder)
    return stage.make(inputs).figures


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


def test_sizes_of_the_curve_that_are_not_nested_are_caught(study: tuple[LanceStore, Profile], tmp_path: Path) -> None:
    store, profile = study

    def foreign(rows: pa.Table) -> pa.Table:
        ids = rows.column("sample_id").to_pylist()
        row = next(i for i, name in enumerate(ids) if student_of(name.partition("/")[0])[0] == "half")
        return _set("source_sample_id", lambda _: "procedural-9999/000000", row)(rows, store)

    rows = store.read("checkpoints", filter="name = 'hmr_benchmark'")
    around = Surroundings(store, profile, "checkpoints", None)
    for change, nested in ((lambda rows: rows, True), (foreign, False)):
        figures = benchmark_of(store, profile, tmp_path, "training_manifests", change)
        planted = _set("metrics", lambda _, figures=figures: json.dumps(figures))(rows, store)
        assert {o.name: o.passed for o in run_checks("hmr_benchmark", planted, around)}["sizes_are_nested"] is nested


def test_a_contrast_on_a_test_set_without_images_is_told(study: tuple[LanceStore, Profile], tmp_path: Path) -> None:
    store, profile = study
    text = (
        Path(profile.students.study)
        .read_text()
        .replace("b: rendered}]\nexp", "b: rendered, test: bench-generated}]\nexp")
    )
    asked = with_study(profile, tmp_path, text)

    def without(rows: pa.Table) -> pa.Table:
        return rows.filter(pa.array([name != "bench-generated" for name in rows.column("test_set").to_pylist()]))

    with pytest.raises(StudentError, match=r"bench-generated, which has no images; .*students\.test_generated"):
        benchmark_of(store, asked, tmp_path, "student_scores", without)
    figures = benchmark_of(store, asked, tmp_path, "student_scores", lambda rows: rows)
    assert figures["primary"][0]["test"] == "bench-generated"


def test_the_pelvis_of_another_protocol_is_caught(study: tuple[LanceStore, Profile]) -> None:
    store, profile = study
    rows = store.read("student_scores", [KEY])
    other = replace(profile, students=replace(profile.students, pelvis="hips"))
    assert not outcomes(store, other, "student_scores", KEY, rows)["scores_follow_predictions"]

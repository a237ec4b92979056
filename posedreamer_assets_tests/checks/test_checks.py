"""Each kind of data check catches a planted fault and passes clean rows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.checks import (
    KINDS,
    CheckOutcome,
    load_checks,
    run_checks,
)
from posedreamer_assets.checks.labels import _KEYPOINTS, joint_positions
from posedreamer_assets.checks.trends import _same_mean, _same_shares
from posedreamer_assets.errors import CheckError
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import encode_jpeg, encode_png
from posedreamer_assets_tests.checks.small_rows import (
    AROUND,
    IDS,
    KEY,
    SIZE,
    CleanAround,
    N,
    failed,
    one,
    picture,
    rows_of,
    run_test,
    vectors,
    write_file,
)
from posedreamer_assets_tests.planted_faults.faults import FAULTS
from posedreamer_assets_tests.scenes.faults import FAULTS as SCENE_FAULTS

CASES: list[tuple[str, str | None, dict[str, list[Any]], dict[str, list[Any]]]] = [
    ("row_count: {min: 6, max: 6}", None, {}, {}),
    ("unique_combination: {columns: [partition_key, people]}", None, {"people": [*range(6)]}, {"people": [1, 2, 3, 3, 5, 6]}),
    ("all_not_null: {columns: [detected, people]}", None, {}, {"people": [1, 1, None, 1, 1, 1]}),
    ('expression_is_true: {expression: "people > 1 or oks <= 0.9"}', None, {"oks": [0.5] * 6}, {"oks": one(0.95, [0.5] * 6)}),
    ("not_null", "oks", {}, {"oks": one(None, [0.5] * 6)}),
    ("unique", "people", {"people": [*range(6)]}, {"people": [0, 1, 2, 2, 4, 5]}),
    ("accepted_values: {values: [1, 2]}", "people", {}, {"people": one(3, [1] * 6)}),
    ("between: {min: 0.5}", "oks", {"oks": [0.5] * 6}, {"oks": one(0.49, [0.5] * 6)}),
    ("between: {max: 0.5}", "oks", {"oks": one(None, [0.5] * 6)}, {"oks": one(0.51, [0.5] * 6)}),
    ("between: {min: 0.5, mostly: 0.8}", "oks", {"oks": one(0.1, [0.5] * 6)}, {"oks": [0.1, 0.1, 0.5, 0.5, 0.5, 0.5]}),
    ('between: {min: 0.5, where: "people == 1"}', "oks", {"people": [2] * 6, "oks": [0.1] * 6}, {"oks": one(0.1, [0.9] * 6)}),
    ("mean_between: {min: 0.4, max: 0.6}", "oks", {"oks": [0.0, 1.0] * 3}, {"oks": [0.0, 1.0, 1.0] * 2}),
    ('matches: {regex: "^p.*[0-9]$"}', "partition_key", {}, {"partition_key": one("q-0000", [KEY] * 6)}),
    ("relationships: {to: dataset, field: sample_id}", "sample_id", {}, {"sample_id": one("x", IDS)}),
    (
        "relationships: {to: filtered_dataset, field: image_digest, by: image_id}",
        "image_digest",
        {},
        {"image_digest": [f"digest-{i}" for i in (1, 0, 2, 3, 4, 5)]},
    ),
    ("finite", "oks", {"oks": one(None, [0.5] * 6)}, {"oks": one(float("inf"), [0.5] * 6)}),
    ("finite", "detected", {}, {"detected": one([float("nan")] * 51, vectors(51))}),
    ("finite", "detected", {"detected": one(None, vectors(51))}, {}),
    ("values_between: {min: 0, max: 1}", "detected", {}, {"detected": one([0.5] * 50 + [1.5], vectors(51))}),
    ("norm_between: {max: 0.9, parts: 3}", "detected", {}, {"detected": one([0.5] * 48 + [0.6, 0.6, 0.6], vectors(51))}),
    ("stdev_between: {min: 0.1}", "oks", {"oks": [0.0, 1.0] * 3}, {"oks": [0.5] * 6}),
    ("quantile_between: {quantile: 0.5, min: 0.4, max: 0.6}", "oks", {"oks": [0.0, 0.5, 0.5, 0.5, 0.5, 1.0]}, {"oks": [0.9] * 6}),
    ("distinct_between: {min: 2}", "people", {"people": [1, 2] * 3}, {"people": [1] * 6}),
    ("share_between: {values: [2], max: 0.2}", "people", {"people": one(2, [1] * 6)}, {"people": [1, 2] * 3}),
    ("constant", "people", {}, {"people": one(2, [1] * 6)}),
    ("unique_content", "detected", {"detected": [[float(i)] * 51 for i in range(6)]}, {}),
    ("unique_content", "detected", {"detected": [[float(i)] * 51 for i in range(6)]}, {"detected": vectors(51)}),
    ("json_between: {path: a.b, max: 2}", "metrics", {"metrics": ['{"a": {"b": 2}}'] * 6}, {"metrics": ['{"a": {}}'] * 6}),
    (
        "json_between: {path: a, max: 2, unless: {b: none}}",
        "metrics",
        {"metrics": ['{"a": 2}', '{"b": "none"}', *['{"a": 1, "b": "x"}'] * 4]},
        {"metrics": ['{"b": "x"}'] * 6},
    ),
    ("json_between: {path: a, max: 2}", "metrics", {"metrics": ['{"a": 2}'] * 6}, {"metrics": ['{"a": NaN}'] * 6}),
    ("same_length: {column: candidate_oks}", "candidate_seeds", {}, {"candidate_seeds": one([1], [[1, 2]] * 6)}),
    ("covers: {to: dataset}", None, {}, {"sample_id": one("x", IDS)}),
    ("same_in: {to: dataset, columns: [oks]}", None, {}, {"oks": one(0.91, [0.9] * 6)}),
    ("round_of_key", "round", {"partition_key": ["hard2-0007"] * 6, "round": ["hard2"] * 6}, {"round": ["hard"] * 6}),
    (
        "known_reason",
        "reason",
        {"reason": ["kept", "low_oks", "no_person", None, "kept", "kept"]},
        {"reason": one("blurry", ["kept"] * 6)},
    ),
    ("predicted_in_hard_rounds", "predicted_oks", {}, {"predicted_oks": one(0.4, [None] * 6)}),
    (
        "predicted_in_hard_rounds",
        "predicted_oks",
        {"partition_key": ["align-hard-0000"] * 6},
        {"partition_key": one("hard-0000", [KEY] * 6)},
    ),
    (
        "predicted_in_hard_rounds",
        "predicted_oks",
        {"partition_key": ["hard3-0001"] * 6, "predicted_oks": [0.4] * 6},
        {"partition_key": ["hard3-0001"] * 6, "predicted_oks": one(None, [0.4] * 6)},
    ),
    ("norm_between: {min: 3.5, max: 3.6}", "detected", {}, {"detected": one([0.5] * 48 + [0.6] * 3, vectors(51))}),
]  # fmt: skip


TABLE_OF = {
    "metrics": "checkpoints",
    "candidate_seeds": "preference_pairs",
    "round": "raw_generations",
    "reason": "filtered_dataset",
    "image_digest": "dataset",
    "predicted_oks": "pose_library",
}


@pytest.mark.parametrize(("test", "column", "good", "bad"), CASES)
def test_each_kind_passes_clean_rows_and_catches_a_fault(
    tmp_path: Path, test: str, column: str | None, good: dict[str, list[Any]], bad: dict[str, list[Any]]
) -> None:
    if test.startswith("expression"):
        test = test.replace("{", "{name: expression, ")
    table = TABLE_OF.get(column or "", "sample_scores")
    assert run_test(tmp_path, test, column, table, AROUND, **good).passed
    if bad:
        assert not run_test(tmp_path, test, column, table, AROUND, **bad).passed


def test_a_value_of_another_row_is_in_the_table_and_not_in_the_row_that_is_named(tmp_path: Path) -> None:
    exchanged = [f"digest-{i}" for i in (1, 0, 2, 3, 4, 5)]
    of_any = "relationships: {to: filtered_dataset, field: image_digest}"
    assert run_test(tmp_path, of_any, "image_digest", "dataset", image_digest=exchanged).passed
    of_own = of_any.replace("}", ", by: image_id}")
    assert run_test(tmp_path, of_own, "image_digest", "dataset", image_digest=exchanged).failing_ids == (IDS[0], IDS[1])
    second = [f"{name}/01" for name in IDS]
    assert run_test(tmp_path, of_own, "image_digest", "dataset", sample_id=second, person=[1] * N).passed


@pytest.mark.parametrize("table", ["sample_scores", "filtered_dataset", "dataset"])
def test_two_people_of_one_image_are_no_fault_and_two_images_of_one_digest_are(table: str) -> None:
    def people_of(name: str) -> pa.Table:
        given: dict[str, list[Any]] = {
            "sample_id": [IDS[0], f"{IDS[0]}/01", *IDS[2:]],
            "image_id": [IDS[0], IDS[0], *IDS[2:]],
            "person": [0, 1] + [0] * (N - 2),
        }
        rows = rows_of(name)
        for shared in {"image_digest", "seed"} & {*rows.column_names}:
            values = rows.column(shared).to_pylist()
            given[shared] = [values[0], values[0], *values[2:]]
        return rows_of(name, **given)

    class Around(CleanAround):
        def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
            without_second = pa.array([i != 1 for i in range(N)])
            found = people_of(table) if "person" in SCHEMAS[table].names else rows_of(table).filter(without_second)
            digests = [f"digest-{IDS.index(image)}" for image in found.column("image_id").to_pylist()]
            return found.append_column("row_digest", pa.array(digests)).select(list(columns))

    rows = people_of(table)
    names = {"images_unique", "seeds_unique", "image_is_the_generated_one", "image_was_generated"}
    lineage = names | {"relationships__sample_id", "unique__sample_id", "no_image_is_missing", "matches__sample_id"}
    outcomes = run_checks(table, rows, Around())
    assert len([o for o in outcomes if o.name in lineage]) >= 5
    assert not lineage & {*failed(outcomes)}
    if table != "sample_scores":
        apart = rows.set_column(
            rows.schema.get_field_index("person"), rows.schema.field("person"), pa.array([0] * N, pa.int32())
        )
        assert {"images_unique", "seeds_unique"} <= {*failed(run_checks(table, apart, Around()))}


def test_row_count_catches_too_few_and_too_many(tmp_path: Path) -> None:
    assert not run_test(tmp_path, "row_count: {min: 7}").passed
    assert not run_test(tmp_path, "row_count: {max: 5}").passed


@pytest.mark.parametrize("kept", [0, 2])
def test_a_dataset_without_rows_is_good_where_the_filter_kept_nothing(kept: int) -> None:
    class Around(CleanAround):
        def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
            verdicts = {"keep": [i < kept for i in range(N)]} if table == "filtered_dataset" else {}
            return rows_of(table, **verdicts).select(list(columns))

    found = failed(run_checks("dataset", rows_of("dataset").slice(0, 0), Around()))
    assert {name: o.failing_ids for name, o in found.items()} == (
        {"no_kept_sample_is_missing": tuple(IDS[:kept])} if kept else {}
    )


def test_image_checks_read_declared_sizes_and_modes(tmp_path: Path) -> None:
    table, sized = "control_maps", "image_decodes: {sized: true, modes: [RGB]}"
    jpeg = encode_jpeg(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    assert run_test(tmp_path, sized, "control", table=table, control=[jpeg] * N).passed
    assert not run_test(tmp_path, sized, "control", table=table, control=[picture("L")] * N).passed
    assert not run_test(tmp_path, sized, "control", table=table, width=[SIZE[0] + 1] * N).passed
    assert run_test(tmp_path, "image_decodes", "control", table=table, width=[SIZE[0] + 1] * N).passed


@pytest.mark.parametrize(("pick", "other"), [("winner", "loser"), ("loser", "winner")])
def test_of_a_list_of_images_the_picked_one_is_looked_at(tmp_path: Path, pick: str, other: str) -> None:
    picked = [i % 2 for i in range(N)]
    own = [encode_png(np.full((SIZE[1], SIZE[0], 3), 20 * i, np.uint8)) for i in range(N)]

    def run(test: str, images: list[bytes], besides: bytes = b"broken", numbers: list[Any] = picked) -> CheckOutcome:
        pairs = [[image, besides] if at == 0 else [besides, image] for image, at in zip(images, picked, strict=True)]
        chosen = {pick: numbers, other: [1 - i for i in picked]}
        return run_test(tmp_path, test, "candidate_images", table="preference_pairs", candidate_images=pairs, **chosen)

    decodes, unique = f"image_decodes: {{pick: {pick}, modes: [RGB]}}", f"unique_content: {{pick: {pick}}}"
    assert run(decodes, own).passed
    assert run(unique, own).passed, "what lies beside the picked ones is the same everywhere"
    assert run(decodes, one(b"broken", own), own[0]).failing_ids == (IDS[2],)
    assert run(unique, one(own[4], own), own[0]).failing_ids == (IDS[2], IDS[4])
    assert run(decodes, own, numbers=one(None, picked)).passed, "nothing was picked"


OF_STUDENTS = (
    "nowhere_in",
    "sources_exist",
    "as_many_as",
    "seen_as_planned",
    "scores_follow_predictions",
    "labels_are_there",
    "far_from_tests",
)
"""Tested in `students/`: by faults in a study, and in `test_user_test_sets.py` and `test_near_poses.py`."""
OF_BACKGROUNDS = ("background_verdict_follows",)
"""Tested by faults in `scenes/test_backgrounds.py`."""
OF_ARMS = (
    "half_and_half",
    "frozen_layers_kept",
    "in_split",
    "covers_split",
    "joints_for_people",
    "eq2_followed",
    "cells_have_intervals",
)
"""Tested by faults in the networks of arms, see `arms/test_planted_faults.py`."""


def test_every_kind_is_tested_here_or_by_a_planted_fault() -> None:
    by_name = {(table, c.name): c.kind for table, loaded in load_checks().items() for c in loaded.checks}
    used = {test.split(":")[0] for test, *_ in CASES} | {by_name[f.table, f.check] for f in FAULTS}
    used |= {by_name[f.table, f.check] for f in SCENE_FAULTS}
    assert set(KINDS) - used - {*OF_STUDENTS, *OF_BACKGROUNDS, *OF_ARMS} == {
        "checkpoint_intact"
    }  # it has a test of its own


def test_a_person_that_fits_another_label_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 100, (N, 17, 2))
    maps = rows_of("control_maps", keypoints_2d=labels.reshape(N, 34).tolist(), body_pixels=[2000] * N)

    class Around(CleanAround):
        def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
            return maps.select(list(columns))

    def seen(order: list[int]) -> list[list[float]]:
        points = np.concatenate([labels[order], np.ones((N, 17, 1))], axis=2)
        return points.reshape(N, 51).tolist()

    test = "fits_own_label: {to: control_maps, own: 0.3, other: 0.7}"
    assert run_test(tmp_path, test, around=Around(), detected=seen([*range(N)])).passed
    swapped = run_test(tmp_path, test, around=Around(), detected=seen([0, 2, 1, 3, 4, 5]))
    assert swapped.failing_ids == (IDS[1], IDS[2])


def _bodies(side: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Silhouettes of two overlapping boxes each, no two alike and none symmetric: (side, side)."""
    found = []
    for place in rng.permutation(N):
        inside = np.zeros((side, side), bool)
        top, left = side // 8 + place * side // 24, side // 8 + (place * 5 % N) * side // 24
        inside[top : top + side // 3, left : left + side // 6] = True
        inside[top + side // 4 : top + side // 3, left : left + side // 3] = True
        found.append(inside)
    return found


@pytest.mark.parametrize("side", [128, 512])
@pytest.mark.parametrize("off", [0.0, 1.0, 4.0])
def test_cloth_may_stand_a_little_off_the_outline(tmp_path: Path, side: int, off: float) -> None:
    """`off` is how far, in 128ths of the image; a background of noise has edges everywhere."""
    rng = np.random.default_rng(side)
    bodies = _bodies(side, rng)
    reach = round(off * side / 128)
    dressed = [binary_dilation(body, np.ones((3, 3)), iterations=reach) if reach else body for body in bodies]
    images = [(rng.integers(0, 40, (side, side, 3)) + 160 * shape[..., None]).astype(np.uint8) for shape in dressed]

    class Around(CleanAround):
        def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
            silhouettes = [encode_png((body * 255).astype(np.uint8)) for body in bodies]
            return rows_of(table, silhouette=silhouettes).select(list(columns))

    def fail(pictures: list[np.ndarray]) -> tuple[str, ...]:
        blobs = [encode_png(np.ascontiguousarray(picture)) for picture in pictures]
        test = "outline_in_image: {to: control_maps}"
        return run_test(tmp_path, test, "image", "raw_generations", Around(), image=blobs).failing_ids

    if off > 1:
        assert fail(images), "a body that is drawn elsewhere is no cloth"
        return
    assert fail(images) == ()
    assert fail([images[1], images[0], *images[2:]]) == (IDS[0], IDS[1])
    assert fail([picture[::-1] for picture in images]) == tuple(IDS)
    assert fail([picture[:, ::-1] for picture in images]) == tuple(IDS)


@pytest.mark.parametrize("pose_shapes", [False, True])
def test_points_of_bodies_are_those_of_the_whole_mesh(pose_shapes: bool) -> None:
    rng = np.random.default_rng(0)
    body = load_body(None)
    if pose_shapes:
        body = dataclasses.replace(body, posedirs=rng.normal(0, 1e-3, (486, body.v_template.size)).astype(np.float32))
    zero = BodyParams.zeros(3).to_flat()
    params = BodyParams.from_flat({name: rng.normal(0, 0.4, v.shape).astype(np.float32) for name, v in zero.items()})
    whole = body.forward(params)
    found = joint_positions(body, params)
    np.testing.assert_allclose(found[:, :55], whole.joints[:, :55], atol=1e-5)
    np.testing.assert_allclose(found[:, _KEYPOINTS], whole.joints[:, COCO17_FROM_SMPLX], atol=1e-5)


def test_a_changed_checkpoint_file_is_named(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "storage")
    made = store.write_checkpoint("body_model", "d", lambda f: {"n": (f / "a").write_text("1")}, input_digest="d")
    tests = Path(tmp_path / "files")
    tests.mkdir()
    write_file(tests, "      - checkpoint_intact\n", table="body_model")
    rows = store.read("checkpoints")
    assert failed(run_checks("body_model", rows, Surroundings(store, None, "checkpoints", None), folder=tests)) == {}
    (made.path / "a").write_text("2")
    assert failed(run_checks("body_model", rows, Surroundings(store, None, "checkpoints", None), folder=tests))


def test_neighbouring_64_bit_seeds_beside_nulls_are_told_apart(tmp_path: Path) -> None:
    seeds = [2**62, 2**62 + 1, None, 2**62 + 2, 2**62 + 3, 2**62 + 4]
    assert run_test(tmp_path, "unique", "seed", table="dataset", seed=seeds).passed


TREND = "steady: {least: 0.05}"


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.05, 0.4))
@settings(max_examples=200, deadline=None)
def test_batches_of_one_distribution_are_steady(seed: int, batches: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    now, *then = (rng.normal(0.5, spread, 64) for _ in range(batches + 1))
    # Four standard errors are left by chance about once in 15,000 batches.
    assert _same_mean(now, then, 6.0, 0.0).value < 6.0


def test_a_drifted_mean_warns_and_a_small_or_unsure_one_does_not(tmp_path: Path) -> None:
    earlier = CleanAround(*[rows_of("sample_scores", oks=[0.6, 0.7, 0.8, 0.6, 0.7, 0.8])] * 3)
    assert run_test(tmp_path, TREND, "oks", around=earlier, oks=[0.65, 0.75, 0.8, 0.6, 0.7, 0.7]).passed
    low = run_test(tmp_path, TREND, "oks", around=earlier, oks=[0.1, 0.2, 0.1, 0.15, 0.1, 0.2])
    assert not low.passed
    assert "0.7 in 3 batches before" in low.observed
    assert run_test(tmp_path, "steady: {least: 0.9}", "oks", around=earlier, oks=[0.1] * 6).passed
    assert run_test(tmp_path, TREND, "oks", oks=[0.1] * 6).observed == "no earlier batch to compare with"


def test_batches_that_always_differed_may_go_on_doing_so() -> None:
    rng = np.random.default_rng(0)
    means = (0.3, 0.7, 0.4, 0.6, 0.35, 0.65)
    then = [rng.normal(mean, 0.01, 500) for mean in means]
    assert _same_mean(rng.normal(0.68, 0.01, 500), then, 4.0, 0.0).value < 4.0
    assert _same_mean(rng.normal(0.68, 0.01, 500), [then[0]] * 6, 4.0, 0.0).value > 4.0


def test_shares_that_moved_are_named_with_the_value_that_moved_most() -> None:
    then = [["sit"] * 30 + ["run"] * 30 + ["walk"] * 30] * 2
    found = _same_shares(["sit"] * 5 + ["run"] * 55 + ["walk"] * 30, then, 4.0, 0.1)
    assert found.value > 4.0
    assert "most at run (0.33 to 0.61)" in found.text or "most at sit (0.33 to 0.056)" in found.text
    assert _same_shares(["sit"] * 32 + ["run"] * 28 + ["walk"] * 30, then, 4.0, 0.0).value < 4.0
    assert _same_shares(["sit"] * 5, [["sit"] * 9], 4.0, 0.0).text == "sit throughout"


def test_rows_without_a_tested_column_are_an_error() -> None:
    with pytest.raises(CheckError, match="checks of 'sample_scores' need column 'oks'"):
        run_checks("sample_scores", rows_of("sample_scores").drop_columns(["oks"]), AROUND)

"""Data checks: each kind catches a planted fault and passes clean rows; mistakes in a file are named by line."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from scipy.spatial.transform import Rotation

from posedreamer_assets import checks
from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.checks import (
    CHECKPOINT_ASSETS,
    KINDS,
    CheckOutcome,
    load_checks,
    load_table_checks,
    mistakes,
    run_checks,
)
from posedreamer_assets.checks.labels import _KEYPOINTS, joint_positions
from posedreamer_assets.checks.trends import _same_mean, _same_shares
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import BODY_COLUMNS, SCHEMAS
from posedreamer_assets.tables.images import encode_jpeg, encode_png
from posedreamer_assets.tables.keys import round_name, sample_id
from posedreamer_assets_tests.planted_faults.faults import FAULTS

KEY = "procedural-0000"
N = 6
IDS = [sample_id(KEY, i) for i in range(N)]
SIZE = (32, 24)  # width, height in pixels


def _picture(mode: str = "RGB", size: tuple[int, int] = SIZE) -> bytes:
    width, height = size
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return encode_png(np.zeros(shape, np.uint16 if mode == "I;16" else np.uint8))


def _vectors(width: int, value: float = 0.5) -> list[list[float]]:
    return [[value] * width] * N


def _clean(table: str) -> dict[str, list[Any]]:
    """Rows of any table with which all its checks should be content."""
    values: dict[str, list[Any]] = {
        "sample_id": IDS,
        "image_id": IDS,
        "person": [0] * N,
        "partition_key": [KEY] * N,
        "source": ["procedural"] * N,
        "family": ["walk"] * N,
        "provenance": ["procedural/walk"] * N,
        "licence": ["CC0-1.0"] * N,
        "seed": [2**62 + i for i in range(N)],
        "split": ["train"] * N,
        **{name: _vectors(width, 0.1) for name, width in BODY_COLUMNS.items()},
        "cam_rotation": Rotation.random(N, np.random.default_rng(0)).as_matrix().reshape(N, 9).tolist(),
        "cam_translation": _vectors(3),
        "focal_px": [100.0] * N,
        "principal_px": _vectors(2, 64.0),
        "width": [SIZE[0]] * N,
        "height": [SIZE[1]] * N,
        "cam_pitch_deg": [10.0] * N,
        "cam_roll_deg": [0.0] * N,
        "truncated": [False] * N,
        "caption": ["a person walking"] * N,
        "appearance": ['{"top": "red"}'] * N,
        "predicted_oks": [None] * N,
        "path": ["checkpoints/dpo/abc" if table == "checkpoints" else "clips/a.bvh"] * N,
        "reason": ["truncated" if table == "quarantine" else "kept"] * N,
        "detail": ["ends early"] * N,
        "folder": ["/mocap"] * N,
        "size": [100] * N,
        "mtime_ns": [1] * N,
        "digest": ["abc"] * N,
        "part": [0] * N,
        **{name: [_picture()] * N for name in ("control", "normals", "image")},
        "depth": [_picture("I;16")] * N,
        **{name: [_picture("L")] * N for name in ("parts", "silhouette")},
        "joints_2d": _vectors(110),
        "joints_visible": [[True] * 55] * N,
        "joints_cam_m": _vectors(165),
        "keypoints_2d": _vectors(34),
        "keypoints_visible": [[True] * 17] * N,
        "keypoints_in_frame": [[True] * 17] * N,
        "bbox": _vectors(4, 5.0),
        "body_pixels": [200] * N,
        "status": ["pair"] * N,
        "candidate_oks": [[0.9, 0.5]] * N,
        "candidate_images": [[_picture(), _picture()]] * N,
        "candidate_seeds": [[1, 2]] * N,
        "candidate_strengths": [[1.0, 0.8]] * N,
        "winner": [0] * N,
        "loser": [1] * N,
        "winner_oks": [0.9] * N,
        "loser_oks": [0.5] * N,
        "round": ["base"] * N,
        "steps": [8] * N,
        "guidance": [1.0] * N,
        "generator": ["pocket:abc"] * N,
        "adapter": ["abc"] * N,
        "oks": [0.9] * N,
        "ranker_oks": [0.9] * N,
        "detected": _vectors(51),
        "people": [1] * N,
        "people_score": [0.9] * N,
        "head_error_deg": [None, 5.0, 5.0, 5.0, 5.0, 5.0],
        "top_colour_error": [None] * N,
        "keep": [True] * N,
        "reasons": [[]] * N,
        "image_digest": [f"digest-{i}" for i in range(N)],
        "name": [f"model-{i}" for i in range(N)],
        "metrics": ["{}"] * N,
        "checked": [f"model-{i}" for i in range(N)],
        "key": [None] * N,
        "content": ["abc"] * N,
        "made_from": [""] * N,
        "time": ["2026-01-01T00:00:00+00:00"] * N,
        "rows": [1] * N,
        "checks": [1] * N,
        **{name: [[]] * N for name in ("blocking", "failed", "warned")},
        "outcomes": ["[]"] * N,
    }
    if table == "checkpoints":
        values |= {"partition_key": [f"checkpoint-model-{i}-0000" for i in range(N)]}
    return {name: values[name] for name in SCHEMAS[table].names}


def _table(table: str, **changes: list[Any]) -> pa.Table:
    values = {**_clean(table), **changes}
    return pa.table([pa.array(values[f.name], f.type) for f in SCHEMAS[table]], schema=SCHEMAS[table])


class _Around:
    """Other tables hold the clean rows, and so did the batches before; nothing is known of the profile."""

    def __init__(self, *earlier: pa.Table) -> None:
        self._earlier = earlier

    def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
        return _table(table).select(list(columns))

    def before(self, columns: Sequence[str], batches: int, rows: int) -> list[pa.Table]:
        return [table.slice(0, rows).select(list(columns)) for table in self._earlier[-batches:]]

    def profile(self) -> None:
        return None

    def body(self) -> BodyModel:
        return load_body(None)

    def folder(self, place: str) -> None:
        return None


AROUND = _Around()


def _failed(outcomes: list[CheckOutcome]) -> dict[str, CheckOutcome]:
    return {o.name: o for o in outcomes if not o.passed}


def _one(value: Any, clean: list[Any], at: int = 2) -> list[Any]:
    return [*clean[:at], value, *clean[at + 1 :]]


# The shipped files


@pytest.mark.parametrize("table", [name for name in SCHEMAS if "round" in SCHEMAS[name].names])
@pytest.mark.parametrize("number", [0, 1, 2, 13])
def test_rows_of_every_round_are_checked_by_the_round_that_their_key_names(table: str, number: int) -> None:
    own, others = round_name(number), {"base", "hard", "hard2", "hard13", "align", ""} - {round_name(number)}
    keys = [f"{'procedural' if number == 0 else own}-{i:04d}" for i in range(N)]
    (check,) = [c for c in load_table_checks(table).checks if c.kind == "round_of_key"]
    found = run_checks(table, _table(table, partition_key=keys, round=[own] * N), AROUND, only=[check.name])
    assert [o.passed for o in found] == [True]
    for other in others:
        rows = _table(table, partition_key=keys, round=_one(other, [own] * N))
        (outcome,) = run_checks(table, rows, AROUND, only=[check.name])
        assert (outcome.passed, outcome.failing_ids) == (False, (IDS[2],))


def test_every_table_and_every_asset_has_a_file_and_every_file_one_of_them() -> None:
    names = {p.stem for p in checks.checks_folder().glob("*.yml")}
    assert names == {*SCHEMAS, *CHECKPOINT_ASSETS} == set(load_checks())
    assert {stage.table or stage.name for count in (1, 2, 4) for stage in graph(count)} <= names
    assert mistakes() == []


def test_all_mistakes_of_a_folder_are_listed_with_the_files_that_no_table_has(tmp_path: Path) -> None:
    shutil.copytree(checks.checks_folder(), tmp_path / "files")
    (tmp_path / "files" / "dataset.yml").write_text(_model("nonsense").replace("sample_scores", "dataset"))
    (tmp_path / "files" / "quarantine.yml").unlink()
    (tmp_path / "files" / "extra.yml").write_text("")
    found = mistakes(tmp_path / "files")
    assert [line.split(": ")[0].rpartition("/")[2] for line in found] == [
        "quarantine.yml",
        "dataset.yml, line 6",
        "extra.yml",
    ]


def test_check_names_are_unique_and_fit_for_dagster() -> None:
    for loaded in load_checks().values():
        names = [c.name for c in loaded.checks]
        assert len(set(names)) == len(names)
        assert all(n.replace("_", "").isalnum() for n in names)
        assert all(c.description.endswith(".") for c in loaded.checks)


def test_the_package_carries_the_same_files() -> None:
    inside = Path(checks.__file__).parents[1] / "dbt_like_checks"
    assert {p.name: p.read_text() for p in inside.glob("*.yml")} == {
        p.name: p.read_text() for p in checks.checks_folder().glob("*.yml")
    }


def test_loading_checks_does_not_load_great_expectations_or_pandas() -> None:
    code = (
        "import sys; from posedreamer_assets.checks import load_checks; load_checks(); print([m for m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    assert not {"great_expectations", "pandas", "lance", "dagster", "torch"} & set(yaml.safe_load(out))


# Kinds of tests, on files of our own


def _file(folder: Path, tests: str = "", columns: str = "", table: str = "sample_scores") -> Path:
    body = f"version: 2\nmodels:\n  - name: {table}\n    description: Rows.\n"
    body += f"    tests:\n{tests}" if tests else ""
    body += f"    columns:\n{columns}" if columns else ""
    (folder / f"{table}.yml").write_text(body)
    return folder


def _run(
    folder: Path,
    test: str,
    column: str | None = None,
    table: str = "sample_scores",
    around: _Around = AROUND,
    **values: Any,
) -> CheckOutcome:
    written = f"      - name: {column}\n        tests:\n          - {test}\n" if column else ""
    _file(folder, "" if column else f"      - {test}\n", written, table)
    (outcome,) = run_checks(table, _table(table, **values), around, folder=folder)
    return outcome


CASES: list[tuple[str, str | None, dict[str, list[Any]], dict[str, list[Any]]]] = [
    ("row_count: {min: 6, max: 6}", None, {}, {}),
    ("unique_combination: {columns: [partition_key, people]}", None, {"people": [*range(6)]}, {"people": [1, 2, 3, 3, 5, 6]}),
    ("all_not_null: {columns: [detected, people]}", None, {}, {"people": [1, 1, None, 1, 1, 1]}),
    ('expression_is_true: {expression: "people > 1 or oks <= 0.9"}', None, {"oks": [0.5] * 6}, {"oks": _one(0.95, [0.5] * 6)}),
    ("not_null", "oks", {}, {"oks": _one(None, [0.5] * 6)}),
    ("unique", "people", {"people": [*range(6)]}, {"people": [0, 1, 2, 2, 4, 5]}),
    ("accepted_values: {values: [1, 2]}", "people", {}, {"people": _one(3, [1] * 6)}),
    ("between: {min: 0.5}", "oks", {"oks": [0.5] * 6}, {"oks": _one(0.49, [0.5] * 6)}),
    ("between: {max: 0.5}", "oks", {"oks": _one(None, [0.5] * 6)}, {"oks": _one(0.51, [0.5] * 6)}),
    ("between: {min: 0.5, mostly: 0.8}", "oks", {"oks": _one(0.1, [0.5] * 6)}, {"oks": [0.1, 0.1, 0.5, 0.5, 0.5, 0.5]}),
    ('between: {min: 0.5, where: "people == 1"}', "oks", {"people": [2] * 6, "oks": [0.1] * 6}, {"oks": _one(0.1, [0.9] * 6)}),
    ("mean_between: {min: 0.4, max: 0.6}", "oks", {"oks": [0.0, 1.0] * 3}, {"oks": [0.0, 1.0, 1.0] * 2}),
    ('matches: {regex: "^p.*[0-9]$"}', "partition_key", {}, {"partition_key": _one("q-0000", [KEY] * 6)}),
    ("relationships: {to: dataset, field: sample_id}", "sample_id", {}, {"sample_id": _one("x", IDS)}),
    ("finite", "oks", {"oks": _one(None, [0.5] * 6)}, {"oks": _one(float("inf"), [0.5] * 6)}),
    ("finite", "detected", {}, {"detected": _one([float("nan")] * 51, _vectors(51))}),
    ("finite", "detected", {"detected": _one(None, _vectors(51))}, {}),
    ("values_between: {min: 0, max: 1}", "detected", {}, {"detected": _one([0.5] * 50 + [1.5], _vectors(51))}),
    ("norm_between: {max: 0.9, parts: 3}", "detected", {}, {"detected": _one([0.5] * 48 + [0.6, 0.6, 0.6], _vectors(51))}),
    ("stdev_between: {min: 0.1}", "oks", {"oks": [0.0, 1.0] * 3}, {"oks": [0.5] * 6}),
    ("quantile_between: {quantile: 0.5, min: 0.4, max: 0.6}", "oks", {"oks": [0.0, 0.5, 0.5, 0.5, 0.5, 1.0]}, {"oks": [0.9] * 6}),
    ("distinct_between: {min: 2}", "people", {"people": [1, 2] * 3}, {"people": [1] * 6}),
    ("share_between: {values: [2], max: 0.2}", "people", {"people": _one(2, [1] * 6)}, {"people": [1, 2] * 3}),
    ("constant", "people", {}, {"people": _one(2, [1] * 6)}),
    ("unique_content", "detected", {"detected": [[float(i)] * 51 for i in range(6)]}, {}),
    ("unique_content", "detected", {"detected": [[float(i)] * 51 for i in range(6)]}, {"detected": _vectors(51)}),
    ("json_between: {path: a.b, max: 2}", "metrics", {"metrics": ['{"a": {"b": 2}}'] * 6}, {"metrics": ['{"a": {}}'] * 6}),
    (
        "json_between: {path: a, max: 2, unless: {b: none}}",
        "metrics",
        {"metrics": ['{"a": 2}', '{"b": "none"}', *['{"a": 1, "b": "x"}'] * 4]},
        {"metrics": ['{"b": "x"}'] * 6},
    ),
    ("json_between: {path: a, max: 2}", "metrics", {"metrics": ['{"a": 2}'] * 6}, {"metrics": ['{"a": NaN}'] * 6}),
    ("same_length: {column: candidate_oks}", "candidate_seeds", {}, {"candidate_seeds": _one([1], [[1, 2]] * 6)}),
    ("covers: {to: dataset}", None, {}, {"sample_id": _one("x", IDS)}),
    ("same_in: {to: dataset, columns: [oks]}", None, {}, {"oks": _one(0.91, [0.9] * 6)}),
    ("round_of_key", "round", {"partition_key": ["hard2-0007"] * 6, "round": ["hard2"] * 6}, {"round": ["hard"] * 6}),
    (
        "known_reason",
        "reason",
        {"reason": ["kept", "low_oks", "no_person", None, "kept", "kept"]},
        {"reason": _one("blurry", ["kept"] * 6)},
    ),
    ("predicted_in_hard_rounds", "predicted_oks", {}, {"predicted_oks": _one(0.4, [None] * 6)}),
    (
        "predicted_in_hard_rounds",
        "predicted_oks",
        {"partition_key": ["align-hard-0000"] * 6},
        {"partition_key": _one("hard-0000", [KEY] * 6)},
    ),
    (
        "predicted_in_hard_rounds",
        "predicted_oks",
        {"partition_key": ["hard3-0001"] * 6, "predicted_oks": [0.4] * 6},
        {"partition_key": ["hard3-0001"] * 6, "predicted_oks": _one(None, [0.4] * 6)},
    ),
    ("norm_between: {min: 3.5, max: 3.6}", "detected", {}, {"detected": _one([0.5] * 48 + [0.6] * 3, _vectors(51))}),
]  # fmt: skip


TABLE_OF = {
    "metrics": "checkpoints",
    "candidate_seeds": "preference_pairs",
    "round": "raw_generations",
    "reason": "filtered_dataset",
    "predicted_oks": "pose_library",
}


@pytest.mark.parametrize(("test", "column", "good", "bad"), CASES)
def test_each_kind_passes_clean_rows_and_catches_a_fault(
    tmp_path: Path, test: str, column: str | None, good: dict[str, list[Any]], bad: dict[str, list[Any]]
) -> None:
    if test.startswith("expression"):
        test = test.replace("{", "{name: expression, ")
    table = TABLE_OF.get(column or "", "sample_scores")
    assert _run(tmp_path, test, column, table, AROUND, **good).passed
    if bad:
        assert not _run(tmp_path, test, column, table, AROUND, **bad).passed


def test_row_count_catches_too_few_and_too_many(tmp_path: Path) -> None:
    assert not _run(tmp_path, "row_count: {min: 7}").passed
    assert not _run(tmp_path, "row_count: {max: 5}").passed


def test_image_checks_read_declared_sizes_and_modes(tmp_path: Path) -> None:
    table, sized = "control_maps", "image_decodes: {sized: true, modes: [RGB]}"
    jpeg = encode_jpeg(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    assert _run(tmp_path, sized, "control", table=table, control=[jpeg] * N).passed
    assert not _run(tmp_path, sized, "control", table=table, control=[_picture("L")] * N).passed
    assert not _run(tmp_path, sized, "control", table=table, width=[SIZE[0] + 1] * N).passed
    assert _run(tmp_path, "image_decodes", "control", table=table, width=[SIZE[0] + 1] * N).passed


@pytest.mark.parametrize(("pick", "other"), [("winner", "loser"), ("loser", "winner")])
def test_of_a_list_of_images_the_picked_one_is_looked_at(tmp_path: Path, pick: str, other: str) -> None:
    picked = [i % 2 for i in range(N)]
    own = [encode_png(np.full((SIZE[1], SIZE[0], 3), 20 * i, np.uint8)) for i in range(N)]

    def run(test: str, images: list[bytes], besides: bytes = b"broken", numbers: list[Any] = picked) -> CheckOutcome:
        pairs = [[image, besides] if at == 0 else [besides, image] for image, at in zip(images, picked, strict=True)]
        chosen = {pick: numbers, other: [1 - i for i in picked]}
        return _run(tmp_path, test, "candidate_images", table="preference_pairs", candidate_images=pairs, **chosen)

    decodes, unique = f"image_decodes: {{pick: {pick}, modes: [RGB]}}", f"unique_content: {{pick: {pick}}}"
    assert run(decodes, own).passed
    assert run(unique, own).passed, "what lies beside the picked ones is the same everywhere"
    assert run(decodes, _one(b"broken", own), own[0]).failing_ids == (IDS[2],)
    assert run(unique, _one(own[4], own), own[0]).failing_ids == (IDS[2], IDS[4])
    assert run(decodes, own, numbers=_one(None, picked)).passed, "nothing was picked"


def test_every_kind_is_tested_here_or_by_a_planted_fault() -> None:
    by_name = {(table, c.name): c.kind for table, loaded in load_checks().items() for c in loaded.checks}
    used = {test.split(":")[0] for test, *_ in CASES} | {by_name[f.table, f.check] for f in FAULTS}
    assert set(KINDS) - used == {"checkpoint_intact"}  # it has a test of its own


def test_a_person_that_fits_another_label_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 100, (N, 17, 2))
    maps = _table("control_maps", keypoints_2d=labels.reshape(N, 34).tolist(), body_pixels=[2000] * N)

    class Around(_Around):
        def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
            return maps.select(list(columns))

    def seen(order: list[int]) -> list[list[float]]:
        points = np.concatenate([labels[order], np.ones((N, 17, 1))], axis=2)
        return points.reshape(N, 51).tolist()

    test = "fits_own_label: {to: control_maps, own: 0.3, other: 0.7}"
    assert _run(tmp_path, test, around=Around(), detected=seen([*range(N)])).passed
    swapped = _run(tmp_path, test, around=Around(), detected=seen([0, 2, 1, 3, 4, 5]))
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

    class Around(_Around):
        def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
            silhouettes = [encode_png((body * 255).astype(np.uint8)) for body in bodies]
            return _table(table, silhouette=silhouettes).select(list(columns))

    def fail(pictures: list[np.ndarray]) -> tuple[str, ...]:
        blobs = [encode_png(np.ascontiguousarray(picture)) for picture in pictures]
        test = "outline_in_image: {to: control_maps}"
        return _run(tmp_path, test, "image", "raw_generations", Around(), image=blobs).failing_ids

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
    _file(tests, "      - checkpoint_intact\n", table="body_model")
    rows = store.read("checkpoints")
    assert _failed(run_checks("body_model", rows, Surroundings(store, None, "checkpoints", None), folder=tests)) == {}
    (made.path / "a").write_text("2")
    assert _failed(run_checks("body_model", rows, Surroundings(store, None, "checkpoints", None), folder=tests))


def test_neighbouring_64_bit_seeds_beside_nulls_are_told_apart(tmp_path: Path) -> None:
    seeds = [2**62, 2**62 + 1, None, 2**62 + 2, 2**62 + 3, 2**62 + 4]
    assert _run(tmp_path, "unique", "seed", table="dataset", seed=seeds).passed


def test_repeated_tests_get_numbered_names_and_given_names_stay(tmp_path: Path) -> None:
    tests = "          - between: {min: 0}\n" * 2 + "          - between: {min: 0, name: mine, severity: warn}\n"
    loaded = load_table_checks("sample_scores", _file(tmp_path, "", f"      - name: oks\n        tests:\n{tests}"))
    assert [(c.name, c.blocking) for c in loaded.checks] == [
        ("between__oks", True),
        ("between__oks_2", True),
        ("mine", False),
    ]
    assert loaded.checks[0].description == "`oks` is within [0, ∞]."


TREND = "steady: {least: 0.05}"


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.05, 0.4))
@settings(max_examples=200, deadline=None)
def test_batches_of_one_distribution_are_steady(seed: int, batches: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    now, *then = (rng.normal(0.5, spread, 64) for _ in range(batches + 1))
    # Four standard errors are left by chance about once in 15,000 batches.
    assert _same_mean(now, then, 6.0, 0.0).value < 6.0


def test_a_drifted_mean_warns_and_a_small_or_unsure_one_does_not(tmp_path: Path) -> None:
    earlier = _Around(*[_table("sample_scores", oks=[0.6, 0.7, 0.8, 0.6, 0.7, 0.8])] * 3)
    assert _run(tmp_path, TREND, "oks", around=earlier, oks=[0.65, 0.75, 0.8, 0.6, 0.7, 0.7]).passed
    low = _run(tmp_path, TREND, "oks", around=earlier, oks=[0.1, 0.2, 0.1, 0.15, 0.1, 0.2])
    assert not low.passed
    assert "0.7 in 3 batches before" in low.observed
    assert _run(tmp_path, "steady: {least: 0.9}", "oks", around=earlier, oks=[0.1] * 6).passed
    assert _run(tmp_path, TREND, "oks", oks=[0.1] * 6).observed == "no earlier batch to compare with"


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
        run_checks("sample_scores", _table("sample_scores").drop_columns(["oks"]), AROUND)


# Mistakes in files


HEAD = "version: 2\nmodels:\n  - name: sample_scores\n    description: d\n"


def _column(test: str, name: str = "oks") -> str:
    return f"{HEAD}    columns:\n      - name: {name}\n        tests:\n          - {test}\n"


def _model(test: str) -> str:
    return f"{HEAD}    tests:\n      - {test}\n"


MISTAKES = [
    ("", 1, "expected version and models"),
    ("version: 2\nmodels: [", 2, "not valid YAML"),
    ("version: 1\nmodels: []", 1, "expected version: 2"),
    ("version: 2\nmodels: []", 2, "expected one model, found 0"),
    ("version: 2\nmodel: []", 2, "unknown key 'model'"),
    ("version: 2\nmodels:\n  - name: scores\n", 3, "expected name: sample_scores"),
    ("version: 2\nmodels:\n  - name: sample_scores\n", 3, "expected a description"),
    ("version: 2\nmodels:\n  - name: sample_scores\n    description: d\n", 3, "expected at least one test"),
    (_column("nonull"), 8, "unknown column test 'nonull'; expected one of not_null"),
    (_column("row_count: {min: 1}"), 8, "unknown column test 'row_count'"),
    (_model("unique"), 6, "unknown table test 'unique'; expected one of row_count"),
    (_column("not_null", "okse"), 6, "has no column 'okse'; expected one of sample_id"),
    (_column("between: {low: 0}"), 8, "between takes no 'low'; expected one of min, max"),
    (_column("between"), 8, "between needs 'min', 'max' or both"),
    (_column("between: {min: zero}"), 8, "between: min: expected float, found 'zero'"),
    (_column("between: {min: 1, max: 0}"), 8, "expected min <= max"),
    (_column("between: {min: 0, mostly: 1.5}"), 8, "expected mostly in (0, 1]"),
    (_column("not_null: {severity: fatal}"), 8, "expected severity error or warn, found 'fatal'"),
    (_column("accepted_values"), 8, "accepted_values needs 'values'"),
    (_column("matches: {regex: a}"), 8, "matches does not test columns of type float"),
    (_column("matches: {regex: '('}", "sample_id"), 8, "expected a regular expression"),
    (_column("between: {min: 0}", "detected"), 8, "between does not test columns of type fixed_size_list"),
    (_column("relationships: {to: poses, field: sample_id}", "sample_id"), 8, "unknown table 'poses'"),
    (_column("relationships: {to: dataset, field: id}", "sample_id"), 8, "'dataset' has no column 'id'"),
    (_column("not_null: {where: 'people = 1'}"), 8, "expected an expression"),
    (_column("not_null: {where: 'persons == 1'}"), 8, "has no column 'persons'"),
    (_model("expression_is_true: {name: e, expression: 'detected > 0'}"), 6, "expressions take plain columns"),
    (_model("expression_is_true: {name: e, expression: 'people.max() > 0'}"), 6, "is not allowed in the expression"),
    (_model("unique_combination: {columns: [people, x]}"), 6, "has no column 'x'"),
    (_model("row_count: {min: 1, name: 'a b'}"), 6, "expected a name of letters, digits and _"),
    (_column("image_decodes"), 8, "image_decodes does not test"),
    (_column("steady: {measure: colour}"), 8, "expected measure value, brightness, spread, shares, found 'colour'"),
    (_column("steady: {mostly: 0.5}"), 8, "so it takes no 'mostly'"),
    (_column("steady: {where: 'people == 1'}"), 8, "so it takes no 'where'"),
    (_model("maps_agree"), 6, "has no column 'control'"),
    (_model("same_in: {to: [dataset, poses], columns: [oks]}"), 6, "unknown table 'poses'"),
    (_model("same_in: {to: dataset, columns: [people]}"), 6, "table 'dataset' has no column 'people'"),
    (_model("oks_follows_detections: {to: dataset}"), 6, "table 'dataset' has no column 'body_pixels'"),
    (_model("covers: {to: dataset, having: keep}"), 6, "table 'dataset' has no column 'keep'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "expected"), MISTAKES)
def test_a_mistake_in_a_file_is_named_with_file_line_and_expectation(
    tmp_path: Path, text: str, line: int, expected: str
) -> None:
    path = tmp_path / "sample_scores.yml"
    path.write_text(text)
    with pytest.raises(CheckError) as error:
        load_table_checks("sample_scores", tmp_path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert expected in str(error.value)


def test_a_missing_file_and_an_unknown_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"pose_library\.yml: no such file"):
        load_table_checks("pose_library", tmp_path)
    with pytest.raises(CheckError, match="no table 'poses'; known: pose_files"):
        load_table_checks("poses")

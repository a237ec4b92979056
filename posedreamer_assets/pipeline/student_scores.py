"""How far each student is off on each test image."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.figures import mean_of
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of
from posedreamer_assets.pipeline.student_features import features_in
from posedreamer_assets.pipeline.student_study import spec_of
from posedreamer_assets.progress import advance
from posedreamer_assets.tables.fields import BODY, CAMERA, SCHEMAS, names_of
from posedreamer_assets.tables.keys import STUDENT, TESTED, sample_id
from posedreamer_assets.tables.rows import array, bodies, cameras, make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel
    from posedreamer_assets.students.metrics import Protocol
    from posedreamer_assets.students.predict import Predictions
    from posedreamer_assets.students.scoring import Truth
    from posedreamer_assets.students.vit import ViTStudent

TABLE = "student_scores"
_GEOMETRY = (*names_of(BODY), *names_of(CAMERA))
PARTIAL = ("true_joints_m", "true_rotations", "true_vertices_m", "labelled_keypoints", "person_box")
"""Columns of test images that are not whole bodies of this home."""
OF_TRUTH = ("labels", *_GEOMETRY, *PARTIAL)
_OF_TEST = ("test_set", "family", "body_digest", *OF_TRUTH)
ERRORS = (
    "pve_mm",
    "pve_area_mm",
    "pve_in_image_mm",
    "pa_pve_mm",
    "mpjpe_mm",
    "pa_mpjpe_mm",
    "orient_deg",
    "body_angle_deg",
    "betas_l1",
)
OF_KEYPOINTS = ("pck05", "pck10", "pck10_aligned")
"""Shares of keypoints that are found: more is better."""
COMPARED = ("pve_mm", "pa_pve_mm", "mpjpe_mm", "pa_mpjpe_mm", "pck10_aligned")
"""Errors that a check computes again."""
_AT_A_TIME = 64  # images that are held as files


def make(inputs: Inputs) -> Made:
    """Predict every test image and compare with its label; in one thread, so that its bits do not depend on the cores."""
    from posedreamer_assets.cores import one_thread
    from posedreamer_assets.students.predict import head_of, predict

    student, tests = inputs.rows("hmr_student"), inputs.rows("benchmark_images")
    tested = features_in(inputs.take("student_features", texts(tests, "sample_id")), "tested")[:, 0]
    before = cameras(tests)
    head = head_of(student.column("weights")[0].as_py())
    with one_thread():
        found = predict(head, tested, before.focal_px, before.width)
    return _scored(inputs, student, tests, found)


def make_from_images(inputs: Inputs) -> Made:
    """The same of students that see images: crops about the person, as in training."""
    from posedreamer_assets.scoring.weights import default_device
    from posedreamer_assets.students.vit import student_of

    spec, student = spec_of(inputs.profile), inputs.rows("hmr_student")
    tests = inputs.rows("benchmark_images", _OF_TEST)
    network = student_of(student.column("weights")[0].as_py(), spec.arch, spec.image_size).to(default_device())
    return _scored(inputs, student, tests, _seen(inputs, network, tests))


def _seen(inputs: Inputs, network: "ViTStudent", tests: pa.Table) -> "Predictions":
    """Predictions before the cameras of the test images."""
    import torch

    from posedreamer_assets.students.labels import Labels
    from posedreamer_assets.students.person_crops import crops_of, turned_back
    from posedreamer_assets.students.person_pictures import write_pictures
    from posedreamer_assets.students.vit import predict_pictures
    from posedreamer_assets.training.repeatable import repeatable

    before, boxes, size = cameras(tests), _boxes(inputs, tests), spec_of(inputs.profile).image_size
    unknown = Labels.unknown(before.focal_px, before.principal_px)
    with tempfile.TemporaryDirectory() as scratch:
        files = _files(inputs, texts(tests, "sample_id"))
        pictures = write_pictures(Path(scratch), files, boxes, unknown, size, torch.get_num_threads())
        with repeatable(next(network.parameters()).device):
            found = predict_pictures(network, pictures)
    return turned_back(found, crops_of(boxes, before.focal_px, before.principal_px, size))


def _boxes(inputs: Inputs, tests: pa.Table) -> np.ndarray:
    """Of the person in each test image: what the user's files say, else about the labelled body, as in training."""
    from posedreamer_assets.students.labels import labels_of
    from posedreamer_assets.students.person_crops import body_boxes
    from posedreamer_assets.students.skinning import TorchBody
    from posedreamer_assets.students.train import EVERY

    given = tests.column("person_box").is_valid().to_numpy()
    boxes = np.empty((len(given), 4))
    if given.any():
        boxes[given] = array(tests.filter(pa.array(given)), "person_box")
    if not given.all():
        some, body = tests.filter(pa.array(~given)), inputs.models.body
        before = cameras(some)
        labels = labels_of(body, bodies(some), before)
        boxes[~given] = body_boxes(TorchBody(body, every=EVERY), labels, before.width, before.height)
    return boxes


def _files(inputs: Inputs, ids: list[str]) -> Iterator[bytes]:
    for start in range(0, len(ids), _AT_A_TIME):
        yield from (
            inputs.take("benchmark_images", ids[start : start + _AT_A_TIME], ("image",)).column("image").to_pylist()
        )


def _scored(inputs: Inputs, student: pa.Table, tests: pa.Table, found: "Predictions") -> Made:
    from posedreamer_assets.cores import one_thread
    from posedreamer_assets.students.metrics import Protocol

    ids = texts(tests, "sample_id")
    protocol = Protocol(inputs.profile.students.pelvis)
    with one_thread():
        scores = errors_of(protocol, inputs.models.body, found, tests)
    advance(len(ids))
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, i) for i in range(len(ids))],
        "partition_key": [inputs.key] * len(ids),
        "test_sample_id": ids,
        "test_set": texts(tests, "test_set"),
        "family": texts(tests, "family"),
        "labels": texts(tests, "labels"),
        **{name: values.astype(np.float32) for name, values in scores.items()},
        "predicted_rotations": found.rotations.reshape(len(ids), -1),
        "predicted_betas": found.betas,
        "predicted_pelvis_m": found.pelvis_cam_m,
        "protocol": [protocol.pelvis] * len(ids),
        "body_digest": [student.column("body_digest")[0].as_py()] * len(ids),
        "test_body_digest": texts(tests, "body_digest"),
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


def errors_of(protocol: "Protocol", body: "BodyModel", found: "Predictions", tests: pa.Table) -> dict[str, np.ndarray]:
    """Every error of every test image, NaN where its labels do not tell it.

    Args:
        protocol: how bodies are laid over each other.
        body: of the home.
        found: predicted for each row.
        tests: rows of `benchmark_images` with the columns OF_TRUTH.
    """
    from posedreamer_assets.students.scoring import score

    kinds = np.array(texts(tests, "labels"))
    names = (*ERRORS, *OF_KEYPOINTS, "floor_pve_mm", "constant_pve_mm")
    errors = {name: np.full(len(kinds), np.nan) for name in names}
    whole = np.flatnonzero(kinds == "body")
    parts = []
    if len(whole):
        truth = _truth(protocol, body, tests.take(pa.array(whole)))
        parts.append((whole, score(body, found.take(whole), truth)))
    parts += _partial_errors(protocol, body, found, tests, kinds)
    for places, scores in parts:
        for name, values in scores.items():
            known = np.isfinite(values)
            errors[name][places[known]] = values[known]
    return errors


def _partial_errors(
    protocol: "Protocol", body: "BodyModel", found: "Predictions", tests: pa.Table, kinds: np.ndarray
) -> "list[tuple[np.ndarray, dict[str, np.ndarray]]]":
    """Of test images of the user's files: by place, errors against joints, rotations and keypoints, and against meshes."""
    from posedreamer_assets.students.outside_scoring import Partial, score_meshes, score_partial

    parts = []
    given = np.flatnonzero(tests.column("person_box").is_valid().to_numpy())
    if len(given):
        some = tests.take(pa.array(given))
        joints, rotations = (array(some, name).astype(float) for name in ("true_joints_m", "true_rotations"))
        points, before = array(some, "labelled_keypoints").astype(float), cameras(some)
        whole = kinds[given] == "body"  # whose joints and rotations follow from their parameters
        joints[whole], rotations[whole] = np.nan, np.nan
        true = Partial(
            joints.reshape(-1, 22, 3),
            rotations.reshape(-1, 22, 3, 3),
            points.reshape(-1, 17, 2),
            array(some, "person_box").astype(float),
            before.focal_px,
            before.principal_px,
        )
        parts.append((given, score_partial(body, found.take(given), true)))
    meshes = np.flatnonzero(kinds == "mesh")
    if len(meshes):
        blobs = tests.take(pa.array(meshes)).column("true_vertices_m").to_pylist()
        vertices = np.stack([np.frombuffer(blob, np.float32).reshape(-1, 3) for blob in blobs])
        parts.append((meshes, score_meshes(protocol, body, found.take(meshes), vertices)))
    return parts


def _truth(protocol: "Protocol", body: "BodyModel", tests: pa.Table) -> "Truth":
    """Posed once for all students that a process scores."""
    file = pa.BufferOutputStream()
    with pa.ipc.new_stream(file, tests.select(_GEOMETRY).schema) as stream:
        stream.write_table(tests.select(_GEOMETRY))
    return _posed(protocol, body, file.getvalue().to_pybytes())


@lru_cache(maxsize=1)
def _posed(protocol: "Protocol", body: "BodyModel", geometry: bytes) -> "Truth":
    """The truth of rows that are given as bytes, which a cache can find its results by."""
    from posedreamer_assets.students.scoring import truth_of

    rows = pa.ipc.open_stream(geometry).read_all()
    return truth_of(protocol, body, bodies(rows), cameras(rows))


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """Mean errors on each test set."""
    sets = np.array(texts(rows, "test_set"))
    found: dict[str, float] = {}
    for name in sorted(set(sets)):
        for error in ("pve_mm", "pa_mpjpe_mm", *OF_KEYPOINTS):
            values = array(rows, error)[sets == name]
            if np.isfinite(values).any():
                found[f"{name}_{error}"] = mean_of(values)
    return found


def origins(profile: Profile) -> Origins:
    """Errors come from weights, features and labels."""
    return _origins(all_of("student_features", "tested"))


def origins_in_images(profile: Profile) -> Origins:
    """Errors come from weights, images and labels."""
    return _origins(all_of("benchmark_images", "image", *OF_TRUTH))


def _origins(seen: tuple[tuple[str, str], ...]) -> Origins:
    predicted = (*all_of("hmr_student", "weights"), *seen)
    compared = (*predicted, *all_of("benchmark_images", *OF_TRUTH))
    return {
        **dict.fromkeys((*ERRORS, *OF_KEYPOINTS), compared),
        **dict.fromkeys(("predicted_rotations", "predicted_betas", "predicted_pelvis_m"), predicted),
        "test_set": all_of("benchmark_images", "test_set"),
        "family": all_of("benchmark_images", "family"),
        "labels": all_of("benchmark_images", "labels"),
    }


STAGE = Stage(
    TABLE,
    "One row per student and test image: errors of vertices, joints and rotations under one protocol, and the predicted "
    "parameters, so that other figures cost no training.",
    make,
    "2",
    table=TABLE,
    groups=(STUDENT,),
    settings=("students.pelvis",),
    checkpoints=("body_model",),
    reads=(
        Reads("hmr_student", ("weights", "body_digest")),
        Reads("benchmark_images", _OF_TEST, TESTED),
        Reads("student_features", ("tested",), TESTED),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=lambda profile: 2 * profile.students.test_renders + profile.students.test_generated,
    ui_group="students",
    kinds=frozenset(("torch", "lance")),
    one_core=True,
    starts="request",
)

OF_IMAGES = replace(
    STAGE,
    make=make_from_images,
    reads=(
        Reads("hmr_student", ("weights", "body_digest")),
        Reads("benchmark_images", (*_OF_TEST, "image"), TESTED),
    ),
    origins=origins_in_images,
    pool="gpu",
    one_core=False,
)
"""Of students that see images."""

"""How far each student is off on each test image."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.figures import mean_of
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of
from posedreamer_assets.pipeline.student_features import features_in
from posedreamer_assets.progress import advance
from posedreamer_assets.tables.fields import BODY, CAMERA, SCHEMAS, names_of
from posedreamer_assets.tables.keys import BENCH, BENCH_GENERATED, STUDENT, sample_id
from posedreamer_assets.tables.rows import array, bodies, cameras, make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel
    from posedreamer_assets.students.metrics import Protocol
    from posedreamer_assets.students.scoring import Truth

TABLE = "student_scores"
_GEOMETRY = (*names_of(BODY), *names_of(CAMERA))
_OF_TEST = ("test_set", "family", "body_digest", *_GEOMETRY)
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


def make(inputs: Inputs) -> Made:
    """Predict every test image and compare with its label."""
    from posedreamer_assets.students.metrics import Protocol
    from posedreamer_assets.students.predict import head_of, predict
    from posedreamer_assets.students.scoring import score

    student, tests = inputs.rows("hmr_student"), inputs.rows("benchmark_images")
    ids = texts(tests, "sample_id")
    tested = features_in(inputs.take("student_features", ids), "tested")[:, 0]
    before = cameras(tests)
    head = head_of(student.column("weights")[0].as_py())
    found = predict(head, tested, before.focal_px, before.width)
    protocol = Protocol(inputs.profile.students.pelvis)
    truth = _truth(protocol, inputs.models.body, tests)
    scores = score(inputs.models.body, found, truth)
    advance(len(ids))
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, i) for i in range(len(ids))],
        "partition_key": [inputs.key] * len(ids),
        "test_sample_id": ids,
        "test_set": texts(tests, "test_set"),
        "family": texts(tests, "family"),
        **{name: values.astype(np.float32) for name, values in scores.items()},
        "predicted_rotations": found.rotations.reshape(len(ids), -1),
        "predicted_betas": found.betas,
        "predicted_pelvis_m": found.pelvis_cam_m,
        "protocol": [protocol.pelvis] * len(ids),
        "body_digest": [student.column("body_digest")[0].as_py()] * len(ids),
        "test_body_digest": texts(tests, "body_digest"),
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


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
        for error in ("pve_mm", "pa_mpjpe_mm"):
            found[f"{name}_{error}"] = mean_of(array(rows, error)[sets == name])
    return found


def origins(profile: Profile) -> Origins:
    """Errors come from weights, features and labels."""
    predicted = (*all_of("hmr_student", "weights"), *all_of("student_features", "tested"))
    compared = (*predicted, *all_of("benchmark_images", *_GEOMETRY))
    return {
        **dict.fromkeys(ERRORS, compared),
        **dict.fromkeys(("predicted_rotations", "predicted_betas", "predicted_pelvis_m"), predicted),
        "test_set": all_of("benchmark_images", "test_set"),
        "family": all_of("benchmark_images", "family"),
    }


STAGE = Stage(
    TABLE,
    "One row per student and test image: errors of vertices, joints and rotations under one protocol, and the predicted "
    "parameters, so that other figures cost no training.",
    make,
    "1",
    table=TABLE,
    groups=(STUDENT,),
    settings=("students.pelvis",),
    checkpoints=("body_model",),
    reads=(
        Reads("hmr_student", ("weights", "body_digest")),
        Reads("benchmark_images", _OF_TEST, (BENCH, BENCH_GENERATED)),
        Reads("student_features", ("tested",), (BENCH, BENCH_GENERATED)),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=lambda profile: 2 * profile.students.test_renders + profile.students.test_generated,
    ui_group="students",
    kinds=frozenset(("torch", "lance")),
    starts="request",
)

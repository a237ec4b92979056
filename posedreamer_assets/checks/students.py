"""Tests of what students are trained on and how they are scored: leaks, budgets, and errors computed again."""

import numpy as np

from posedreamer_assets.checks.model import Around, DataCheck, Measured, Verdicts
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.pipeline.student_scores import COMPARED, OF_TRUTH, errors_of
from posedreamer_assets.pipeline.student_study import study_of

_LOOKED_AT = 12  # scores that are computed again


def nowhere_in(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """No value of the column occurs in a column of other tables, in any of their partitions."""
    assert check.column is not None, "held by the kind's scope"
    field = check.args["field"]
    known = {v for table in check.args["to"] for v in around.everywhere(table, [field]).column(field).to_pylist()}
    return [None if value is None else value not in known for value in rows.values(check.column)]


def sources_exist(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Each row's image is in the table that it names, with the very content that was listed."""
    columns = ("table", "source_sample_id", "source_digest")
    named = list(zip(*(rows.values(name) for name in columns), strict=True))
    known: set[tuple[str, str, str]] = set()
    for table in {table for table, *_ in named if table}:
        found = around.everywhere(table, ["sample_id", "row_digest"])
        pairs = zip(found.column("sample_id").to_pylist(), found.column("row_digest").to_pylist(), strict=True)
        known |= {(table, *pair) for pair in pairs}
    return [one in known for one in named]


def far_from_tests(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The pose of each sample is another than that of every test image whose pose is known."""
    from posedreamer_assets.students.near_poses import LEAST_DEG, nearest_deg

    assert check.column is not None, "held by the kind's scope"
    of_tests = around.everywhere("benchmark_images", ["body_pose"]).column("body_pose").drop_null().to_pylist()
    known = around.everywhere("pose_library", ["sample_id", "body_pose"])
    place = {name: i for i, name in enumerate(known.column("sample_id").to_pylist())}
    names = rows.values(check.column)
    found = [i for i, name in enumerate(names) if name in place]
    poses = known.column("body_pose").take([place[names[i]] for i in found]).to_pylist()
    distances = nearest_deg(np.array(poses).reshape(-1, 63), np.array(of_tests).reshape(-1, 63))
    verdicts: Verdicts = [None] * len(rows)
    for i, far in zip(found, distances >= check.args.get("least_deg", LEAST_DEG), strict=True):
        verdicts[i] = bool(far)
    return verdicts


def as_many_as(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """There are as many rows as the column says, in all of them."""
    assert check.column is not None, "held by the kind's scope"
    asked = sorted(set(rows.values(check.column)), key=str)
    off = float("inf") if len(asked) != 1 or asked[0] is None else abs(len(rows) - asked[0])
    return Measured(off, 0, f"{len(rows)} rows, {' or '.join(map(str, asked)) or 'none'} asked for")


def seen_as_planned(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Each student has seen as many samples as the study plans for all of them."""
    profile = around.profile()
    study = None if profile is None else study_of(profile)
    if study is None:
        return [None] * len(rows)
    return [seen == study.student.samples_seen for seen in rows.values("samples_seen")]


def scores_follow_predictions(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Errors of some rows are those of the predicted parameters against the test image's label, under the profile's protocol.

    Catches bodies of another model, mirrored labels, and pelves of another protocol.
    """
    from posedreamer_assets.students.labels import BODY_JOINTS
    from posedreamer_assets.students.metrics import Protocol
    from posedreamer_assets.students.predict import Predictions

    profile = around.profile()
    verdicts: Verdicts = [None] * len(rows)
    if profile is None or not len(rows):
        return verdicts
    chosen = np.unique(np.linspace(0, len(rows) - 1, _LOOKED_AT).astype(int))
    some = rows.take(chosen)
    tests = Rows(around.everywhere("benchmark_images", ["sample_id", *OF_TRUTH]))
    place = {name: i for i, name in enumerate(tests.ids)}
    known = [i for i, name in enumerate(some.values("test_sample_id")) if name in place]
    for i in set(range(len(chosen))) - set(known):
        verdicts[chosen[i]] = False
    if not known:
        return verdicts
    some = some.take(np.array(known))
    labels = tests.take(np.array([place[name] for name in some.values("test_sample_id")])).table
    found = Predictions(
        some.numbers("predicted_rotations").reshape(-1, BODY_JOINTS, 3, 3).astype(np.float32),
        some.numbers("predicted_betas").astype(np.float32),
        some.numbers("predicted_pelvis_m").astype(np.float32),
    )
    body, protocol = around.body(), Protocol(profile.students.pelvis)
    again = errors_of(protocol, body, found, labels)
    tolerance = check.args.get("tolerance_mm", 0.05)
    same = np.logical_and.reduce(
        [np.isclose(some.numbers(name), again[name], rtol=0, atol=tolerance, equal_nan=True) for name in COMPARED]
    )
    for i, ok in zip(known, same, strict=True):
        verdicts[chosen[i]] = bool(ok)
    return verdicts


def labels_are_there(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Joints or rotations, a mesh of this home's body, or keypoints are there where `labels` says so."""
    known = {
        "pose": np.any(
            np.isfinite(np.concatenate([rows.numbers("true_joints_m"), rows.numbers("true_rotations")], 1)), axis=1
        ),
        "keypoints": np.any(np.isfinite(rows.numbers("labelled_keypoints")), axis=1),
    }
    kinds = rows.values("labels")
    if "mesh" in kinds:
        size = 12 * len(around.body().v_template)  # three numbers of four bytes
        known["mesh"] = np.array([blob is not None and len(blob) == size for blob in rows.values("true_vertices_m")])
    return [bool(np.asarray(known[kind])[i]) if kind in known else None for i, kind in enumerate(kinds)]

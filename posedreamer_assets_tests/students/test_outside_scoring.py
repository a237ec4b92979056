"""Scores of users' test sets: the truth has no error, what is not known counts nothing, and a loop counts the same."""

import numpy as np
import pytest

from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.students.metrics import Protocol
from posedreamer_assets.students.outside_scoring import Partial, coco_pixels, pck_of, score_meshes, score_partial
from posedreamer_assets.students.predict import Predictions
from posedreamer_assets.students.scoring import posed_body
from posedreamer_assets_tests.students.outside_files import params_of

BODY = load_body(None)


def predictions_of(count: int) -> Predictions:
    """The bodies of `params_of` where they stand."""
    rows = [params_of(i) for i in range(count)]
    pose = np.concatenate([one.full_pose()[:, :22] for one in rows]).astype(np.float64)
    pelvis = np.concatenate([BODY.joints(one)[:, 0] for one in rows])
    betas = np.concatenate([one.betas for one in rows])
    return Predictions(axis_angle_to_matrix(pose).astype(np.float32), betas, pelvis)


def truth_of(found: Predictions) -> Partial:
    """Of the predictions themselves."""
    count = len(found.betas)
    posed = posed_body(BODY, found.rotations, found.betas)
    focal, centre = np.full(count, 510.0), np.tile([190.0, 160], (count, 1))
    pixels = coco_pixels(posed, found, focal, centre)
    box = np.concatenate([pixels.min(1), np.ptp(pixels, axis=1)], 1)
    return Partial(
        posed.joints + found.pelvis_cam_m[:, None], found.rotations.astype(float), pixels, box, focal, centre
    )


def test_the_truth_has_no_error_and_finds_all_keypoints() -> None:
    found = predictions_of(3)
    scores = score_partial(BODY, found, truth_of(found))
    for name, bound in (("mpjpe_mm", 0.01), ("pa_mpjpe_mm", 0.01), ("orient_deg", 0.05), ("body_angle_deg", 0.05)):
        assert (scores[name] <= bound).all(), name
    assert all((scores[name] == 1).all() for name in ("pck05", "pck10", "pck10_aligned"))


def test_keypoints_of_predictions_are_those_of_the_body_model() -> None:
    found = predictions_of(2)
    truth = truth_of(found)
    for i in range(2):
        joints = BODY.joints(params_of(i))[0, COCO17_FROM_SMPLX]
        pixels = 510 * joints[:, :2] / joints[:, 2:] + [190, 160]
        assert np.allclose(truth.keypoints[i], pixels, atol=0.01)


def test_joints_that_are_not_known_count_nothing_and_hips_stand_for_a_missing_pelvis() -> None:
    found = predictions_of(2)
    truth = truth_of(found)
    truth.joints_m[0, 20] += [0.022, 0, 0]  # one joint of 22 is off by 22 mm
    truth.joints_m[1, 5] = np.nan
    truth.joints_m[1, 0] = np.nan
    scores = score_partial(BODY, found, truth)
    assert scores["mpjpe_mm"][0] == pytest.approx(1, abs=0.01) and scores["mpjpe_mm"][1] < 0.01
    truth.joints_m[1, 1] = np.nan
    again = score_partial(BODY, found, truth)
    assert np.isnan(again["mpjpe_mm"][1]) and again["pa_mpjpe_mm"][1] < 0.01, "neither pelvis nor hips: only aligned"


def test_pck_counts_as_a_loop_does_and_alignment_undoes_shift_and_scale() -> None:
    rng = np.random.default_rng(3)
    true = rng.uniform(0, 100, (4, 17, 2))
    found = true + rng.normal(0, 8, true.shape)
    true[:, 12:] = np.nan
    box = np.tile([0.0, 0, 60, 100], (4, 1))
    shares = pck_of(found, true, box)
    for i in range(4):
        near = [np.hypot(*(found[i, k] - true[i, k])) for k in range(12)]
        assert shares["pck05"][i] == pytest.approx(np.mean([d <= 5 for d in near]))
        assert shares["pck10"][i] == pytest.approx(np.mean([d <= 10 for d in near]))
    moved = pck_of(0.5 * np.nan_to_num(true) + 30, true, box)
    assert (moved["pck10_aligned"] == 1).all() and (moved["pck05"] < 1).any()
    none = pck_of(found, np.full_like(true, np.nan), box)
    assert np.isnan(none["pck10"]).all()


def test_a_mesh_is_compared_vertex_by_vertex() -> None:
    found = predictions_of(2)
    posed = posed_body(BODY, found.rotations, found.betas)
    for pelvis in ("posed-mesh", "chain", "hips"):
        scores = score_meshes(Protocol(pelvis), BODY, found, posed.vertices + 0.3)
        assert all((values < 0.01).all() for values in scores.values()), "another place is no error"
    wrong = posed.vertices.copy()
    wrong[:, :1000] += [0, 0.05, 0]
    scores = score_meshes(Protocol("chain"), BODY, found, wrong)
    pelvis = np.linalg.norm((BODY.J_regressor[:1] @ wrong - BODY.J_regressor[:1] @ posed.vertices)[:, 0], axis=1)
    assert np.allclose(scores["pve_mm"], 50 * 1000 / wrong.shape[1], atol=1 + 1000 * pelvis.max())

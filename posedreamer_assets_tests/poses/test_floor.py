"""The floor under all of the body, against the full mesh and closed forms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.poses.floor import centre_of_mass_m, flying, lowest_points_m, settle, sole_pitch_deg, surface_of
from posedreamer_assets.poses.procedural import procedural_poses

BODY = load_body()


def some_poses(count: int, seed: int = 5) -> BodyParams:
    params, _ = procedural_poses(BODY, [f"floor/{i}" for i in range(count)], seed)
    return params


def test_the_lowest_point_is_that_of_the_whole_mesh() -> None:
    params = some_poses(60)
    turns = Rotation.from_quat(np.random.default_rng(1).normal(size=(60, 4)))
    orient = (turns * Rotation.from_rotvec(params.global_orient)).as_rotvec().astype(np.float32)
    params = params.replace(global_orient=orient)
    expected = BODY.forward(params).vertices[..., 1].min(axis=1)
    found = lowest_points_m(BODY, params)
    assert (found >= expected - 1e-5).all()
    assert (found - expected).max() < 0.02


def test_points_and_joints_are_those_of_the_full_body() -> None:
    params = some_poses(5)
    points, joints = surface_of(BODY).posed(params)
    full = BODY.forward(params)
    assert np.allclose(points, full.vertices[:, surface_of(BODY).vertices], atol=1e-5)
    assert np.allclose(joints, full.joints[:, :55], atol=1e-5)


def test_the_centre_of_mass_moves_with_the_body_and_lies_in_it() -> None:
    params = some_poses(8)
    centre = centre_of_mass_m(surface_of(BODY).posed(params)[1])
    moved = params.replace(transl=params.transl + np.array([1, 2, 3], np.float32))
    assert np.allclose(centre_of_mass_m(surface_of(BODY).posed(moved)[1]) - centre, [1, 2, 3], atol=1e-4)
    upright = centre_of_mass_m(surface_of(BODY).posed(BodyParams.zeros(1))[1])[0]
    low, high = (BODY.v_template[:, 1].min(), BODY.v_template[:, 1].max())
    # Standing adults have it at 55 to 58 % of their height (de Leva 1996); arms out in the T-pose raise it.
    assert 0.54 < (upright[1] - low) / (high - low) < 0.62


@pytest.mark.parametrize("turn_deg", [0, 90, -90, 180])
def test_bodies_touch_the_ground_whatever_is_lowest(turn_deg: float) -> None:
    params = some_poses(12)
    turn = Rotation.from_euler("x", turn_deg, degrees=True)
    orient = (turn * Rotation.from_rotvec(params.global_orient)).as_rotvec().astype(np.float32)
    params = params.replace(global_orient=orient, transl=params.transl + np.array([0, 1.5, 0], np.float32))
    placed, _ = settle(BODY, params, np.arange(12), params.take, count=12, fps=0.0)
    assert np.abs(BODY.forward(placed).vertices[..., 1].min(axis=1)).max() < 0.01
    assert np.array_equal(placed.transl[:, [0, 2]], params.transl[:, [0, 2]])


def test_a_jump_keeps_the_height_of_its_parabola() -> None:
    count, fps = 60, 60.0
    time = (np.arange(count) - 30) / fps
    height = np.maximum(0.3 - 9.81 / 2 * time**2, 0.0)
    transl = np.zeros((count, 3), np.float32)
    transl[:, 1] = 5.0 + height
    params = BodyParams.zeros(count).replace(transl=transl)
    placed, notes = settle(BODY, params, np.arange(count), params.take, count=count, fps=fps)
    lowest = lowest_points_m(BODY, placed)
    in_the_air = np.abs(time) < 0.15
    assert np.abs(lowest - height)[in_the_air].max() < 0.01
    assert np.abs(lowest[height == 0]).max() < 0.01
    assert not notes


def test_what_stands_on_a_platform_is_put_down_with_a_note() -> None:
    transl = np.zeros((40, 3), np.float32)
    transl[:, 1] = np.interp(np.arange(40), [8, 28], [0, 0.6])  # climbs for two seconds
    params = BodyParams.zeros(40).replace(transl=transl)
    placed, notes = settle(BODY, params, np.arange(40), params.take, count=40, fps=10.0)
    assert np.abs(lowest_points_m(BODY, placed)).max() < 0.01
    assert notes and "of 40 frames stood higher" in notes[0]


def test_frames_that_are_not_finite_are_no_evidence_of_flight() -> None:
    params = BodyParams.zeros(20)
    bad = params.replace(transl=np.full((20, 3), np.nan, np.float32))
    assert not flying(BODY, np.arange(20), bad.take, count=20, fps=30.0).any()


@pytest.mark.parametrize("degrees", [-20, 0, 15])
def test_the_pitch_of_a_sole_is_that_of_its_ankle(degrees: float) -> None:
    params = BodyParams.zeros(1)
    pose = params.body_pose.copy()
    pose[0, JOINT_INDEX["left_ankle"] - 1] = (-np.deg2rad(degrees), 0, 0)
    params, _ = settle(BODY, params.replace(body_pose=pose), np.arange(1), params.take, count=1, fps=0.0)
    assert sole_pitch_deg(BODY, params)[0, 0] == pytest.approx(degrees, abs=1.5)


def test_feet_in_the_air_have_no_pitch() -> None:
    params = BodyParams.zeros(1).replace(transl=np.array([[0, 3, 0]], np.float32))
    assert np.isnan(sole_pitch_deg(BODY, params)).all()

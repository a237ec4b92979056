"""Anatomical angles and procedural poses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedreamer_assets.body.anatomy import (
    LIMITS,
    angles_from_body,
    body_from_angles,
    limit_violations,
    mirror_full_pose,
    split_full_pose,
)
from posedreamer_assets.body.joints import OUTPUT_JOINT_NAMES
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.poses.procedural import FAMILIES, family_names, procedural_poses, sample_pose


def posed(**angles: float) -> BodyParams:
    return BodyParams.zeros(1).replace(**{k: v[None] for k, v in body_from_angles(angles).items()})


def joint(params: BodyParams, name: str) -> np.ndarray:
    return load_body().joints(params)[0, OUTPUT_JOINT_NAMES.index(name)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_angles_survive_the_round_trip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = {
        name: float(rng.uniform(low + 0.02 * (high - low), high - 0.02 * (high - low)))
        for name, (low, high) in LIMITS.items()
    }
    found = angles_from_body(posed(**inside))
    for name, value in inside.items():
        assert found[name][0] == pytest.approx(value, abs=0.05), name


def test_hanging_arms_point_down() -> None:
    rest = posed()
    assert joint(rest, "left_wrist")[1] < joint(rest, "left_elbow")[1] < joint(rest, "left_shoulder")[1] - 0.2


@pytest.mark.parametrize(
    ("angle", "value", "name", "axis", "sign"),
    [
        ("left_hip_flex", 60, "left_knee", 2, 1),
        ("right_hip_flex", 60, "right_knee", 2, 1),
        ("left_hip_abd", 40, "left_knee", 0, 1),
        ("right_hip_abd", 40, "right_knee", 0, -1),
        ("left_knee_flex", 80, "left_ankle", 2, -1),
        ("left_elbow_flex", 90, "left_wrist", 2, 1),
        ("right_elbow_flex", 90, "right_wrist", 2, 1),
        ("spine_flex", 60, "head", 2, 1),
        ("left_arm_raise", 90, "left_wrist", 0, 1),
        ("right_arm_raise", 90, "right_wrist", 0, -1),
        ("left_ankle_flex", 25, "left_big_toe", 1, 1),
    ],
)
def test_angles_move_the_way_their_names_say(angle: str, value: float, name: str, axis: int, sign: int) -> None:
    moved = joint(posed(**{angle: value}), name) - joint(posed(), name)
    assert sign * moved[axis] > 0.04


def test_raised_arm_swings_forward() -> None:
    arm = posed(left_arm_raise=90, left_arm_forward=90)
    assert joint(arm, "left_wrist")[2] - joint(arm, "left_shoulder")[2] > 0.4


def test_unknown_angles_are_refused() -> None:
    with pytest.raises(KeyError, match="tail_wag"):
        body_from_angles({"tail_wag": 3})


def test_mirroring_twice_changes_nothing_and_once_swaps_sides() -> None:
    params = posed(left_knee_flex=70, spine_twist=20, left_arm_raise=20, right_arm_raise=30)
    full = params.full_pose()[0]
    np.testing.assert_allclose(mirror_full_pose(mirror_full_pose(full)), full)
    mirrored = BodyParams.zeros(1).replace(**{k: v[None] for k, v in split_full_pose(mirror_full_pose(full)).items()})
    assert angles_from_body(mirrored)["right_knee_flex"][0] == pytest.approx(70, abs=0.01)
    assert angles_from_body(mirrored)["spine_twist"][0] == pytest.approx(-20, abs=0.01)


def test_there_are_at_least_twelve_families_with_yoga() -> None:
    assert len(FAMILIES) >= 12
    assert "yoga" in FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_no_pose_of_a_family_breaks_a_joint_limit(family: str) -> None:
    poses = BodyParams.concat([sample_pose(FAMILIES[family], np.random.default_rng(i)) for i in range(60)])
    assert not any(limit_violations(poses))


def test_the_limit_check_sees_a_broken_knee() -> None:
    broken = BodyParams.zeros(1)
    knees = broken.body_pose.copy()
    knees[0, 3, 0] = -1.0  # left knee bends forwards
    assert "left_knee_flex" in limit_violations(broken.replace(body_pose=knees))[0]


def test_bodies_stand_on_the_ground_and_do_not_depend_on_the_batch() -> None:
    body = load_body()
    ids = [f"procedural-0000/{i:06d}" for i in range(12)]
    params, families = procedural_poses(body, ids, 3)
    lowest = body.forward(params).vertices[..., 1].min(axis=1)
    lifted = np.array([family in ("jump", "run", "freestyle") for family in families])
    np.testing.assert_allclose(lowest[~lifted], 0, atol=1e-4)
    assert (lowest > -1e-4).all()
    alone, _ = procedural_poses(body, [ids[7]], 3)
    for name, array in alone.to_flat().items():
        np.testing.assert_allclose(array[0], params.to_flat()[name][7], atol=1e-6, err_msg=name)
    other, _ = procedural_poses(body, [ids[7]], 4)
    assert not np.allclose(other.body_pose, alone.body_pose)


def test_unknown_families_are_refused() -> None:
    with pytest.raises(ConfigError, match="swim"):
        family_names(["swim"])

"""The up axis of clips that are made with a known one."""

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.upright import (
    AXES,
    NPZ_HABIT,
    REST_POSE,
    UpAxis,
    find_up_axis,
    lying,
    to_y_up,
    trunk_tilt_deg,
    uprightness,
)
from posedreamer_assets_tests.poses.clips import FRAMES, clip, in_axes, walk

BODY = load_body()


def decide(params: BodyParams, believed=NPZ_HABIT, up_axis: str | None = None) -> UpAxis:
    frames = np.arange(len(params))
    return find_up_axis(
        "f.npz", BODY, frames, params.take, count=len(params), fps=30.0, believed=believed, up_axis=up_axis
    )


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_is_turned_to_y_by_a_rotation(axis: str) -> None:
    turn = to_y_up(axis)
    assert np.array_equal(turn @ AXES[axis], [0, 1, 0])
    assert np.linalg.det(turn) == pytest.approx(1)


@pytest.mark.parametrize("axis", ["y", "z", "-y", "x"])
@pytest.mark.parametrize("name", ["stand", "squat", "get up"])
def test_bodies_on_their_feet_tell_the_axis(name: str, axis: str) -> None:
    found = decide(in_axes(clip(name, yaw_deg=35), axis))
    assert found.axis == axis
    assert found.confidence > 0.75
    assert found.evidence


@pytest.mark.parametrize("axis", ["y", "z", "-y", "x"])
def test_a_walk_tells_the_axis(axis: str) -> None:
    assert decide(in_axes(walk(), axis)).axis == axis


ODD = [(name, axis) for axis in ("x", "-x") for name in ("push-up", "dog", "sit", "lie", "handstand")]
ODD += [(name, "-y") for name in ("push-up", "dog", "sit")]


@pytest.mark.parametrize(("name", "axis"), ODD)
@pytest.mark.parametrize("yaw_deg", [0, 70, 215])
def test_floor_clips_in_rare_axes_are_told_or_asked_for(name: str, axis: str, yaw_deg: float) -> None:
    try:
        found = decide(in_axes(clip(name, yaw_deg), axis)).axis
    except PoseFileError as error:
        assert error.reason == "ambiguous_up_axis"
        assert "poses.up_axis=" in error.detail
        assert name != "push-up"
    else:
        assert found == axis


def test_a_habit_decides_nothing_alone_and_knowledge_does() -> None:
    sitting = in_axes(clip("sit", 0), "x")
    with pytest.raises(PoseFileError, match="may be up"):
        decide(sitting, {"z": 1.9, "x": -1.9})
    assert decide(sitting, {"z": REST_POSE}).axis == "z"


def test_a_still_pose_without_a_path_is_not_given_the_habit_s_axis() -> None:
    """Somebody on their hands, axis -y, looks like somebody with raised arms, axis y: the user is asked."""
    upside_down = clip("handstand")
    still = upside_down.replace(transl=np.zeros_like(upside_down.transl))
    for axis in ("y", "-y", "z"):
        with pytest.raises(PoseFileError) as caught:
            decide(in_axes(still, axis).replace(transl=still.transl))
        assert caught.value.reason == "ambiguous_up_axis"


@pytest.mark.parametrize("axis", ["y", "z"])
@pytest.mark.parametrize("yaw_deg", [0, 90, 35])
@pytest.mark.parametrize("name", ["push-up", "dog", "sit", "lie"])
def test_floor_clips_are_never_silently_wrong(name: str, yaw_deg: float, axis: str) -> None:
    params = in_axes(clip(name, yaw_deg), axis)
    try:
        found = decide(params).axis
    except PoseFileError as error:
        assert error.reason == "ambiguous_up_axis"
        assert name in ("lie", "sit")
    else:
        assert found == axis


@pytest.mark.parametrize("axis", ["y", "z", "x"])
@pytest.mark.parametrize("name", ["push-up", "dog", "sit", "lie", "handstand", "stand"])
def test_the_rest_pose_of_a_rig_settles_floor_clips(name: str, axis: str) -> None:
    assert decide(in_axes(clip(name, 90), axis), {axis: REST_POSE}).axis == axis


def test_what_the_evidence_does_not_decide_is_refused_with_the_setting() -> None:
    lost = BodyParams.zeros(FRAMES).replace(transl=np.full((FRAMES, 3), np.nan, np.float32))
    with pytest.raises(PoseFileError, match=r"poses\.up_axis=z or poses\.up_axis=y") as caught:
        decide(lost)
    assert caught.value.reason == "ambiguous_up_axis"
    assert decide(lost, up_axis="y") == UpAxis("y", 1.0, ("set by poses.up_axis",))
    with pytest.raises(PoseFileError, match="expected one of x, y, z"):
        decide(lost, up_axis="up")


def test_free_fall_tells_down() -> None:
    """A tumbling body: only gravity is left as evidence."""
    count = 24
    fall = np.zeros((count, 3), np.float32)
    fall[:, 2] = 5 + 4 * np.arange(count) / 30 - 9.81 / 2 * (np.arange(count) / 30) ** 2
    orient = np.zeros((count, 3), np.float32)
    orient[:, 0] = np.linspace(0, np.pi, count)
    params = BodyParams.zeros(count).replace(transl=fall, global_orient=orient)
    found = find_up_axis("f", BODY, np.arange(count), params.take, count=count, fps=30.0, believed={})
    assert found.axis == "z"
    assert "flight falls along it" in found.note


@pytest.mark.parametrize(("name", "tilt"), [("stand", 0), ("lie", 90), ("handstand", 180)])
def test_uprightness_of_known_clips(name: str, tilt: float) -> None:
    params = clip(name)
    assert trunk_tilt_deg(BODY, params) == pytest.approx(tilt, abs=12)
    found = uprightness(BODY, params)
    assert (found.upright, found.lying, found.inverted) == ((tilt == 0), (tilt == 90), (tilt == 180))
    assert lying(BODY, params).all() == (name == "lie")


def test_a_standing_clip_in_wrong_axes_is_seen_to_lie() -> None:
    found = uprightness(BODY, in_axes(clip("stand").take(slice(0, 10)), "z"))
    assert found.lying > 0.9
    assert found.upright == 0

"""Clips of every kind, in all six axes: the axis is found or asked for, never silently another."""

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.upright import AXES, NPZ_HABIT, find_up_axis
from posedreamer_assets_tests.poses.axis_clips import FPS, KINDS, clip, in_place
from posedreamer_assets_tests.poses.clips import in_axes

BODY = load_body()
EVERYDAY = (
    "walk",
    "run",
    "jump",
    "stand",
    "squat",
    "kneel",
    "get up",
    "push-up",
    "lie on the back",
    "lie stretched",
    "handstand",
)
"""Kinds whose axis is found, whichever it is, where the root has a path: asking for it would be a nuisance."""


def decided(params: BodyParams) -> str | None:
    """The axis; None where it is asked for."""
    try:
        return find_up_axis(
            "f.npz", BODY, np.arange(len(params)), params.take, count=len(params), fps=FPS, believed=NPZ_HABIT
        ).axis
    except PoseFileError as error:
        assert error.reason == "ambiguous_up_axis"
        assert "poses.up_axis=" in error.detail
        return None


@pytest.mark.parametrize("name", KINDS)
def test_a_clip_with_a_path_tells_its_axis_or_it_is_asked_for(name: str) -> None:
    params = clip(KINDS[name], yaw_deg=35)
    found = {axis: decided(in_axes(params, axis)) for axis in AXES}
    assert all(found[axis] in (axis, None) for axis in AXES), found
    if name in EVERYDAY:
        assert all(found[axis] == axis for axis in AXES), found


@pytest.mark.parametrize("name", KINDS)
def test_a_clip_without_a_path_is_not_silently_misread(name: str) -> None:
    params = clip(KINDS[name], yaw_deg=35)
    found = {axis: decided(in_place(in_axes(params, axis))) for axis in ("y", "z", "-y")}
    assert all(found[axis] in (axis, None) for axis in found), found


STRETCHED = ("lie stretched", "lie face down, stretched", "lie stretched on the side", "plank")
"""Kinds that a pose without a path shows as somebody who stands: docs/poses.md says so."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KINDS if name not in STRETCHED])
@pytest.mark.parametrize("yaw_deg", [0.0, 70.0, 215.0])
def test_poses_alone_and_other_headings_are_not_silently_misread(name: str, yaw_deg: float) -> None:
    params = clip(KINDS[name], yaw_deg, seed=int(yaw_deg))
    for shown in (params, params.take([10])):
        for axis in AXES:
            turned = in_axes(shown, axis)
            assert decided(turned) in (axis, None)
            assert decided(in_place(turned)) in (axis, None)

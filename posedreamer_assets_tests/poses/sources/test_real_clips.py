"""Real mocap of four rigs, where a folder of it lies beside the checkout."""

import os
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.poses.retarget import Retargeter
from posedreamer_assets.poses.sources import read_pose_file
from posedreamer_assets.poses.sources.bvh import parse_bvh
from posedreamer_assets.poses.sources.frames import posed_joints
from posedreamer_assets_tests.poses.clips import sole_heights_m

SHARED = Path(os.environ.get("POSEDREAMER_SHARED", Path(__file__).parents[4] / "shared"))
CLIPS = sorted((SHARED / "data" / "mocap").rglob("*.bvh"))
SMALL = [path for path in CLIPS if path.stat().st_size < 900_000 or "animated" in path.parent.name]
pytestmark = pytest.mark.skipif(not CLIPS, reason="no mocap beside the checkout (POSEDREAMER_SHARED)")
BONES = [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")]


def _angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    return np.rad2deg(np.arccos(np.clip((a * b).sum(axis=-1), -1, 1)))


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_limbs_and_trunk_follow_the_clip(path: Path) -> None:
    clip, body = parse_bvh(path), load_body()
    frames = np.unique(np.linspace(1, len(clip.motion) - 1, 24).astype(int))
    rig = Retargeter.calibrate(clip.skeleton, *clip.pose(np.r_[0, frames]), body)
    rotation, position = clip.pose(frames)
    joints = posed_joints(body, rig.retarget(rotation, position))
    position = position @ rig.to_world.T
    named = rig.mapping.joints

    def own(side: str, part: str) -> np.ndarray:
        return joints[:, JOINT_INDEX[f"{side}_{part}"]]

    def theirs(side: str, part: str) -> np.ndarray:
        return position[:, named[f"{side}_{part}"]]

    for side in ("left", "right"):
        for start, end in BONES:
            angles = _angles_deg(own(side, end) - own(side, start), theirs(side, end) - theirs(side, start))
            assert angles.max() < 0.5, (side, start)
    for part in ("hip", "shoulder"):
        across = _angles_deg(own("left", part) - own("right", part), theirs("left", part) - theirs("right", part))
        assert across.max() < 10, part
    trunks = [
        sum(place(side, "shoulder") - place(side, "hip") for side in ("left", "right")) for place in (own, theirs)
    ]
    assert _angles_deg(np.asarray(trunks[0]), np.asarray(trunks[1])).max() < 10


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_people_stand_upright_on_the_ground(path: Path) -> None:
    frames = read_pose_file(path, stride_s=0.5, seed=0)
    body = load_body()
    joints = posed_joints(body, frames.params)
    assert np.median(joints[:, JOINT_INDEX["head"], 1] - joints[:, 0, 1]) > 0.4
    assert -1e-4 < sole_heights_m(frames.params).min() < 0.1
    assert not frames.rejected

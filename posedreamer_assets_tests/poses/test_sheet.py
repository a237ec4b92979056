"""Contact sheets: the body and its source are drawn in the same pose, from the same side."""

from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.poses.sheet import pictures, taken
from posedreamer_assets.poses.sources import PoseFrames, ReadOptions, read_clips
from posedreamer_assets.poses.upright import to_y_up
from posedreamer_assets.render.drawing import PAPER_RGB
from posedreamer_assets_tests.poses.sources.npz_kinds import clip_arrays
from posedreamer_assets_tests.poses.sources.rig_kinds import KINDS, write_kind
from posedreamer_assets_tests.poses.sources.rigs import lively
from posedreamer_assets_tests.poses.sources.test_fits import arrays_of

BODY = load_body()


def read(path: Path, **options: float) -> PoseFrames:
    (clip,) = read_clips(path, ReadOptions(options.get("stride_s", 0.5), 0, "own", BODY, sketches=5))
    return clip


def clip_of(kind: str, tmp_path: Path) -> PoseFrames:
    if kind == "bvh":
        return read(write_kind(tmp_path / "a.bvh", KINDS["motive"], lively(seed=3), to_y_up("z").T))
    np.savez(tmp_path / "a.npz", **(clip_arrays("z") if kind == "clip" else arrays_of()))
    return read(tmp_path / "a.npz")


@pytest.mark.parametrize(("kind", "count"), [("bvh", 5), ("clip", 5), ("fits", 4)])
def test_sketches_are_frames_of_the_whole_clip_in_the_pose_of_the_body(kind: str, count: int, tmp_path: Path) -> None:
    clip = clip_of(kind, tmp_path)
    assert len(clip.sketches) == count
    assert kind == "fits" or len(clip) < 5  # whatever the stride
    for sketch in clip.sketches:
        posed = BODY.forward(sketch.params)
        assert abs(posed.vertices[0, :, 1].min()) < 0.03
        high, low = sketch.joints_m[:, 1].max(), sketch.joints_m[:, 1].min()
        assert high - low == pytest.approx(np.ptp(posed.joints[0, :55, 1]), abs=0.25)
        assert {"left", "right", None} == set(sketch.sides)
        # Limbs of the two lie to the same side of the body.
        left = np.array([side == "left" for side in sketch.sides])
        right = np.array([side == "right" for side in sketch.sides])
        theirs = sketch.joints_m[left].mean(axis=0) - sketch.joints_m[right].mean(axis=0)
        ours = posed.joints[0, JOINT_INDEX["left_hip"]] - posed.joints[0, JOINT_INDEX["right_hip"]]
        assert theirs @ ours > 0


@pytest.mark.parametrize("kind", ["bvh", "clip", "fits"])
def test_body_and_skeleton_cover_the_same_part_of_their_pictures(kind: str, tmp_path: Path) -> None:
    cells = pictures(BODY, clip_of(kind, tmp_path))
    assert len(cells) in (8, 10)
    for body, skeleton in zip(cells[::2], cells[1::2], strict=True):
        boxes = []
        for cell in (body, skeleton):
            inked = (np.abs(cell.astype(int) - np.array(PAPER_RGB)).max(axis=2) > 60).nonzero()
            boxes.append([inked[0].min(), inked[0].max(), inked[1].min(), inked[1].max()])
        assert np.abs(np.subtract(*boxes)).max() < 14  # of 112 pixels: 2.3 m; flesh, and bones of another rig


def test_files_drawn_are_spread_over_all() -> None:
    paths = [f"{i:03}" for i in range(1000)]
    found = sorted(taken(paths, 200))
    assert len(found) == 200 and found[0] == "000" and found[-1] == "999"
    assert taken(paths[:3], 200) == set(paths[:3])
    assert taken([], 5) == set()

"""Which frames of which clips a batch takes, and the bodies that it puts into them."""

from dataclasses import replace

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import load_profile
from posedreamer_assets.poses.draw import (
    ALIGN_SHARE,
    clips_batch,
    frames_of_group,
    place_cameras,
    procedural_batch,
    shared_out,
)
from posedreamer_assets.poses.sources import PoseFrames
from posedreamer_assets_tests.poses.clips import walk

BODY = load_body()


def made(name: str, count: int) -> PoseFrames:
    params = walk().take(np.arange(count) % 48)
    return PoseFrames(params, 30.0, [f"{name}#{i}" for i in range(count)], name, "own", "bvh")


def names_of(frames: list[tuple[PoseFrames, list[int]]]) -> set[str]:
    return {clip.names[i] for clip, own in frames for i in own}


def test_a_long_clip_does_not_crowd_out_short_ones() -> None:
    clips = [made("long", 3000), *(made(f"short{i}", 4) for i in range(50))]
    order = shared_out([(clip, list(range(len(clip)))) for clip in clips], np.random.default_rng(0))
    assert len(order) == len({(clip.family, frame) for clip, frame in order}) == 3200
    assert {clip.family for clip, _ in order[:51]} == {clip.family for clip in clips}
    assert sum(clip.family == "long" for clip, _ in order[:204]) == 4


def test_alignment_and_generation_share_no_frame() -> None:
    clips = [made("a", 30), made("b", 7), *(made(f"one{i}", 1) for i in range(60))]
    align, rest = (names_of(frames_of_group(clips, align=flag)) for flag in (True, False))
    assert not align & rest
    assert align | rest == {name for clip in clips for name in clip.names}
    assert len(align) == pytest.approx(ALIGN_SHARE * 97, abs=12)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_files_of_one_pose_serve_both_groups(count: int) -> None:
    clips = [made(f"{i:05d}", 1) for i in range(count)]
    for align in (True, False):
        assert names_of(frames_of_group(clips, align=align))


def test_bodies_without_a_shape_become_adults_that_stand_where_they_stood() -> None:
    profile, ids = load_profile("pocket"), [f"base-0000/{i:06d}" for i in range(24)]
    batch = clips_batch(profile, BODY, ids, [made("a", 40)], group="base")
    assert batch is not None
    lowest = BODY.forward(batch.params).vertices[..., 1].min(axis=1)
    source = made("a", 40)
    rows = [int(name.split("#")[1]) for name in batch.provenance]
    before = BODY.forward(source.params.take(rows)).vertices[..., 1].min(axis=1)
    assert np.allclose(lowest, before, atol=1e-4)
    tall = np.ptp(BODY.forward(BodyParams.zeros(24).replace(betas=batch.params.betas)).vertices[..., 1], axis=1)
    assert tall.min() > 1.4 and tall.max() < 2.1
    assert len(np.unique(batch.params.betas[:, 0])) == 24
    again = clips_batch(profile, BODY, ids, [made("a", 40)], group="base")
    assert again is not None and np.array_equal(again.params.betas, batch.params.betas)


def test_a_batch_says_what_its_bodies_do() -> None:
    ids = ["base-0000/000000"]
    for name, speed, activity in (("05_01", 1.2, "walking"), ("05_01", 3.5, "running"), ("dance_3", 1.2, "dancing")):
        clip = replace(made(name, 1), speeds_m_s=np.array([speed]))
        batch = clips_batch(load_profile("pocket"), BODY, ids, [clip], group="base")
        assert batch is not None
        assert batch.activities == [activity]
    drawn = procedural_batch(load_profile("pocket", {"poses.families": ["kneel"]}), BODY, ids)
    assert drawn.activities == ["kneeling"]


def test_a_shape_of_the_file_is_kept() -> None:
    shaped = made("a", 30)
    clip = PoseFrames(
        shaped.params.replace(betas=np.full((30, 10), 0.5, np.float32)), 30.0, shaped.names, "a", "own", "amass"
    )
    batch = clips_batch(load_profile("pocket"), BODY, ["x/0", "x/1"], [clip], group="base")
    assert batch is not None
    assert np.array_equal(batch.params.betas, np.full((2, 10), 0.5, np.float32))


def test_a_fit_that_comes_again_gets_another_camera() -> None:
    views = Cameras(
        rotation=np.repeat(np.diag([1.0, -1.0, -1.0])[None], 3, axis=0).astype(np.float32),
        translation=np.array([[0, 1, 4], [0, 1, 5], [0, 1, 6]], np.float32),
        focal_px=np.full(3, 500, np.float32),
        principal_px=np.full((3, 2), 128, np.float32),
        width=256,
        height=256,
        pitch_deg=np.zeros(3, np.float32),
        roll_deg=np.zeros(3, np.float32),
    )
    files = [replace(made(name, 3), fps=0.0, kind="fits", cameras=views) for name in ("a", "copy")]
    profile, ids = load_profile("pocket"), [f"base-0000/{i:06d}" for i in range(10)]
    batch = clips_batch(profile, BODY, ids, files, group="base")
    assert batch is not None
    kept = [i for i, camera in enumerate(batch.cameras) if camera is not None]
    depths = [float(camera.translation[0, 2]) for camera in batch.cameras if camera is not None]
    assert len(kept) == len(set(depths)) == 2  # of the fits that the base round takes, each once
    bodies = batch.params.global_orient
    assert len(np.unique(bodies.round(4), axis=0)) > len(kept)  # the others are turned
    seen, _ = place_cameras(profile, BODY, batch, ids)
    pixels = seen.project(BODY.joints(batch.params)).reshape(10, -1)
    for i in range(10):
        assert np.abs(np.delete(pixels, i, axis=0) - pixels[i]).max(axis=1).min() > 1

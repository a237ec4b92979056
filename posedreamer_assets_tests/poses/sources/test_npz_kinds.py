"""Clips and fits as people really have them, each kind against the bodies that it was made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources import HandSpace, PoseFrames, ReadOptions, read_clips
from posedreamer_assets.poses.upright import trunk_tilt_deg
from posedreamer_assets_tests.poses.clips import FRAMES, in_axes, walk
from posedreamer_assets_tests.poses.sources.npz_kinds import (
    BODY_ONLY,
    CAMERAS,
    WITH_HANDS,
    base,
    clip_arrays,
    motionx_array,
    people_arrays,
)
from posedreamer_assets_tests.poses.sources.test_fits import arrays_of, pixels_of

BODY = load_body()
OPTIONS = ReadOptions(0.0, 0, "own", BODY)


def read(tmp_path: Path, arrays: dict[str, Any], options: ReadOptions = OPTIONS) -> list[PoseFrames]:
    path = tmp_path / "file.npz"
    np.savez(path, **arrays)
    return read_clips(path, options)


def rows_of(frames: PoseFrames) -> np.ndarray:
    return np.array([int(name.rsplit("#", 1)[1].rpartition(".")[2]) for name in frames.names])


def assert_same_bodies(frames: PoseFrames, expected: BodyParams, *, hands: bool = True) -> None:
    """Poses of the clip, upright, each on the ground; where the file's axes differ, the heading may."""
    wanted = expected.take(rows_of(frames))
    assert len(frames) > 5
    assert np.allclose(frames.params.body_pose, wanted.body_pose, atol=1e-5)
    for name in ("left_hand_pose", "right_hand_pose"):
        found = getattr(frames.params, name)
        assert np.allclose(found, getattr(wanted, name) if hands else 0.0, atol=1e-5), name
    assert np.allclose(trunk_tilt_deg(BODY, frames.params), trunk_tilt_deg(BODY, wanted), atol=0.1)
    lowest = BODY.forward(frames.params).vertices[..., 1].min(axis=1)
    assert np.abs(lowest).max() < 0.03


@pytest.mark.parametrize("kind", list(WITH_HANDS))
def test_every_spelling_of_a_clip_gives_its_bodies(tmp_path: Path, kind: str) -> None:
    (frames,) = read(tmp_path, WITH_HANDS[kind](clip_arrays()))
    assert frames.fps == 30
    assert_same_bodies(frames, base())


@pytest.mark.parametrize("kind", list(BODY_ONLY))
def test_clips_without_fingers_have_flat_hands(tmp_path: Path, kind: str) -> None:
    (frames,) = read(tmp_path, BODY_ONLY[kind](clip_arrays()))
    assert_same_bodies(frames, base(), hands=False)
    assert "6D" not in kind or any("6D" in note for note in frames.notes)
    assert kind != "hand components" or any("12 components" in note for note in frames.notes)
    assert kind != "SMPL's 69" or any("hand joints are dropped" in note for note in frames.notes)


def test_half_precision_is_read(tmp_path: Path) -> None:
    arrays = clip_arrays()
    (frames,) = read(tmp_path, arrays | {k: arrays[k].astype(np.float16) for k in ("poses", "trans")})
    assert np.allclose(frames.params.body_pose, base().take(rows_of(frames)).body_pose, atol=2e-3)


@pytest.mark.parametrize("layout", [(156,), (1, 156), (52, 3)])
def test_a_lone_pose_is_a_clip_of_one_frame(tmp_path: Path, layout: tuple[int, ...]) -> None:
    arrays = clip_arrays()
    pose = np.concatenate([arrays["poses"][7, :66], arrays["poses"][7, 75:]]).reshape(layout)
    (frames,) = read(tmp_path, arrays | {"poses": pose, "trans": arrays["trans"][7]})
    assert len(frames) == 1
    assert np.allclose(frames.params.body_pose, base().body_pose[7], atol=1e-6)


@pytest.mark.parametrize("spoilt", ["gone", "pickled"])
def test_a_clip_without_a_path_stays_in_place_on_the_ground(tmp_path: Path, spoilt: str) -> None:
    arrays = clip_arrays()
    del arrays["trans"]
    if spoilt == "pickled":
        arrays["trans"] = np.array([{"a": 1}], dtype=object)
    (frames,) = read(tmp_path, arrays)
    assert_same_bodies(frames, base())
    assert any("no path of the pelvis" in note for note in frames.notes)
    assert spoilt == "gone" or any("trans is pickled" in note for note in frames.notes)


@pytest.mark.parametrize("axis", ["y", "z", "-y", "x"])
def test_clips_stand_up_whatever_axis_points_up(tmp_path: Path, axis: str) -> None:
    (frames,) = read(tmp_path, clip_arrays(axis))
    assert_same_bodies(frames, base())
    assert any(note.startswith(f"{axis} is up (") for note in frames.notes)


def test_an_axis_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    lying = BodyParams.zeros(FRAMES).replace(  # a still body, cross-wise, in the air: no axis is better than another
        global_orient=np.tile(np.array([0.9, 0.9, 0.0], np.float32), (FRAMES, 1)),
        transl=np.full((FRAMES, 3), 3, np.float32),
    )
    arrays = clip_arrays("y", lying)
    with pytest.raises(PoseFileError) as caught:
        read(tmp_path, arrays)
    assert caught.value.reason == "ambiguous_up_axis"
    assert "poses.up_axis=" in caught.value.detail
    (frames,) = read(tmp_path, arrays, replace(OPTIONS, up_axis="y"))
    assert np.allclose(frames.params.global_orient, [0.9, 0.9, 0.0], atol=1e-5)


@pytest.mark.parametrize("mask", [False, True])
def test_every_person_of_a_file_is_a_clip(tmp_path: Path, mask: bool) -> None:
    people = [base(), walk(yaw_deg=200)]
    arrays = people_arrays(people)
    if mask:
        seen = np.ones((2, FRAMES), bool)
        seen[1, :9] = False
        arrays |= {"track_mask": seen}
    clips = read(tmp_path, arrays)
    assert [clip.family for clip in clips] == ["file-1", "file-2"]
    for clip, person in zip(clips, people, strict=True):
        assert_same_bodies(clip, person)
    assert rows_of(clips[1]).min() >= (9 if mask else 0)
    assert len({name for clip in clips for name in clip.names}) == sum(map(len, clips))


def test_a_person_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    arrays = people_arrays([base(), base()])
    arrays["pose_body"][0] = np.nan
    (clip,) = read(tmp_path, arrays)
    assert clip.family == "file-2"
    assert "nan" in {error.reason for error in clip.rejected}


def test_motionx_is_read_and_other_npy_is_not(tmp_path: Path) -> None:
    path = tmp_path / "clip.npy"
    np.save(path, motionx_array(base()))
    (frames,) = read_clips(path, OPTIONS)
    assert frames.kind == "motionx"
    assert_same_bodies(frames, base())
    np.save(path, np.zeros((5, 263)))
    with pytest.raises(PoseFileError) as caught:
        read_clips(path, OPTIONS)
    assert caught.value.reason == "unknown_layout"


@pytest.mark.parametrize("more", [{}, {"surface_model_type": "smplx", "latent_labels": np.array(["a"])}])
def test_shape_files_beside_clips_hold_no_clip(tmp_path: Path, more: dict[str, Any]) -> None:
    assert read(tmp_path, {"betas": np.zeros(16), "gender": "neutral"} | more) == []


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"smplx": np.array([{"a": 1}], dtype=object), "__data_len__": np.array(3)}, "pickle"),
        ({"results": np.array([{"a": 1}], dtype=object)}, "pickle"),
        ({"joints3d": np.zeros((5, 22, 3))}, "unknown_layout"),
    ],
)
def test_what_holds_no_rotations_is_refused_with_what_it_holds(
    tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PoseFileError) as caught:
        read(tmp_path, arrays)
    assert caught.value.reason == reason
    assert "docs/poses.md" in caught.value.detail


def test_shapes_of_another_body_are_not_put_on_the_free_one(tmp_path: Path) -> None:
    arrays = clip_arrays() | {"betas": np.full(16, 1.5), "surface_model_type": "smplx"}
    (frames,) = read(tmp_path, arrays)
    assert not frames.params.betas.any()
    assert any("the mean shape is used" in note for note in frames.notes)
    licensed = replace(BODY, shapedirs=BODY.shapedirs * np.float32(0.5))
    (frames,) = read(tmp_path, arrays, replace(OPTIONS, body=licensed))
    assert np.allclose(frames.params.betas, 1.5)


@pytest.mark.parametrize("count", [12, 45])
def test_hands_given_by_components_follow_the_body_s_own(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(2)
    space = HandSpace(rng.normal(0, 0.1, (2, 45, 45)), rng.normal(0, 0.1, (2, 45)))
    weights = rng.normal(0, 0.5, (4, count))
    arrays = arrays_of() | {"left_hand_pose": weights, "num_pca_comps": np.array(count)}
    (frames,) = read(tmp_path, arrays, replace(OPTIONS, hands=space))
    for i in range(4):
        naive = space.means[0].copy()
        for k in range(count):
            naive += weights[i, k] * space.components[0, k]
        assert np.allclose(frames.params.left_hand_pose[i].reshape(45), naive, atol=1e-5)
    (frames,) = read(tmp_path, arrays)
    assert not frames.params.left_hand_pose.any()
    assert any("components" in note for note in frames.notes)


@pytest.mark.parametrize("kind", list(CAMERAS))
def test_every_spelling_of_a_camera_sees_what_the_fit_saw(tmp_path: Path, kind: str) -> None:
    arrays = arrays_of()
    if kind in ("K_fullimg alone", "one intrinsics for all", "weak perspective alone"):
        arrays |= {"focal_px": np.full(4, 600.0), "principal_px": np.tile([320.0, 240.0], (4, 1))}
    (frames,) = read(tmp_path, CAMERAS[kind](arrays))
    assert frames.cameras is not None
    assert (frames.cameras.width, frames.cameras.height) == (640, 480)
    assert np.abs(frames.cameras.project(BODY.joints(frames.params)) - pixels_of(arrays)).max() < 0.02


def test_a_smplerx_file_is_a_pose_without_a_camera(tmp_path: Path) -> None:
    arrays = arrays_of(1)
    file = {
        "global_orient": arrays["global_orient"],
        "body_pose": arrays["body_pose"].reshape(21, 3),
        "left_hand_pose": arrays["left_hand_pose"].reshape(15, 3),
        "right_hand_pose": np.zeros((15, 3)),
        **{name: np.zeros((1, 3)) for name in ("jaw_pose", "leye_pose", "reye_pose")},
        "betas": np.zeros((1, 10)),
        "expression": np.zeros((1, 10)),
        "transl": arrays["transl"],
    }
    (frames,) = read(tmp_path, file)
    assert frames.cameras is None
    assert np.allclose(frames.params.body_pose.reshape(63), arrays["body_pose"][0], atol=1e-6)
    assert np.allclose(frames.params.left_hand_pose.reshape(45), arrays["left_hand_pose"][0], atol=1e-6)
    assert abs(BODY.forward(frames.params).vertices[..., 1].min()) < 0.02
    assert trunk_tilt_deg(BODY, frames.params)[0] < 60


@pytest.mark.parametrize("axis", ["y", "z"])
def test_a_walk_under_the_names_of_fits_is_a_clip(tmp_path: Path, axis: str) -> None:
    there = in_axes(base(), axis)
    arrays = {
        "global_orient": there.global_orient,
        "body_pose": there.body_pose.reshape(FRAMES, 63),
        "transl": there.transl,
    }
    (frames,) = read(tmp_path, arrays)
    assert frames.fps == 30
    assert_same_bodies(frames, base(), hands=False)
    assert any(f"{axis} up" in note for note in frames.notes)


def test_six_numbers_of_hands_and_bodies_of_odd_shapes_are_refused(tmp_path: Path) -> None:
    for arrays in (
        clip_arrays() | {"poses": np.zeros((FRAMES, 55, 4))},
        clip_arrays() | {"poses": np.zeros((FRAMES, 7, 3))},
    ):
        with pytest.raises(PoseFileError) as caught:
            read(tmp_path, arrays)
        assert caught.value.reason == "shape"

"""One clip, written as many programs write it: a row for each case that was once refused, misread or let through."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import load_body
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.floor import sole_pitch_deg
from posedreamer_assets.poses.sources import PoseFrames, ReadOptions, read_clips
from posedreamer_assets.poses.stature import stature_m
from posedreamer_assets.poses.upright import trunk_tilt_deg
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.poses.clips import FRAMES
from posedreamer_assets_tests.poses.sources.npz_kinds import base, clip_arrays, people_arrays
from posedreamer_assets_tests.poses.sources.rig_kinds import KINDS, write_kind
from posedreamer_assets_tests.poses.sources.rigs import Motion, lively, still, turned
from posedreamer_assets_tests.poses.sources.test_fits import arrays_of
from posedreamer_assets_tests.poses.sources.test_npz_kinds import assert_same_bodies
from posedreamer_assets_tests.poses.sources.test_rigs import worst_limb_deg

BODY = load_body()
OPTIONS = ReadOptions(0.0, 0, "own", BODY)


def npz(path: Path, **arrays: Any) -> PoseFrames:
    """The one clip of a file of these arrays."""
    np.savez(path / "clip.npz", **arrays)
    (clip,) = read_clips(path / "clip.npz", OPTIONS)
    return clip


def without(arrays: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in arrays.items() if k not in names}


def has_note(clip: PoseFrames, text: str) -> bool:
    return any(text in note for note in clip.notes)


def y_up(path: Path) -> None:
    assert_same_bodies(npz(path, **clip_arrays("y")), base())


def y_down_camera(path: Path) -> None:
    """BEHAVE's camera axes: upright, or the axis is asked for."""
    try:
        clip = npz(path, **clip_arrays("-y"))
    except PoseFileError as error:
        assert error.reason == "ambiguous_up_axis"
    else:
        assert_same_bodies(clip, base())


def no_frame_rate(path: Path) -> None:
    clip = npz(path, **without(clip_arrays(), "mocap_frame_rate"))
    assert_same_bodies(clip, base())
    assert has_note(clip, "frames per second are assumed")


def shape_n_55_3(path: Path) -> None:
    arrays = clip_arrays()
    assert_same_bodies(npz(path, **arrays | {"poses": arrays["poses"].reshape(FRAMES, 55, 3)}), base())


def shape_n_52_3(path: Path) -> None:
    arrays = clip_arrays()
    poses = np.delete(arrays["poses"].reshape(FRAMES, 55, 3), [22, 23, 24], axis=1)
    assert_same_bodies(npz(path, **arrays | {"poses": poses}), base())


def shape_n_66(path: Path) -> None:
    arrays = clip_arrays()
    assert_same_bodies(npz(path, **arrays | {"poses": arrays["poses"][:, :66]}), base(), hands=False)


def shape_156(path: Path) -> None:
    arrays = clip_arrays()
    pose = np.delete(arrays["poses"][3].reshape(55, 3), [22, 23, 24], axis=0).reshape(156)
    clip = npz(path, **arrays | {"poses": pose, "trans": arrays["trans"][3]})
    assert len(clip) == 1
    assert np.allclose(clip.params.body_pose[0], base().body_pose[3], atol=1e-5)


def slahmr(path: Path) -> None:
    arrays = people_arrays([base()])
    clip = npz(path, **arrays)
    assert clip.count == FRAMES
    assert_same_bodies(clip, base())


def smplerx(path: Path) -> None:
    arrays = arrays_of(1)
    clip = npz(path, **{k: arrays[k].reshape(-1, 3) for k in ("global_orient", "body_pose", "transl")})
    assert len(clip) == 1 and clip.cameras is None
    assert np.allclose(clip.params.body_pose.reshape(63), arrays["body_pose"][0], atol=1e-5)


def intrinsics_of_fits(name: str) -> Callable[[Path], None]:
    def case(path: Path) -> None:
        arrays = arrays_of(3)
        matrix = np.zeros((3, 3, 3))
        matrix[:, 0, 0] = matrix[:, 1, 1] = arrays["focal_px"]
        matrix[:, :2, 2], matrix[:, 2, 2] = arrays["principal_px"], 1
        clip = npz(path, **without(arrays, "focal_px", "principal_px"), **{name: matrix})
        assert clip.cameras is not None
        assert np.allclose(clip.cameras.focal_px, arrays["focal_px"], rtol=1e-5)
        assert np.allclose(clip.cameras.principal_px, arrays["principal_px"], rtol=1e-5)

    return case


def smpl_69(path: Path) -> None:
    arrays = arrays_of(3)
    clip = npz(path, **arrays | {"body_pose": np.concatenate([arrays["body_pose"], np.zeros((3, 6))], axis=1)})
    assert np.allclose(clip.params.body_pose.reshape(3, 63), arrays["body_pose"], atol=1e-5)


def hand_pca(path: Path) -> None:
    clip = npz(path, **arrays_of(3) | {"left_hand_pose": np.full((3, 12), 0.4)})
    assert not clip.params.left_hand_pose.any()
    assert has_note(clip, "12 components")


def no_betas(path: Path) -> None:
    clip = npz(path, **without(arrays_of(3), "betas"))
    assert not clip.params.betas.any()
    assert has_note(clip, "no betas")


def betas_of_people(path: Path) -> None:
    given = np.array([-2.9, 1.8, -1.0, 2.0, 0.5, -1.2, 0.3, 0.8, -0.4, 0.6, *np.zeros(6)])
    clip = npz(path, **clip_arrays() | {"betas": given, "surface_model_type": "smplx"})
    assert 1.45 < stature_m(BODY, clip.params.betas[:1])[0] < 2.05
    assert has_note(clip, "mean shape")


NPZ = {
    "AMASS (control)": lambda path: assert_same_bodies(npz(path, **clip_arrays()), base()),
    "y up, as BEAT2": y_up,
    "y down, as BEHAVE": y_down_camera,
    "no frame rate": no_frame_rate,
    "poses (n, 55, 3)": shape_n_55_3,
    "poses (n, 52, 3)": shape_n_52_3,
    "poses (n, 66)": shape_n_66,
    "poses (156,)": shape_156,
    "SLAHMR": slahmr,
    "SMPLer-X": smplerx,
    "K_fullimg": intrinsics_of_fits("K_fullimg"),
    "cam_int": intrinsics_of_fits("cam_int"),
    "SMPL's 69": smpl_69,
    "hand components": hand_pca,
    "no betas": no_betas,
    "betas of real people": betas_of_people,
}


@pytest.mark.parametrize("case", NPZ)
def test_arrays(tmp_path: Path, case: str) -> None:
    NPZ[case](tmp_path)


def _moving(pitch: float, yaw: float, height: float) -> Motion:
    motion, beat = still(24), np.sin(np.linspace(0, 4, 24))
    for side, sign in (("left", 1), ("right", -1)):
        motion = turned(motion, f"{side}_shoulder", "z", -sign * (60 + 15 * beat))
        motion = turned(motion, f"{side}_hip", "x", -10 - 10 * sign * beat)
        motion = turned(motion, f"{side}_knee", "x", 15 + 15 * sign * beat)
    turn = Rotation.from_euler("YX", [yaw, pitch], degrees=True).as_matrix()
    motion.local["pelvis"] = np.repeat(turn[None], 24, axis=0)
    motion.pelvis[:] = (0, height, 0)
    return motion


@pytest.mark.parametrize(
    ("pitch", "yaw", "height", "tilt"),
    [(88, 0, 20, 90), (88, 90, 20, 90), (180, 0, 95, 180)],
    ids=["prone, head to z", "prone, head to x", "handstand"],
)
def test_bodies_off_their_feet(tmp_path: Path, pitch: float, yaw: float, height: float, tilt: float) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS["kinect"], _moving(pitch, yaw, height))
    (clip,) = read_clips(path, OPTIONS)
    assert clip.up_axis == "y"
    assert np.allclose(trunk_tilt_deg(BODY, clip.params), tilt, atol=12)
    assert worst_limb_deg(path, KINDS["kinect"], clip) < 1.0
    assert np.abs(BODY.forward(clip.params).vertices[..., 1].min(axis=1)).max() < 0.03


@pytest.mark.parametrize("walking", [False, True], ids=["standing", "walking"])
def test_feet_whose_bone_points_down(tmp_path: Path, walking: bool) -> None:
    motion, step = still(24), 15 * np.sin(np.linspace(0, 6, 24)) * (1 if walking else 0)
    for side, sign in (("left", 1), ("right", -1)):
        motion = turned(motion, f"{side}_shoulder", "z", -sign * np.linspace(40, 75, 24))
        motion = turned(motion, f"{side}_hip", "x", sign * step)
        motion = turned(motion, f"{side}_ankle", "x", -sign * step)
    read = {}
    for kind in ("low limbs", "foot bone points down"):
        (read[kind],) = read_clips(write_kind(tmp_path / f"{len(read)}.bvh", KINDS[kind], motion), OPTIONS)
        pitch = sole_pitch_deg(BODY, read[kind].params)
        assert np.isfinite(pitch).any() and np.nanmax(np.abs(pitch)) < 15, kind
    assert len(read["low limbs"]) == len(read["foot bone points down"])


def made(place: Path, folder: Path, **settings: object) -> tuple[set[str], set[str]]:
    """Files with rows in the pose library, and files in quarantine, after a run over a folder."""
    chosen = {"poses.source": str(folder), "poses.batch_size": 2, "curriculum.rounds": [], **settings}
    home = Home(place / "home")
    run_main_job(home, load_profile("pocket", chosen), only=("body_model", "pose_library"))
    store = home.store()
    rows = store.read("pose_library", columns=["provenance"]).column("provenance").to_pylist()
    assert set(store.read("pose_library", columns=["source"]).column("source").to_pylist()) <= {"bvh", "amass", "fits"}
    refused = store.read("quarantine", columns=["path"], missing_ok=True).column("path").to_pylist()
    return {name.split("#")[0] for name in rows}, set(refused)


def test_bvh_and_npz_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mocap"
    folder.mkdir()
    write_kind(folder / "a.bvh", KINDS["motive"], lively(seed=5))
    np.savez(folder / "b.npz", **clip_arrays())
    read, refused = made(tmp_path, folder, **{"poses.batches": 1, "poses.align_batches": 0, "alignment.method": "none"})
    assert read == {"a.bvh", "b.npz"}
    assert not refused


def test_a_batch_whose_only_file_is_unreadable_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "mocap"
    folder.mkdir()
    for i in range(4):
        write_kind(folder / f"good{i}.bvh", KINDS["motive"], lively(seed=i))
    (folder / "studio_take.bvh").write_text("HIERARCHY")
    read, refused = made(tmp_path, folder, **{"poses.batches": 5, "poses.align_batches": 0, "alignment.method": "none"})
    assert read == {f"good{i}.bvh" for i in range(4)}
    assert refused == {"studio_take.bvh"}


def test_one_fit_per_image_makes_base_and_alignment_batches(tmp_path: Path) -> None:
    folder = tmp_path / "fits"
    folder.mkdir()
    for i in range(12):
        fit = arrays_of(12)
        np.savez(folder / f"{i:05d}.npz", **{k: fit[k][i] for k in ("global_orient", "body_pose", "transl")})
    read, refused = made(tmp_path, folder, **{"poses.batches": 1, "poses.align_batches": 1})
    assert len(read) >= 4
    assert not refused
    home = Home(tmp_path / "home")
    assert {key.split("-")[0] for key in home.store().partitions("pose_library")} == {"fits", "align"}

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources import PoseFrames, read_pose_file


def arrays_of(count: int = 4, seed: int = 0) -> dict[str, Any]:
    """People in front of OpenCV cameras, roughly upright."""
    rng = np.random.default_rng(seed)
    upright = Rotation.from_rotvec([np.pi, 0, 0])
    turns = [Rotation.from_rotvec(rng.normal(0, 0.2, 3)) for _ in range(count)]
    return {
        "global_orient": np.stack([(upright * turn).as_rotvec() for turn in turns]),
        "body_pose": rng.normal(0, 0.3, (count, 63)),
        "betas": rng.normal(0, 1, (count, 10)),
        "left_hand_pose": rng.normal(0, 0.2, (count, 45)),
        "jaw_pose": rng.normal(0, 0.1, (count, 3)),
        "transl": rng.normal((0, 0, 4), 0.3, (count, 3)),
        "focal_px": rng.uniform(500, 900, count),
        "principal_px": rng.uniform(200, 300, (count, 2)),
        "image_size": np.array([640, 480]),
        "caption": np.array([f"person {i}" for i in range(count)]),
        "licence": "CC BY 4.0",
        "body_model": "posedreamer-free",
    }


def read(tmp_path: Path, arrays: dict[str, Any]) -> PoseFrames:
    path = tmp_path / "fits.npz"
    np.savez(path, **arrays)
    return read_pose_file(path, stride_s=0.5, seed=0)


def pixels_of(arrays: dict[str, Any]) -> np.ndarray:
    """The fit's own joints in pixels: camera frame straight to the image."""
    count = len(arrays["global_orient"])
    params = BodyParams.zeros(count).replace(
        global_orient=arrays["global_orient"].astype(np.float32),
        body_pose=arrays["body_pose"].reshape(count, 21, 3).astype(np.float32),
        betas=arrays["betas"].astype(np.float32),
        left_hand_pose=arrays["left_hand_pose"].reshape(count, 15, 3).astype(np.float32),
        jaw_pose=arrays["jaw_pose"].astype(np.float32),
        transl=arrays["transl"].astype(np.float32),
    )
    joints = load_body().joints(params)
    return arrays["focal_px"][:, None, None] * joints[..., :2] / joints[..., 2:] + arrays["principal_px"][:, None]


@pytest.mark.parametrize("seed", range(3))
def test_the_camera_sees_what_the_fit_saw(tmp_path: Path, seed: int) -> None:
    arrays = arrays_of(seed=seed)
    frames = read(tmp_path, arrays)
    assert frames.cameras is not None
    found = frames.cameras.project(load_body().joints(frames.params))
    assert np.abs(found - pixels_of(arrays)).max() < 0.02
    assert (frames.cameras.width, frames.cameras.height) == (640, 480)


def test_bodies_stand_upright_on_the_ground_at_the_origin(tmp_path: Path) -> None:
    frames = read(tmp_path, arrays_of())
    output = load_body().forward(frames.params)
    assert np.abs(output.vertices[..., 1].min(axis=1)).max() < 1e-4
    assert np.abs(output.joints[:, 0, [0, 2]]).max() < 1e-4
    assert (output.joints[:, 15, 1] > output.joints[:, 0, 1] + 0.2).all()


def test_captions_licence_and_names_are_kept(tmp_path: Path) -> None:
    frames = read(tmp_path, arrays_of())
    assert frames.captions == [f"person {i}" for i in range(4)]
    assert frames.licence == "CC BY 4.0"
    assert frames.names == [f"fits.npz#{i}" for i in range(4)]


def test_a_single_fit_needs_no_leading_axis(tmp_path: Path) -> None:
    arrays = arrays_of(1)
    expected = read(tmp_path, arrays)
    alone = {k: v[0] if k not in ("image_size", "licence", "body_model") else v for k, v in arrays.items()}
    alone["body_pose"] = alone["body_pose"].reshape(21, 3)
    found = read(tmp_path, alone)
    assert found.captions == ["person 0"]
    for name, values in expected.params.to_flat().items():
        assert np.array_equal(found.params.to_flat()[name], values), name


def test_intrinsics_equal_focal_and_principal(tmp_path: Path) -> None:
    arrays = arrays_of(2)
    expected = read(tmp_path, arrays)
    focal, principal = arrays.pop("focal_px"), arrays.pop("principal_px")
    matrix = np.zeros((2, 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = focal
    matrix[:, :2, 2], matrix[:, 2, 2] = principal, 1
    found = read(tmp_path, arrays | {"intrinsics": matrix})
    assert found.cameras is not None and expected.cameras is not None
    assert np.array_equal(found.cameras.focal_px, expected.cameras.focal_px)
    assert np.array_equal(found.cameras.principal_px, expected.cameras.principal_px)


def test_the_principal_point_defaults_to_the_image_centre(tmp_path: Path) -> None:
    arrays = arrays_of()
    del arrays["principal_px"]
    cameras = read(tmp_path, arrays).cameras
    assert cameras is not None
    assert np.array_equal(cameras.principal_px, np.tile([320, 240], (4, 1)))


def _spoil(key: str, value: Any, row: int = 1):
    def change(arrays: dict[str, Any]) -> dict[str, Any]:
        arrays[key] = arrays[key].astype(float)
        arrays[key][row] = value
        return arrays

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_spoil("body_pose", np.nan), "nan"),
        (_spoil("betas", 100.0), "absurd_value"),
        (_spoil("focal_px", np.inf), "nan"),
        (_spoil("focal_px", -3.0), "absurd_value"),
        (_spoil("principal_px", 1e5), "absurd_value"),
        (_spoil("transl", [0, 0, -4]), "absurd_value"),
    ],
)
def test_a_bad_fit_is_set_aside_alone(tmp_path: Path, change: Any, reason: str) -> None:
    frames = read(tmp_path, change(arrays_of()))
    assert [error.reason for error in frames.rejected] == [reason]
    assert frames.names == ["fits.npz#0", "fits.npz#2", "fits.npz#3"]
    assert frames.captions == ["person 0", "person 2", "person 3"]
    assert frames.cameras is not None and len(frames.cameras) == 3


def _without(*keys: str):
    return lambda arrays: {k: v for k, v in arrays.items() if k not in keys}


@pytest.mark.parametrize("lack", ["absent", "pickled"])
def test_fits_without_betas_have_the_mean_shape(tmp_path: Path, lack: str) -> None:
    arrays = arrays_of()
    expected = arrays | {"betas": np.zeros((4, 10))}
    given = _without("betas")(arrays) if lack == "absent" else arrays | {"betas": np.array([None] * 4, dtype=object)}
    frames = read(tmp_path, given)
    assert not frames.params.betas.any()
    assert any("betas" in note for note in frames.notes)
    assert lack == "absent" or any("betas is pickled and ignored" in note for note in frames.notes)
    assert frames.cameras is not None
    found = frames.cameras.project(load_body().joints(frames.params))
    assert np.abs(found - pixels_of(expected)).max() < 0.02


@pytest.mark.parametrize("gone", [("focal_px",), ("focal_px", "principal_px", "image_size"), ("transl",)])
def test_without_a_camera_the_pose_is_read_upright_and_the_camera_left_to_be_sampled(
    tmp_path: Path, gone: tuple[str, ...]
) -> None:
    arrays = arrays_of()
    frames = read(tmp_path, _without(*gone)(arrays))
    assert frames.cameras is None
    assert any("sampled" in note for note in frames.notes)
    assert np.allclose(frames.params.body_pose.reshape(4, 63), arrays["body_pose"], atol=1e-6)
    output, seen = load_body().forward(frames.params), read(tmp_path, arrays)
    assert np.abs(output.vertices[..., 1].min(axis=1)).max() < 0.02
    expected = load_body().forward(seen.params).joints
    height = (output.joints - output.joints[:, :1])[..., 1]
    assert np.allclose(height, (expected - expected[:, :1])[..., 1], atol=1e-4)  # as upright as with a camera


@pytest.mark.parametrize(("turn_deg", "told"), [(0, False), (90, False), (180, True)])
def test_fits_without_a_camera_that_are_upside_down_are_told(tmp_path: Path, turn_deg: float, told: bool) -> None:
    arrays = _without("focal_px", "transl")(arrays_of())
    turn = Rotation.from_euler("x", turn_deg, degrees=True)
    arrays["global_orient"] = (turn * Rotation.from_rotvec(arrays["global_orient"])).as_rotvec()
    assert any("upside down" in note for note in read(tmp_path, arrays).notes) == told


def test_without_an_image_size_the_principal_point_is_the_centre(tmp_path: Path) -> None:
    arrays = arrays_of() | {"principal_px": np.tile([320.0, 240.0], (4, 1))}
    frames = read(tmp_path, _without("image_size")(arrays))
    assert frames.cameras is not None
    assert (frames.cameras.width, frames.cameras.height) == (640, 480)
    assert any("centre" in note for note in frames.notes)
    assert np.abs(frames.cameras.project(load_body().joints(frames.params)) - pixels_of(arrays)).max() < 0.02


BAD = {
    "no body_pose": (_without("body_pose"), "missing_key"),
    "nothing known": (lambda arrays: {"x": np.zeros(3)}, "unknown_layout"),
    "pose too wide": (lambda arrays: arrays | {"body_pose": np.zeros((4, 66))}, "shape"),
    "captions short": (lambda arrays: arrays | {"caption": np.array(["a", "b"])}, "shape"),
    "caption of numbers": (lambda arrays: arrays | {"caption": np.arange(4)}, "dtype"),
    "empty": (lambda arrays: arrays | {"global_orient": np.zeros((0, 3))}, "empty"),
    "objects": (lambda arrays: arrays | {"body_pose": np.array([None], dtype=object)}, "pickle"),
    "all bad": (lambda arrays: arrays | {"transl": np.full((4, 3), np.nan)}, "nan"),
    "tiny image": (lambda arrays: arrays | {"image_size": np.array([2, 2])}, "absurd_value"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, kind: str) -> None:
    change, reason = BAD[kind]
    with pytest.raises(PoseFileError) as caught:
        read(tmp_path, change(arrays_of()))
    assert caught.value.reason == reason, caught.value

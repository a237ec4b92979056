from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import rotation_x
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources import PoseFrames, read_pose_file
from posedreamer_assets.poses.sources.clips import turn_world
from posedreamer_assets.poses.upright import AXES
from posedreamer_assets_tests.poses.clips import in_axes

COUNT = 9


def standing(seed: int = 0) -> BodyParams:
    """Distinct poses, the lowest vertex of each at y = 0, y up."""
    rng = np.random.default_rng(seed)
    yaw = np.outer(rng.uniform(-3, 3, COUNT), [0, 1, 0])
    lean = rng.normal(0, 0.1, (COUNT, 3))
    params = BodyParams.zeros(COUNT).replace(
        global_orient=(Rotation.from_rotvec(yaw) * Rotation.from_rotvec(lean)).as_rotvec().astype(np.float32),
        body_pose=rng.normal(0, 0.3, (COUNT, 21, 3)).astype(np.float32),
        left_hand_pose=rng.normal(0, 0.2, (COUNT, 15, 3)).astype(np.float32),
        right_hand_pose=rng.normal(0, 0.2, (COUNT, 15, 3)).astype(np.float32),
        jaw_pose=rng.normal(0, 0.1, (COUNT, 3)).astype(np.float32),
        leye_pose=rng.normal(0, 0.1, (COUNT, 3)).astype(np.float32),
        reye_pose=rng.normal(0, 0.1, (COUNT, 3)).astype(np.float32),
        betas=np.repeat(rng.normal(0, 1, (1, 10)), COUNT, axis=0).astype(np.float32),
        transl=rng.normal(0, 1, (COUNT, 3)).astype(np.float32),
    )
    return lowered(params)


def lowered(params: BodyParams) -> BodyParams:
    """The same bodies with their lowest vertex at y = 0, all vertices looked at."""
    transl = params.transl.copy()
    transl[:, 1] -= load_body().forward(params).vertices[..., 1].min(axis=1)
    return params.replace(transl=transl)


def smplx_arrays(params: BodyParams, **more: Any) -> dict[str, Any]:
    """AMASS's SMPL-X layout of y-up bodies: z up."""
    z_up = turn_world(load_body(), params, rotation_x(np.pi / 2))
    return {
        "poses": z_up.full_pose().reshape(COUNT, 165),
        "trans": z_up.transl,
        "betas": np.concatenate([params.betas[0], np.zeros(6)]),
        "mocap_frame_rate": 1.0,  # frames a second apart: none of them flies
        "gender": "neutral",
        "surface_model_type": "smplx",
        "body_model": "posedreamer-free",
    } | more


def read(tmp_path: Path, arrays: dict[str, Any]) -> PoseFrames:
    path = tmp_path / "clip.npz"
    np.savez(path, **arrays)
    return read_pose_file(path, stride_s=0.0, seed=0)


def turn_deg(a: np.ndarray, b: np.ndarray) -> float:
    difference = Rotation.from_rotvec(a.reshape(-1, 3)).inv() * Rotation.from_rotvec(b.reshape(-1, 3))
    return float(np.rad2deg(difference.magnitude()).max())


@pytest.mark.parametrize("seed", range(3))
def test_z_up_clips_come_back_y_up(tmp_path: Path, seed: int) -> None:
    params = standing(seed)
    frames = read(tmp_path, smplx_arrays(params))
    body = load_body()
    assert len(frames) == COUNT
    assert frames.names[4] == "clip.npz#4"
    assert np.abs(body.joints(frames.params) - body.joints(params)).max() < 2e-3
    assert turn_deg(frames.params.global_orient, params.global_orient) < 0.05
    assert np.array_equal(frames.params.body_pose, params.body_pose)
    for name in ("left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose", "betas"):
        assert np.allclose(getattr(frames.params, name), getattr(params, name), atol=1e-6), name


@pytest.mark.parametrize("axis", list(AXES))
def test_a_file_may_state_its_up_axis(tmp_path: Path, axis: str) -> None:
    params, body = standing(), load_body()
    turned = in_axes(params, axis)
    stated = smplx_arrays(turned, poses=turned.full_pose().reshape(COUNT, 165), trans=turned.transl, up_axis=axis)
    frames = read(tmp_path, stated)
    assert turn_deg(frames.params.global_orient, params.global_orient) < 0.05
    assert np.abs(body.joints(frames.params) - body.joints(params)).max() < 2e-3
    assert not any(" up " in note for note in frames.notes)


def test_a_guessed_up_axis_and_what_speaks_for_it_are_told(tmp_path: Path) -> None:
    notes = read(tmp_path, smplx_arrays(standing())).notes
    assert any("z is up" in note and "%" in note for note in notes)


def test_the_setting_overrules_the_file(tmp_path: Path) -> None:
    params = standing()
    path = tmp_path / "clip.npz"
    y_up = {"poses": params.full_pose().reshape(COUNT, 165), "trans": params.transl, "up_axis": "x"}
    np.savez(path, **(smplx_arrays(params) | y_up))
    found = read_pose_file(path, stride_s=0.0, seed=0, up_axis="y").params
    assert turn_deg(found.global_orient, params.global_orient) < 0.05


def test_a_clip_without_a_rate_is_read_at_an_assumed_one(tmp_path: Path) -> None:
    arrays = smplx_arrays(standing())
    expected = read(tmp_path, arrays)
    frames = read(tmp_path, _drop("mocap_frame_rate")(arrays))
    assert frames.fps == 30
    assert any("no frame rate: 30" in note for note in frames.notes)
    assert not any("no frame rate" in note for note in expected.notes)
    assert np.array_equal(frames.params.body_pose, expected.params.body_pose)


def test_a_turn_of_the_world_turns_every_vertex() -> None:
    params, body = standing(1), load_body()
    turn = Rotation.from_rotvec([0.4, -1.0, 0.3]).as_matrix()
    expected = body.joints(params) @ turn.T
    assert np.abs(body.joints(turn_world(body, params, turn)) - expected).max() < 1e-4


def test_named_columns_equal_the_joined_ones(tmp_path: Path) -> None:
    arrays = smplx_arrays(standing())
    poses = arrays.pop("poses")
    parts = np.split(poses, [3, 66, 69, 75], axis=1)
    names = ("root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand")
    found = read(tmp_path, arrays | dict(zip(names, parts, strict=True)))
    expected = read(tmp_path, arrays | {"poses": poses})
    for name, values in expected.params.to_flat().items():
        assert np.array_equal(found.params.to_flat()[name], values), name


def test_smplh_keeps_hands_and_drops_betas(tmp_path: Path) -> None:
    params = standing()
    arrays = smplx_arrays(params)
    poses = np.concatenate([arrays["poses"][:, :66], arrays["poses"][:, 75:]], axis=1)
    del arrays["surface_model_type"], arrays["mocap_frame_rate"], arrays["body_model"]
    frames = read(tmp_path, arrays | {"poses": poses, "betas": np.ones(16), "mocap_framerate": 120.0})
    assert frames.fps == 120
    assert not frames.params.betas.any()
    assert any("smplh" in note for note in frames.notes)
    assert np.allclose(frames.params.right_hand_pose, params.right_hand_pose)
    assert np.array_equal(frames.params.body_pose, params.body_pose)


def test_betas_of_a_gendered_model_are_dropped(tmp_path: Path) -> None:
    arrays = smplx_arrays(standing(), gender="female")
    assert read(tmp_path, arrays).params.betas.any()  # the free body has one shape space for all
    frames = read(tmp_path, _drop("body_model")(arrays))
    assert not frames.params.betas.any()
    assert any("female" in note for note in frames.notes)


@pytest.mark.parametrize("count", [1, 10, 16, 300])
def test_betas_are_cut_or_padded_to_ten(tmp_path: Path, count: int) -> None:
    given_betas = np.linspace(-1, 1, count)
    found = read(tmp_path, smplx_arrays(standing(), betas=given_betas)).params.betas[0]
    assert np.allclose(found[: min(count, 10)], given_betas[:10])
    assert not found[count:].any()


def _swap(key: str, value: Any):
    return lambda arrays: arrays | {key: value}


def _drop(key: str):
    return lambda arrays: {k: v for k, v in arrays.items() if k != key}


BAD = {
    "no poses": (_drop("poses"), "unknown_layout"),
    "poses too narrow": (_swap("poses", np.zeros((COUNT, 100))), "shape"),
    "poses flat": (_swap("poses", np.zeros(165)), "shape"),
    "poses empty": (_swap("poses", np.zeros((0, 165))), "empty"),
    "trans too short": (_swap("trans", np.zeros((COUNT - 1, 3))), "shape"),
    "trans of text": (_swap("trans", np.full((COUNT, 3), "x")), "dtype"),
    "complex poses": (_swap("poses", np.zeros((COUNT, 165), complex)), "dtype"),
    "objects": (_swap("poses", np.array([{"a": 1}], dtype=object)), "pickle"),
    "all nan": (_swap("poses", np.full((COUNT, 165), np.nan)), "nan"),
    "all absurd": (_swap("trans", np.full((COUNT, 3), 1e9)), "absurd_value"),
    "rates": (_swap("mocap_frame_rate", np.array([24.0, 30.0, 60.0])), "shape"),
    "betas 3d": (_swap("betas", np.zeros((2, 2, 10))), "shape"),
    "up is w": (_swap("up_axis", "w"), "unknown_layout"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, kind: str) -> None:
    spoil, reason = BAD[kind]
    with pytest.raises(PoseFileError) as caught:
        read(tmp_path, spoil(smplx_arrays(standing())))
    assert caught.value.reason == reason, caught.value


def test_a_bad_frame_is_set_aside_alone(tmp_path: Path) -> None:
    arrays = smplx_arrays(standing())
    arrays["poses"][2, 70] = np.nan
    arrays["trans"][5] = 1e6
    frames = read(tmp_path, arrays)
    assert sorted(error.reason for error in frames.rejected) == ["absurd_value", "nan"]
    assert {name.split("#")[1] for name in frames.names} == {"0", "1", "3", "4", "6", "7", "8"}


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    path.write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94")
    with pytest.raises(PoseFileError) as caught:
        read_pose_file(path, stride_s=1, seed=0)
    assert caught.value.reason == "pickle"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_cut_file_is_truncated(tmp_path: Path, share: float) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, **smplx_arrays(standing()))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PoseFileError) as caught:
        read_pose_file(path, stride_s=1, seed=0)
    assert caught.value.reason == ("truncated" if share else "empty")


def test_a_header_that_asks_for_more_than_the_file_holds_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, **smplx_arrays(standing()))
    content = path.read_bytes()
    at = content.index(b"(9, 165)")
    path.write_bytes(content[:at] + b"(99,165)" + content[at + 8 :])
    with pytest.raises(PoseFileError) as caught:
        read_pose_file(path, stride_s=1, seed=0)
    assert caught.value.reason == "truncated"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_give_poses_or_a_pose_file_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "clip.npz"
    if not path.exists():
        np.savez(path, **smplx_arrays(standing()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        # Headers and the zip directory are the fragile parts: half of the hits go there.
        low = data.draw(st.sampled_from([0, max(0, len(content) - 700)]))
        at = data.draw(st.integers(low, min(low + 700, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    fuzzed = tmp_path / "fuzz.npz"
    fuzzed.write_bytes(bytes(content))
    try:
        frames = read_pose_file(fuzzed, stride_s=0.1, seed=0)
    except PoseFileError:
        return
    assert np.isfinite(frames.params.full_pose()).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), zipped=st.booleans())
def test_random_bytes_give_a_pose_file_error(tmp_path: Path, content: bytes, zipped: bool) -> None:
    path = tmp_path / "fuzz.npz"
    path.write_bytes(b"PK\x03\x04" * zipped + content)
    with pytest.raises(PoseFileError):
        read_pose_file(path, stride_s=1, seed=0)

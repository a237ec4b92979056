"""AMASS-style npz clips: SMPL-X, SMPL-H and SMPL pose layouts, z up (Mahmood et al., ICCV 2019)."""

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import rotation_x
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.frames import (
    PoseFrames,
    distinct_poses,
    ground_level,
    posed_joints,
    put_on_ground,
    reject_bad_frames,
    rest_joints,
    stride_indices,
)
from posedreamer_assets.poses.sources.npz import NpzArrays

# Width of `poses` -> model; columns are root, body, then (SMPL-X) jaw, eyes and (SMPL-X, SMPL-H) hands.
_WIDTHS = {165: "smplx", 156: "smplh", 72: "smpl"}
_RATE_KEYS = ("mocap_frame_rate", "mocap_framerate", "fps")


def is_amass(arrays: NpzArrays) -> bool:
    """Whether the npz holds a clip in one of AMASS's layouts."""
    return "poses" in arrays or ("pose_body" in arrays and "root_orient" in arrays)


def read_amass(arrays: NpzArrays, *, stride_s: float, seed: int, licence: str, body: BodyModel) -> PoseFrames:
    """Read one clip.

    AMASS is z up; the root orientation and the pelvis path are turned to y up. A scalar `up_axis` of "y" says that the
    file is y up already. Betas are cut or padded to 10; those of another model or of a gendered one span another shape
    space and become zero, with a note.

    Raises:
        PoseFileError: with the reason that applies; single bad frames are in `rejected` instead.
    """
    path = arrays.path
    model, columns = _pose_columns(arrays)
    count = len(columns["global_orient"])
    columns["transl"] = arrays.rows("trans" if "trans" in arrays else "transl", 3, count)
    fps = _frame_rate(arrays)
    betas, notes = _betas(arrays, model)
    columns["betas"] = np.broadcast_to(betas, (count, 10))
    chosen = stride_indices(path, count, fps, stride_s, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        arrays32 = {name: values[chosen].astype(np.float32) for name, values in columns.items()}
    params = BodyParams.zeros(len(chosen)).replace(**arrays32)
    good, rejected = reject_bad_frames(path, params, chosen)
    params, chosen = params.take(np.flatnonzero(good)), chosen[good]
    if _up_axis(arrays) == "z":
        params = turn_world(body, params, rotation_x(-np.pi / 2))
    keep = distinct_poses(posed_joints(body, params))
    params, chosen = params.take(keep), chosen[keep]
    return PoseFrames(
        params=put_on_ground(body, params, ground_level(body, params)),
        fps=fps,
        names=[f"{path.name}#{i}" for i in chosen],
        family=path.stem,
        licence=licence,
        kind="amass",
        rejected=tuple(rejected),
        notes=notes,
    )


def turn_world(body: BodyModel, params: BodyParams, rotation: np.ndarray) -> BodyParams:
    """The same bodies in a world turned by `rotation` (3, 3).

    SMPL-X turns a body about its pelvis J0, so that the turn acts on J0 + transl: transl' = R (J0 + transl) - J0.
    """
    pelvis = rest_joints(body, params)[:, 0]
    orient = Rotation.from_matrix(rotation) * Rotation.from_rotvec(params.global_orient)
    transl = (pelvis + params.transl) @ rotation.T - pelvis
    return params.replace(global_orient=orient.as_rotvec().astype(np.float32), transl=transl.astype(np.float32))


def _pose_columns(arrays: NpzArrays) -> tuple[str, dict[str, np.ndarray]]:
    if "pose_body" in arrays and "root_orient" in arrays:
        return _named_columns(arrays)
    poses = arrays.numbers("poses")
    if poses.ndim != 2 or poses.shape[1] not in _WIDTHS:
        widths = ", ".join(f"{w} ({m})" for w, m in _WIDTHS.items())
        raise PoseFileError(arrays.path, "shape", f"poses: shape {poses.shape}, expected (n, w) with w of {widths}")
    if len(poses) == 0:
        raise PoseFileError(arrays.path, "empty", "poses holds no frames")
    model = _WIDTHS[poses.shape[1]]
    parts = {"global_orient": poses[:, :3], "body_pose": poses[:, 3:66]}
    if model == "smplx":
        parts |= {"jaw_pose": poses[:, 66:69], "leye_pose": poses[:, 69:72], "reye_pose": poses[:, 72:75]}
    if model != "smpl":
        parts |= {"left_hand_pose": poses[:, -90:-45], "right_hand_pose": poses[:, -45:]}
    return model, _shaped(parts)


def _named_columns(arrays: NpzArrays) -> tuple[str, dict[str, np.ndarray]]:
    parts = {"global_orient": arrays.rows("root_orient", 3)}
    count = len(parts["global_orient"])
    parts["body_pose"] = arrays.rows("pose_body", 63, count)
    if "pose_hand" in arrays:
        hands = arrays.rows("pose_hand", 90, count)
        parts |= {"left_hand_pose": hands[:, :45], "right_hand_pose": hands[:, 45:]}
    if "pose_jaw" in arrays:
        parts["jaw_pose"] = arrays.rows("pose_jaw", 3, count)
    if "pose_eye" in arrays:
        eyes = arrays.rows("pose_eye", 6, count)
        parts |= {"leye_pose": eyes[:, :3], "reye_pose": eyes[:, 3:]}
    told = arrays.text("surface_model_type") if "surface_model_type" in arrays else []
    model = told[0].lower() if told else ("smplx" if "pose_jaw" in arrays else "smplh")
    return model, _shaped(parts)


def _shaped(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    joints = {"body_pose": 21, "left_hand_pose": 15, "right_hand_pose": 15}
    return {name: v.reshape(len(v), joints[name], 3) if name in joints else v for name, v in parts.items()}


def _frame_rate(arrays: NpzArrays) -> float:
    key = next((key for key in _RATE_KEYS if key in arrays), _RATE_KEYS[0])
    fps = arrays.number(key)
    if not 1 <= fps <= 1000:
        raise PoseFileError(arrays.path, "absurd_value", f"{key}: {fps:g} frames per second")
    return fps


def _betas(arrays: NpzArrays, model: str) -> tuple[np.ndarray, tuple[str, ...]]:
    betas = np.zeros(10)
    if "betas" not in arrays:
        return betas, ("no betas: the mean shape is used",)
    if model != "smplx":
        return betas, (f"betas are of {model}'s shape space: the mean shape is used",)
    gender = (arrays.text("gender") or ["neutral"])[0].lower() if "gender" in arrays else "neutral"
    if gender in ("male", "female"):
        return betas, (f"betas are of the {gender} model's shape space: the mean shape is used",)
    given = arrays.numbers("betas")
    given = given[0] if given.ndim == 2 and len(given) else given
    if given.ndim != 1:
        raise PoseFileError(arrays.path, "shape", f"betas: shape {given.shape}, expected (10..300,)")
    betas[: min(10, given.size)] = given[:10]
    return betas, ()


def _up_axis(arrays: NpzArrays) -> str:
    axis = (arrays.text("up_axis") or [""])[0].lower() if "up_axis" in arrays else "z"
    if axis not in ("y", "z"):
        raise PoseFileError(arrays.path, "unknown_layout", f"up_axis: {axis!r}, expected 'y' or 'z'")
    return axis

"""One clip and one set of fits in the spellings of many programs, made by the tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.params import BodyParams
from posedreamer_assets_tests.poses.clips import FRAMES, in_axes, walk

Arrays = dict[str, Any]


def base() -> BodyParams:
    """A walk with bent fingers, y up."""
    rng = np.random.default_rng(5)
    hands = {f"{side}_hand_pose": rng.normal(0, 0.2, (FRAMES, 15, 3)).astype(np.float32) for side in ("left", "right")}
    return walk(yaw_deg=30).replace(**hands)


def clip_arrays(axis: str = "z", params: BodyParams | None = None) -> Arrays:
    """AMASS's SMPL-X layout of the walk."""
    there = in_axes(params or base(), axis)
    return {
        "poses": there.full_pose().reshape(FRAMES, 165).astype(np.float64),
        "trans": there.transl.astype(np.float64),
        "betas": np.zeros(16),
        "gender": "neutral",
        "mocap_frame_rate": 30.0,
    }


def matrices(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3)."""
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)


def _six(vectors: np.ndarray, layout: str) -> np.ndarray:
    turned = matrices(vectors)
    if layout == "rows":
        return turned[..., :2, :].reshape(*vectors.shape[:-1], 6)
    if layout == "columns":
        return np.swapaxes(turned[..., :, :2], -1, -2).reshape(*vectors.shape[:-1], 6)
    return turned[..., :, :2].reshape(*vectors.shape[:-1], 6)


def _poses(change: Callable[[np.ndarray], np.ndarray], **more: Any) -> Callable[[Arrays], Arrays]:
    """Other spelling of `poses`, which is given as (n, 55, 3)."""
    return lambda a: a | {"poses": change(a["poses"].reshape(FRAMES, 55, 3))} | more


def _smplh(full: np.ndarray) -> np.ndarray:
    return np.concatenate([full[:, :22], full[:, 25:]], axis=1)


def _named(a: Arrays, change: Callable[[np.ndarray], np.ndarray], root: str, body: str) -> Arrays:
    full = a["poses"].reshape(FRAMES, 55, 3)
    held = {k: v for k, v in a.items() if k != "poses"}
    return held | {root: change(full[:, :1]), body: change(full[:, 1:22])}


def _smpl(full: np.ndarray) -> np.ndarray:
    return np.concatenate([full[:, :22], np.full((FRAMES, 2, 3), 0.1)], axis=1)


WITH_HANDS: dict[str, Callable[[Arrays], Arrays]] = {
    "n 165": lambda a: a,
    "n 55 3": _poses(lambda full: full),
    "n 156": _poses(lambda full: _smplh(full).reshape(FRAMES, 156)),
    "n 52 3": _poses(_smplh),
    "matrices": _poses(matrices),
    "matrices in a row": _poses(lambda full: matrices(full).reshape(FRAMES, 495)),
    "6D rows": _poses(lambda full: _six(full, "rows").reshape(FRAMES, 330)),
    "6D columns": _poses(lambda full: _six(full, "columns")),
    "6D interleaved": _poses(lambda full: _six(full, "interleaved")),
    "named": lambda a: (
        _named(a, lambda part: part.reshape(FRAMES, -1), "root_orient", "pose_body")
        | {"pose_hand": a["poses"][:, 75:], "pose_jaw": a["poses"][:, 66:69], "pose_eye": a["poses"][:, 69:75]}
    ),
    "hands apart": lambda a: (
        _named(a, lambda part: part, "global_orient", "body_pose")
        | {"left_hand_pose": a["poses"][:, 75:120], "right_hand_pose": a["poses"][:, 120:].reshape(FRAMES, 15, 3)}
    ),
    "big-endian": lambda a: a | {"poses": a["poses"].astype(">f8"), "trans": a["trans"].astype(">f8")},
    "columns first": lambda a: a | {"poses": np.asfortranarray(a["poses"])},
    "rate of one element": lambda a: a | {"mocap_frame_rate": np.array([30.0])},
    "rate as text": lambda a: a | {"mocap_frame_rate": "30 fps"},
    "rate by another name": lambda a: {k: v for k, v in a.items() if k != "mocap_frame_rate"} | {"fps": np.int64(30)},
    "optional array pickled": lambda a: a | {"betas": np.array([{"a": 1}], dtype=object)},
    "AIST++": lambda a: (
        {k: v for k, v in a.items() if k not in ("poses", "trans")}
        | {"smpl_poses": a["poses"], "smpl_trans": a["trans"] * 93.0, "smpl_scaling": np.array([93.0])}
    ),
}
"""Spellings that keep every joint of the clip."""

BODY_ONLY: dict[str, Callable[[Arrays], Arrays]] = {
    "n 66": _poses(lambda full: full[:, :22].reshape(FRAMES, 66)),
    "n 22 3": _poses(lambda full: full[:, :22]),
    "n 72": _poses(lambda full: _smpl(full).reshape(FRAMES, 72)),
    "matrices by name": lambda a: _named(a, matrices, "root_orient", "pose_body"),
    "6D rows by name": lambda a: _named(a, lambda part: _six(part, "rows"), "root_orient", "pose_body"),
    "6D columns by name": lambda a: _named(a, lambda part: _six(part, "columns"), "root_orient", "pose_body"),
    "SMPL's 69": lambda a: _named(
        a,
        lambda part: (
            part if part.shape[1] == 1 else np.concatenate([part, np.full((FRAMES, 2, 3), 0.1)], 1).reshape(FRAMES, 69)
        ),
        "root_orient",
        "pose_body",
    ),
    "hand components": lambda a: (
        _named(a, lambda part: part, "root_orient", "pose_body") | {"pose_hand": np.full((FRAMES, 24), 0.3)}
    ),
}
"""Spellings without fingers, or with ones that cannot be used: flat hands."""


def people_arrays(people: list[BodyParams], axis: str = "y") -> Arrays:
    """SLAHMR's layout: (people, frames, ...)."""
    there = [in_axes(person, axis) for person in people]
    return {
        "trans": np.stack([p.transl for p in there]),
        "root_orient": np.stack([p.global_orient for p in there]),
        "pose_body": np.stack([p.body_pose.reshape(FRAMES, 63) for p in there]),
        "pose_hand": np.stack([p.full_pose()[:, 25:].reshape(FRAMES, 90) for p in there]),
        "betas": np.zeros((len(people), 16)),
        "cam_R": np.zeros((len(people), FRAMES, 3, 3)),
        "intrins": np.array([1000.0, 1000.0, 640.0, 360.0]),
        "floor_plane": np.array([[0.0, 1.0, 0.0]]),
    }


def motionx_array(params: BodyParams) -> np.ndarray:
    """Motion-X's 322 columns."""
    row = np.zeros((FRAMES, 322))
    full = params.full_pose().reshape(FRAMES, 165)
    row[:, :66], row[:, 66:156], row[:, 156:159] = full[:, :66], full[:, 75:], full[:, 66:69]
    row[:, 309:312] = params.transl
    return row


def _without(arrays: Arrays, *names: str) -> Arrays:
    return {k: v for k, v in arrays.items() if k not in names}


def _matrix(a: Arrays) -> np.ndarray:
    held = np.zeros((len(a["focal_px"]), 3, 3))
    held[:, 0, 0] = held[:, 1, 1] = a["focal_px"]
    held[:, :2, 2], held[:, 2, 2] = a["principal_px"], 1
    return held


def _weak(a: Arrays, centre: np.ndarray, box: float) -> np.ndarray:
    """Scale and shift of a square crop under which a body lies where `transl` puts it."""
    x, y, z = a["transl"].T
    shift = (centre - a["principal_px"]) * (z / a["focal_px"])[:, None]
    return np.stack([2 * a["focal_px"] / (box * z), x - shift[:, 0], y - shift[:, 1]], axis=1)


def _crop(a: Arrays) -> Arrays:
    centre = np.random.default_rng(3).uniform(100, 400, (len(a["transl"]), 2))
    crop = {"pred_cam": _weak(a, centre, 224.0), "box_center": centre, "box_size": np.full(len(centre), 224.0)}
    return _without(a, "transl") | crop


CAMERAS: dict[str, Callable[[Arrays], Arrays]] = {
    "K_fullimg alone": lambda a: _without(a, "focal_px", "principal_px", "image_size") | {"K_fullimg": _matrix(a)},
    "cam_int": lambda a: _without(a, "focal_px", "principal_px") | {"cam_int": _matrix(a)},
    "one intrinsics for all": lambda a: (
        _without(a, "focal_px", "principal_px") | {"intrinsics": np.array([600.0, 600.0, 320.0, 240.0])}
    ),
    "focal lengths of x and y": lambda a: (
        _without(a, "focal_px") | {"focal_length": np.stack([a["focal_px"]] * 2, axis=1)}
    ),
    "size of the array": lambda a: _without(a, "image_size") | {"img_shape": np.array([480, 640, 3])},
    "width and height": lambda a: _without(a, "image_size") | {"width": np.array(640), "height": np.array(480)},
    "translation of the camera": lambda a: _without(a, "transl") | {"pred_cam_t": a["transl"]},
    "weak perspective with its box": _crop,
    "weak perspective alone": lambda a: (
        _without(a, "transl", "principal_px") | {"pred_cam": _weak(a, a["principal_px"], 480.0)}
    ),
}
"""Spellings of the camera of the fits of `fit_arrays` in `test_fits`; two of them need one camera in the image's middle."""

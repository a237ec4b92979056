"""Per-image SMPL-X fits: npz files with body parameters and a pinhole camera, one or many images in each.

Keys (n images; a file of one image may drop the leading axis): `global_orient` (n, 3), `body_pose` (n, 63), `transl`
(n, 3), all in the OpenCV camera frame; `betas` (n, 10 or more); optional `left_hand_pose`, `right_hand_pose` (n, 45),
`jaw_pose`, `leye_pose`, `reye_pose` (n, 3), `expression` (n, 10 or more). Camera: `focal_px` (n,), `principal_px`
(n, 2; the image centre if absent) and `image_size` (n, 2) as width, height; a single value serves all images; or
`intrinsics` (n, 3, 3) with `image_size`. Optional `caption` (n,) and `licence`. Parameters belong to the body model
that the project is configured with: another model has its pelvis elsewhere.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.frames import PoseFrames, reject_bad_frames, rest_joints
from posedreamer_assets.poses.sources.npz import NpzArrays

_FOCAL_KEYS = ("focal_px", "focal_length", "focal")
_PRINCIPAL_KEYS = ("principal_px", "principal_point", "camera_center")
_OPTIONAL = {"left_hand_pose": 45, "right_hand_pose": 45, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3}
_CHUNK = 64
# OpenCV camera axes to a world with y up, seen by a level camera on its +z side.
_TO_WORLD = np.diag([1.0, -1.0, -1.0])


def is_fits(arrays: NpzArrays) -> bool:
    """Whether the npz holds per-image fits."""
    return "global_orient" in arrays or "body_pose" in arrays


def read_fits(arrays: NpzArrays, *, licence: str, body: BodyModel) -> PoseFrames:
    """Read all fits of one file; each body is moved to stand at the world's origin and its camera with it.

    What the camera sees is unchanged: `cameras.project` of the world joints gives the pixels of the fit. Images of
    different sizes share the largest width and height, the picture in the upper left corner.

    Raises:
        PoseFileError: with the reason that applies; single bad fits are in `rejected` instead.
    """
    path = arrays.path
    params = _params(arrays)
    count = len(params)
    focal, principal, size = _camera(arrays, count)
    good, rejected = reject_bad_frames(path, params, np.arange(count))
    camera_good, camera_errors = _reject_bad_cameras(path, params, focal, principal, size)
    keep = np.flatnonzero(good & camera_good)
    rejected += [error for i, error in camera_errors if good[i]]
    if not len(keep):
        raise PoseFileError(path, rejected[0].reason, f"no good fit; {rejected[0].detail}")
    world, cameras = _to_world(body, params.take(keep), focal[keep], principal[keep], size[keep])
    captions = _captions(arrays, count)
    return PoseFrames(
        params=world,
        fps=0.0,
        names=[f"{path.name}#{i}" for i in keep],
        family=path.stem,
        licence=licence,
        kind="fits",
        cameras=cameras,
        captions=[captions[i] for i in keep] if captions else None,
        rejected=tuple(rejected),
    )


def _params(arrays: NpzArrays) -> BodyParams:
    columns = {"global_orient": arrays.rows("global_orient", 3)}
    count = len(columns["global_orient"])
    columns["body_pose"] = arrays.rows("body_pose", 63, count).reshape(count, 21, 3)
    columns["transl"] = arrays.rows("transl", 3, count)
    columns["betas"] = _components(arrays, "betas", count)
    if "expression" in arrays:
        columns["expression"] = _components(arrays, "expression", count)
    for key, width in _OPTIONAL.items():
        if key in arrays:
            values = arrays.rows(key, width, count)
            columns[key] = values.reshape(count, 15, 3) if width == 45 else values
    with np.errstate(over="ignore", invalid="ignore"):
        return BodyParams.zeros(count).replace(**{k: v.astype(np.float32) for k, v in columns.items()})


def _components(arrays: NpzArrays, key: str, count: int) -> np.ndarray:
    values = arrays.numbers(key)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) not in (1, count) or values.shape[1] == 0:
        raise PoseFileError(arrays.path, "shape", f"{key}: shape {values.shape}, expected ({count}, 10)")
    out = np.zeros((count, 10))
    width = min(10, values.shape[1])
    out[:, :width] = values[:, :width]
    return out


def _camera(arrays: NpzArrays, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """focal (n,), principal (n, 2), size (n, 2), all in pixels."""
    if "image_size" in arrays:
        size = _per_image(arrays, "image_size", 2, count)
    else:
        size = np.concatenate([_per_image(arrays, key, 1, count) for key in ("width", "height")], axis=1)
    if "intrinsics" in arrays:
        matrix = _per_image(arrays, "intrinsics", 9, count)
        return (matrix[:, 0] + matrix[:, 4]) / 2, matrix[:, [2, 5]], size
    focal_key = next((key for key in _FOCAL_KEYS if key in arrays), _FOCAL_KEYS[0])
    given = arrays.numbers(focal_key).shape
    both = (len(given) == 2 and given[1] == 2) or (given == (2,) and count != 2)  # fx and fy apart
    focal = _per_image(arrays, focal_key, 2 if both else 1, count).mean(axis=1)
    principal_key = next((key for key in _PRINCIPAL_KEYS if key in arrays), None)
    principal = size / 2 if principal_key is None else _per_image(arrays, principal_key, 2, count)
    return focal, principal, size


def _per_image(arrays: NpzArrays, key: str, width: int, count: int) -> np.ndarray:
    values = arrays.numbers(key)
    if values.size == width:
        return np.repeat(values.reshape(1, width), count, axis=0)
    if values.size != width * count or values.shape[:1] != (count,):
        raise PoseFileError(arrays.path, "shape", f"{key}: shape {values.shape}, expected ({count}, {width})")
    return values.reshape(count, width)


def _reject_bad_cameras(
    path: Path, params: BodyParams, focal: np.ndarray, principal: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, PoseFileError]]]:
    finite = np.isfinite(focal) & np.isfinite(principal).all(axis=1) & np.isfinite(size).all(axis=1)
    with np.errstate(invalid="ignore"):
        checks = {
            "image_size is not within 8..32768 pixels": ((size >= 8) & (size <= 32768)).all(axis=1),
            "focal_px is not within 1..1e6 pixels": (focal >= 1) & (focal <= 1e6),
            "principal_px is more than an image away": (np.abs(principal - size / 2) <= 1.5 * size).all(axis=1),
            "the body is behind the camera": ~(params.transl[:, 2] < 0),
        }
    good, errors = np.ones(len(focal), bool), []
    for i in range(len(focal)):
        broken = [text for text, passed in checks.items() if not passed[i]]
        if not finite[i]:
            errors.append((i, PoseFileError(path, "nan", f"fit {i}: the camera is not finite")))
        elif broken:
            errors.append((i, PoseFileError(path, "absurd_value", f"fit {i}: {broken[0]}")))
        good[i] = bool(finite[i]) and not broken
    return good, errors


def _to_world(
    body: BodyModel, params: BodyParams, focal: np.ndarray, principal: np.ndarray, size: np.ndarray
) -> tuple[BodyParams, Cameras]:
    pelvis = rest_joints(body, params)[:, 0]
    orient = Rotation.from_matrix(_TO_WORLD) * Rotation.from_rotvec(params.global_orient)
    position = (pelvis + params.transl) @ _TO_WORLD.T
    turned = params.replace(
        global_orient=orient.as_rotvec().astype(np.float32), transl=(position - pelvis).astype(np.float32)
    )
    shift = np.stack([-position[:, 0], -_lowest_vertex(body, turned), -position[:, 2]], axis=1)
    world = turned.replace(transl=(turned.transl + shift).astype(np.float32))
    count = len(params)
    cameras = Cameras(
        rotation=np.repeat(_TO_WORLD[None], count, axis=0).astype(np.float32),
        translation=(-shift @ _TO_WORLD.T).astype(np.float32),
        focal_px=focal.astype(np.float32),
        principal_px=principal.astype(np.float32),
        width=round(float(size[:, 0].max())),
        height=round(float(size[:, 1].max())),
        pitch_deg=np.zeros(count, np.float32),
        roll_deg=np.zeros(count, np.float32),
    )
    return world, cameras


def _lowest_vertex(body: BodyModel, params: BodyParams) -> np.ndarray:
    starts = range(0, len(params), _CHUNK)
    return np.concatenate(
        [body.forward(params.take(slice(i, i + _CHUNK))).vertices[..., 1].min(axis=1) for i in starts]
    )


def _captions(arrays: NpzArrays, count: int) -> list[str] | None:
    key = next((key for key in ("caption", "captions") if key in arrays), None)
    if key is None:
        return None
    captions = arrays.text(key)
    if len(captions) not in (1, count):
        raise PoseFileError(arrays.path, "shape", f"{key}: {len(captions)} texts for {count} fits")
    return captions * (count if len(captions) == 1 else 1)

"""The cameras of per-image fits, in the spellings that programs write them in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.npz import Arrays
from posedreamer_assets.poses.sources.parts import usable

_FOCAL_KEYS = ("focal_px", "focal_length", "focal", "focal_length_in_px", "fl")
_PRINCIPAL_KEYS = ("principal_px", "principal_point", "camera_center")
_MATRIX_KEYS = ("intrinsics", "cam_int", "K_fullimg", "K", "camera_matrix", "intrins")
_SIZE_KEYS = ("image_size", "img_size", "imgsize")
_WEAK_KEYS = ("pred_cam", "pred_camera", "weak_cam", "cam")
_BOX_CENTRE_KEYS, _BOX_SIZE_KEYS = ("box_center", "bbox_center"), ("box_size", "bbox_size")
TRANSL_KEYS = ("transl", "trans", "cam_trans", "trans_cam", "pred_cam_t_full", "pred_cam_t", "cam_t")


@dataclass(frozen=True)
class FitCameras:
    """Pinhole cameras, all numbers in pixels of the whole image."""

    focal: Float[np.ndarray, "n"]
    principal: Float[np.ndarray, "n 2"]
    size: Float[np.ndarray, "n 2"]  # width, height

    def take(self, keep: np.ndarray) -> "FitCameras":
        """The cameras at these indices."""
        return FitCameras(self.focal[keep], self.principal[keep], self.size[keep])


def read_cameras(arrays: Arrays, count: int, notes: list[str]) -> FitCameras | None:
    """The cameras of the fits; None, with a note, where the file does not say enough.

    Raises:
        PoseFileError: `shape` or `dtype` of what it says.
    """
    size = _size(arrays, count, notes)
    matrix_key = usable(arrays, notes, *_MATRIX_KEYS)
    focal_key = usable(arrays, notes, *_FOCAL_KEYS)
    if matrix_key:
        focal, principal = _from_matrix(arrays, matrix_key, count)
    elif focal_key:
        principal_key = usable(arrays, notes, *_PRINCIPAL_KEYS)
        principal = per_image(arrays, principal_key, 2, count) if principal_key else None
        focal = _focal(arrays, focal_key, count)
    else:
        notes.append("no camera in the file: one is sampled")
        return None
    if size is None and principal is None:
        notes.append("a focal length without an image size: the camera is sampled")
        return None
    if size is None and principal is not None:
        notes.append("no image size in the file: the principal point is taken to be the image's centre")
        size = np.rint(2 * principal)
    assert size is not None
    return FitCameras(focal, size / 2 if principal is None else principal, size)


def read_translation(
    arrays: Arrays, count: int, cameras: FitCameras | None, notes: list[str]
) -> Float[np.ndarray, "n 3"] | None:
    """Translations in the camera frame, metres; from weak-perspective cameras where there are only these.

    A weak-perspective camera (scale, x, y) belongs to a square crop whose sides are at -1 and 1. With focal length f and
    a crop of b pixels its body lies at depth 2 f / (b scale), and moves with the crop's centre in the image.

    Raises:
        PoseFileError: `shape` or `dtype`.
    """
    key = usable(arrays, notes, *TRANSL_KEYS)
    if key is not None:
        return per_image(arrays, key, 3, count)
    weak_key = usable(arrays, notes, *_WEAK_KEYS)
    if weak_key is None or cameras is None:
        return None
    weak = per_image(arrays, weak_key, 3, count)
    centre_key, box_key = usable(arrays, notes, *_BOX_CENTRE_KEYS), usable(arrays, notes, *_BOX_SIZE_KEYS)
    if centre_key and box_key:
        centre, box = per_image(arrays, centre_key, 2, count), per_image(arrays, box_key, 1, count)[:, 0]
    else:
        notes.append(f"{weak_key} without its box: the crop is taken to be the largest square in the image's middle")
        centre, box = cameras.principal, cameras.size.min(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        half = box * weak[:, 0] / 2  # pixels a metre
        place = weak[:, 1:] + (centre - cameras.principal) / half[:, None]
        return np.concatenate([place, (cameras.focal / half)[:, None]], axis=1)


def _size(arrays: Arrays, count: int, notes: list[str]) -> np.ndarray | None:
    key = usable(arrays, notes, *_SIZE_KEYS)
    if key:
        return per_image(arrays, key, 2, count)
    if all(usable(arrays, notes, k) for k in ("width", "height")):
        return np.concatenate([per_image(arrays, k, 1, count) for k in ("width", "height")], axis=1)
    shape_key = usable(arrays, notes, "img_shape", "image_shape", "ori_shape")
    if shape_key is None:
        return None
    values = arrays.numbers(shape_key)
    values = values[..., :2] if values.ndim and values.shape[-1] == 3 else values
    held = Arrays(arrays.path, {shape_key: values})
    return per_image(held, shape_key, 2, count)[:, ::-1]  # of an array: rows first


def _from_matrix(arrays: Arrays, key: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    if arrays.numbers(key).size in (4, 4 * count) and arrays.numbers(key).shape[-1] == 4:  # fx, fy, cx, cy
        four = per_image(arrays, key, 4, count)
        return four[:, :2].mean(axis=1), four[:, 2:]
    matrix = per_image(arrays, key, 9, count)
    return (matrix[:, 0] + matrix[:, 4]) / 2, matrix[:, [2, 5]]


def _focal(arrays: Arrays, key: str, count: int) -> np.ndarray:
    given = arrays.numbers(key).shape
    both = (len(given) == 2 and given[1] == 2) or (given == (2,) and count != 2)  # fx and fy apart
    return per_image(arrays, key, 2 if both else 1, count).mean(axis=1)


def per_image(arrays: Arrays, key: str, width: int, count: int) -> Float[np.ndarray, "n w"]:
    """An array with one row for each image; a single row serves all.

    Raises:
        PoseFileError: `shape` or `dtype`.
    """
    values = arrays.numbers(key)
    if values.size == width:
        return np.repeat(values.reshape(1, width), count, axis=0)
    if values.size != width * count or values.shape[:1] != (count,):
        raise PoseFileError(arrays.path, "shape", f"{key}: shape {values.shape}, expected ({count}, {width})")
    return values.reshape(count, width)


def reject_bad_cameras(
    path: Path, transl: Float[np.ndarray, "n 3"], cameras: FitCameras
) -> tuple[Bool[np.ndarray, "n"], list[tuple[int, PoseFileError]]]:
    """Which cameras are believable, and an error with its index for each one that is not."""
    focal, principal, size = cameras.focal, cameras.principal, cameras.size
    finite = np.isfinite(focal) & np.isfinite(principal).all(axis=1) & np.isfinite(size).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        checks = {
            "image_size is not within 8..32768 pixels": ((size >= 8) & (size <= 32768)).all(axis=1),
            "focal_px is not within 1..1e6 pixels": (focal >= 1) & (focal <= 1e6),
            "principal_px is more than an image away": (np.abs(principal - size / 2) <= 1.5 * size).all(axis=1),
            "the body is behind the camera": ~(transl[:, 2] < 0),
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

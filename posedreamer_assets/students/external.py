"""Predictions of other trainers' networks: one npz without pickles, checked before anything is computed."""

from pathlib import Path

import numpy as np

from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.errors import ArrayFileError, StudentError
from posedreamer_assets.plain_arrays import open_npz
from posedreamer_assets.students.labels import BODY_JOINTS
from posedreamer_assets.students.predict import Predictions

_WIDTHS = {"global_orient": 3, "body_pose": 3 * (BODY_JOINTS - 1), "betas": 10}


def read_predictions(path: Path) -> tuple[list[str], Predictions]:
    """Sample ids and parameters from an npz.

    Its arrays: `sample_id` (n) as in the exported `images.csv`; `global_orient` (n, 3), the root in the camera's frame (OpenCV: x
    right, y down, z forward), `body_pose` (n, 63), both axis-angle in radians; `betas` (n, 10); and `transl` (n, 3) where the
    root joint lies in the camera's frame, metres, or nothing: errors do not depend on it.

    Raises:
        StudentError: no such file, an array that is missing, of another shape, not finite or pickled, or an id twice.
    """
    arrays = _read(path)
    if "sample_id" not in arrays:
        raise StudentError(f"{path}: no array 'sample_id'; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    ids = [str(name) for name in np.atleast_1d(arrays["sample_id"])]
    if len(set(ids)) != len(ids) or not ids:
        raise StudentError(
            f"{path}: sample_id has {len(ids)} entries and {len(set(ids))} different ones; each image once"
        )
    found = {name: _floats(arrays, name, len(ids), width, path) for name, width in _WIDTHS.items()}
    place = _floats(arrays, "transl", len(ids), 3, path) if "transl" in arrays else np.zeros((len(ids), 3), np.float32)
    pose = np.concatenate([found["global_orient"], found["body_pose"]], axis=1).reshape(-1, BODY_JOINTS, 3)
    return ids, Predictions(axis_angle_to_matrix(pose), found["betas"], place)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise StudentError(f"{path}: no such file")
    try:
        with open_npz(path) as data:
            return dict(data)
    except (ArrayFileError, OSError) as error:
        raise StudentError(f"{path}: not a readable npz of plain arrays ({error})") from error


def _floats(arrays: dict[str, np.ndarray], name: str, count: int, width: int, path: Path) -> np.ndarray:
    if name not in arrays:
        raise StudentError(f"{path}: no array {name!r}; it holds {', '.join(sorted(arrays))}")
    found = arrays[name]
    if found.dtype.kind not in "fiu" or found.size != count * width or len(found) != count:
        raise StudentError(f"{path}: {name} is {found.dtype} {found.shape}, expected numbers ({count}, {width})")
    flat = found.reshape(count, width).astype(np.float32)
    if not np.isfinite(flat).all():
        raise StudentError(f"{path}: {name} has values that are not finite")
    return flat

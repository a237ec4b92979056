"""Motion-X's npy clips: 322 numbers a frame (Lin et al., NeurIPS 2023)."""

import numpy as np

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.amass import read_clip
from posedreamer_assets.poses.sources.clips import clip_frames
from posedreamer_assets.poses.sources.frames import PoseFrames
from posedreamer_assets.poses.sources.npz import Arrays
from posedreamer_assets.poses.sources.parts import read_parts
from posedreamer_assets.poses.sources.reader import PoseFile, Reader, ReadOptions

WIDTH = 322
# Names of `amass` -> columns; between jaw and path lie FLAME's 50 of expression and 100 of face shape.
_COLUMNS = {
    "root_orient": slice(0, 3),
    "pose_body": slice(3, 66),
    "pose_hand": slice(66, 156),
    "pose_jaw": slice(156, 159),
    "trans": slice(309, 312),
    "betas": slice(312, 322),
}
_EXPRESSION = slice(159, 209)
_FPS = 30.0
_HABIT = {"y": 0.8, "z": 0.3, "-y": 0.0, "x": -0.5, "-x": -0.5, "-z": -0.6}


def read_motionx(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """Read one clip; Motion-X has 30 frames a second, and most of it has y up.

    Raises:
        PoseFileError: with the reason that applies.
    """
    values = file.array
    if values.ndim != 2 or values.shape[1] != WIDTH:
        detail = f"an array of shape {values.shape}; of npy files those of Motion-X are read, with shape (n, {WIDTH})"
        raise PoseFileError(file.path, "unknown_layout", detail)
    if values.dtype.kind not in "fiu":
        raise PoseFileError(file.path, "dtype", f"{values.dtype}, expected real numbers")
    if not len(values):
        raise PoseFileError(file.path, "empty", "holds no frames")
    arrays = Arrays(file.path, {name: values[:, columns] for name, columns in _COLUMNS.items()} | _STATED)
    parts = read_parts(arrays, options.hands)
    if np.nan_to_num(values[:, _EXPRESSION]).any():
        parts.notes.append("facial expressions are dropped")
    return [clip_frames(read_clip(arrays, parts, options, kind="motionx", believed=_HABIT), options)]


_STATED = {"fps": np.array(_FPS), "surface_model_type": np.array("smplx")}

MOTIONX = Reader("motionx", "Motion-X npy", (".npy",), lambda file: True, read_motionx)

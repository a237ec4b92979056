"""AMASS-style npz clips: SMPL-X, SMPL-H and SMPL pose layouts (Mahmood et al., ICCV 2019), and what is made like them.

AMASS itself is z up; BEAT2, Inter-X, AIST++ and the outputs of GVHMR and WHAM are y up under the same names.
"""

import re
from collections.abc import Mapping

import numpy as np

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.clips import ASSUMED_FPS, Clip, clip_frames
from posedreamer_assets.poses.sources.frames import PoseFrames
from posedreamer_assets.poses.sources.npz import Arrays
from posedreamer_assets.poses.sources.parts import BODY_KEYS, Parts, read_parts, usable
from posedreamer_assets.poses.sources.reader import UP_AXES, PoseFile, Reader, ReadOptions
from posedreamer_assets.poses.sources.shapes import file_betas, own_licence
from posedreamer_assets.poses.upright import NPZ_HABIT

RATE_KEYS = ("mocap_frame_rate", "mocap_framerate", "mocap_frame_rate_hz", "frame_rate", "framerate", "fps")
_RATE = re.compile(r"([-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?)(?:\s*/\s*(\d+(?:[.,]\d+)?))?")
_PATH_KEYS = ("trans", "transl", "root_trans", "smpl_trans")
_POSE_KEYS = ("poses", "smpl_poses", "fullpose", "full_pose")
_SHAPE_KEYS = {"betas", "gender", "num_betas", "surface_model_type", "markers_latent", "latent_labels"}
_CAMERA_KEYS = ("pred_cam", "cam_int", "K_fullimg", "intrinsics", "focal_px", "focal_length", "focal")


def is_amass(arrays: Arrays) -> bool:
    """Whether the npz holds a clip in one of AMASS's layouts."""
    if arrays.first_of(*_POSE_KEYS):
        return True
    if arrays.first_of("root_orient") and arrays.first_of(*BODY_KEYS):
        return True
    moves = arrays.first_of(*RATE_KEYS) and arrays.first_of(*_PATH_KEYS) and not arrays.first_of(*_CAMERA_KEYS)
    return bool(moves and arrays.first_of(*BODY_KEYS))


def read_amass(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """Read one clip.

    A scalar `up_axis` states the file's axis. Betas are cut or padded to 10; those of another model or of a gendered one
    span another shape space and become zero, with a note.

    Raises:
        PoseFileError: with the reason that applies; single bad frames are in `rejected` instead.
    """
    arrays = file.arrays
    parts = read_parts(arrays, options.hands)
    return [clip_frames(read_clip(arrays, parts, options, kind="amass"), options)]


def read_clip(
    arrays: Arrays, parts: Parts, options: ReadOptions, *, kind: str, believed: Mapping[str, float] = NPZ_HABIT
) -> Clip:
    """The clip that these arrays and parts of a pose make.

    Raises:
        PoseFileError: arrays that do not fit.
    """
    notes = parts.notes
    columns = dict(parts.columns)
    columns["transl"] = _path(arrays, parts.count, notes)
    fps = frame_rate(arrays, notes)
    betas = file_betas(arrays, parts.model, options.body, notes)
    axis = _stated_axis(arrays)
    return Clip(
        path=arrays.path,
        columns=columns,
        betas=betas,
        fps=fps,
        kind=kind,
        family=arrays.path.stem,
        licence=own_licence(arrays) or options.licence,
        notes=tuple(notes),
        believed=believed,
        stated=axis,
    )


def _stated_axis(arrays: Arrays) -> str:
    """The axis that the file states, as z, +z, z-up or Z_UP; empty where it does not.

    Raises:
        PoseFileError: `unknown_layout` for a word that is no axis.
    """
    told = arrays.word("up_axis")
    axis = re.sub(r"[\s_-]*up$", "", told).removeprefix("+")
    if axis and axis not in UP_AXES[1:]:
        expected = ", ".join(UP_AXES[1:])
        raise PoseFileError(arrays.path, "unknown_layout", f"up_axis: {told!r}, expected one of {expected}")
    return axis


def _path(arrays: Arrays, count: int, notes: list[str]) -> np.ndarray:
    key = usable(arrays, notes, *_PATH_KEYS)
    if key is None:
        notes.append("no path of the pelvis: the body stays where it is, and each pose is put on the ground")
        return np.zeros((count, 3))
    path = arrays.rows(key, 3, count)
    if "smpl_scaling" in arrays:  # AIST++: the path is in the units of a body that many times as large
        scale = arrays.number("smpl_scaling")
        if not 1e-3 < scale < 1e4:
            raise PoseFileError(arrays.path, "absurd_value", f"smpl_scaling: {scale:g}")
        path = path / scale
    return path


def frame_rate(arrays: Arrays, notes: list[str]) -> float:
    """Frames per second, as a number, a fraction or text; the time of a frame where it is below 1.

    Assumed, with a note, where the file does not tell or tells nothing that is a rate (0, NaN, no number).

    Raises:
        PoseFileError: a rate that cannot be.
    """
    key = usable(arrays, notes, *RATE_KEYS)
    if key is None:
        notes.append(f"no frame rate: {ASSUMED_FPS:g} frames per second are assumed")
        return ASSUMED_FPS
    written, value = _rate_of(arrays, key)
    if not np.isfinite(value) or value == 0:
        notes.append(f"{key} {written!r} is no frame rate: {ASSUMED_FPS:g} frames per second are assumed")
        return ASSUMED_FPS
    fps = value
    if 1e-3 <= value < 1:
        fps = 1 / value
        notes.append(f"{key} {written!r} is read as the time of a frame, in seconds")
    if not 1 <= fps <= 1000:
        raise PoseFileError(arrays.path, "absurd_value", f"{key}: {value:g} frames per second")
    return fps


def _rate_of(arrays: Arrays, key: str) -> tuple[str, float]:
    """What is written, and the number that it stands for; NaN for none."""
    if arrays.raw(key).dtype.kind in "SU":
        text = " ".join(arrays.text(key)).strip()
        found = _RATE.search(text)
        if found is None:
            return text[:40], float("nan")
        over, under = (float(part.replace(",", ".")) for part in (found[1], found[2] or "1"))
        return text[:40], over / under if under else float("nan")
    values = np.unique(arrays.numbers(key))
    if values.size != 1:
        raise PoseFileError(arrays.path, "shape", f"{key}: {values.size} values, expected one")
    return f"{values[0]:g}", float(values[0])


def is_shape(arrays: Arrays) -> bool:
    """Whether the npz is one of AMASS's shape files, which lie beside the clips: betas, and no pose."""
    return "betas" in arrays and set(arrays.names()) <= _SHAPE_KEYS


AMASS = Reader("amass", "AMASS-style npz", (".npz",), lambda file: is_amass(file.arrays), read_amass)
SHAPE = Reader("shape", "AMASS shape file", (".npz",), lambda file: is_shape(file.arrays), lambda file, options: [])

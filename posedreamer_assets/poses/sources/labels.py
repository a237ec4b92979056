"""Label files of data sets: BEDLAM's, HumanData's and HMR2's, as `posedreamer export` and their own tools write them."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.plain_arrays import Budget, unpacked_limit
from posedreamer_assets.poses.sources.fits import fit_frames, fits_of
from posedreamer_assets.poses.sources.frames import PoseFrames
from posedreamer_assets.poses.sources.npz import Arrays, NpzArrays
from posedreamer_assets.poses.sources.parts import Parts, read_parts
from posedreamer_assets.poses.sources.reader import PoseFile, Reader, ReadOptions

_HANDS = ("left_hand_pose", "right_hand_pose")
_BROKEN_TAR = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError)


# BEDLAM


def read_bedlam(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """`pose_cam` and `trans_cam` have the camera's rotation in them; its translation is added here.

    Raises:
        PoseFileError: with the reason that applies.
    """
    arrays = file.arrays
    parts = read_parts(arrays, options.hands, whole="pose_cam")
    held = _without(arrays, "trans", "transl", "trans_world")
    if "trans_cam" in arrays:
        move = _extrinsics(arrays, parts.count) if "cam_ext" in arrays else 0.0
        held["transl"] = arrays.rows("trans_cam", 3, parts.count) + move
        held.pop("trans_cam")
    # Files of BEDLAM's own have no expression; those that `export` writes are of the body that made them.
    own = "expression" in arrays
    return [fit_frames(fits_of(Arrays(file.path, held), parts, options, kind="bedlam", own_shapes=own), options)]


def _extrinsics(arrays: Arrays, count: int) -> np.ndarray:
    matrices = arrays.numbers("cam_ext")
    if matrices.shape != (count, 4, 4):
        raise PoseFileError(arrays.path, "shape", f"cam_ext: shape {matrices.shape}, expected ({count}, 4, 4)")
    return matrices[:, :3, 3]


def _without(arrays: Arrays, *names: str) -> dict[str, np.ndarray]:
    """The plain arrays of a file, but for these."""
    return {k: arrays.raw(k) for k in arrays.names() if k not in names and not arrays.is_pickled(k)}


# HumanData


def is_humandata(arrays: Arrays) -> bool:
    """Whether the npz is a HumanData file, its dictionaries pickled or laid out flat."""
    return "__data_len__" in arrays or any(name.startswith("smplx/") for name in arrays.names())


def read_humandata(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """`smplx/...` in the camera frame, with `meta/...` and `misc/...` beside it.

    Raises:
        PoseFileError: with the reason that applies; `pickle` for the dictionaries of MMHuman3D's own files.
    """
    arrays = file.arrays
    group = next((g for g in ("smplx", "smpl") if any(n.startswith(f"{g}/") for n in arrays.names())), None)
    if group is None:
        reason = "pickle" if any(arrays.is_pickled(g) for g in ("smplx", "smpl")) else "missing_key"
        raise PoseFileError(
            file.path,
            reason,
            "HumanData keeps its dictionaries pickled, and pickles are never loaded; docs/poses.md has the lines that "
            "write them as plain arrays",
        )
    held = {}
    for name in arrays.names():
        prefix, slash, inner = name.partition("/")
        if slash and prefix in (group, "meta") and not arrays.is_pickled(name):
            held[inner] = arrays.raw(name)
    flat = Arrays(file.path, held)
    parts = read_parts(flat, options.hands)
    parts.model = group
    if "misc/flat_hand_mean" in arrays and not arrays.raw("misc/flat_hand_mean").all():
        _add_mean_hands(parts, options)
    own = "config" in arrays and arrays.word("config") == "posedreamer"
    frames = fit_frames(fits_of(flat, parts, options, kind="humandata", own_shapes=own), options)
    return [_from_corner(frames) if own else frames]


def _from_corner(frames: PoseFrames) -> PoseFrames:
    """Pixels of HumanData's and HMR2's loaders count from the middle of the first pixel; ours from its corner."""
    if frames.cameras is None:
        return frames
    middle = frames.cameras.principal_px + np.float32(0.5)
    return replace(frames, cameras=replace(frames.cameras, principal_px=middle))


def _add_mean_hands(parts: Parts, options: ReadOptions) -> None:
    for side, name in enumerate(_HANDS):
        if name not in parts.columns:
            continue
        if options.hands is None:
            del parts.columns[name]
            note = "hands are relative to a mean hand, which the body's file does not have: they are flat"
            parts.notes += [note] if note not in parts.notes else []
        else:
            parts.columns[name] = parts.columns[name] + options.hands.means[side].reshape(15, 3)


# HMR2


def read_hmr2(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """One sample of a WebDataset: SMPL-X's parameters where `export` wrote them, else SMPL's pose.

    Raises:
        PoseFileError: with the reason that applies.
    """
    return _hmr2(file.arrays, options)


def _hmr2(arrays: Arrays, options: ReadOptions) -> list[PoseFrames]:
    held = _without(arrays)
    own = "smplx_global_orient" in held
    if own:
        smplx = {name.removeprefix("smplx_"): v for name, v in held.items() if name.startswith("smplx_")}
        held = {name: held[name] for name in ("cam_int", "image_size") if name in held} | smplx
        flat = Arrays(arrays.path, held)
        parts = read_parts(flat, options.hands)
        parts.model = "smplx"
        return [_from_corner(fit_frames(fits_of(flat, parts, options, kind="hmr2", own_shapes=True), options))]
    known = held.get("has_body_pose")
    if known is not None and not known.any():
        raise PoseFileError(arrays.path, "empty", "has_body_pose is 0: the labels are keypoints, there is no pose")
    parts = read_parts(Arrays(arrays.path, {"pose": arrays.raw("body_pose")}), options.hands)
    flat = Arrays(arrays.path, {k: held[k] for k in ("betas", "cam_int", "image_size") if k in held})
    return [fit_frames(fits_of(flat, parts, options, kind="hmr2"), options)]


def read_hmr2_tar(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """All samples of a WebDataset tar.

    Raises:
        PoseFileError: with the reason that applies.
    """
    samples = _samples(file.path)
    if not samples:
        raise PoseFileError(
            file.path, "unknown_layout", "a tar without .data.npz members; archives of clips are to be unpacked"
        )
    names = set(samples[0].names()).intersection(*(sample.names() for sample in samples))
    joined = {}
    for name in names:
        if samples[0].is_pickled(name):
            continue
        values = [sample.raw(name) for sample in samples]
        if len({value.shape for value in values}) == 1:
            joined[name] = np.stack(values)
    return _hmr2(Arrays(file.path, joined), options)


def _samples(path: Path) -> list[NpzArrays]:
    try:
        size = path.stat().st_size
        budget, limit = Budget(size), unpacked_limit(size)
        found = []
        with tarfile.open(path, "r:") as tar:  # not compressed; a member with holes may yet be larger than the file
            for member in tar:
                if member.isfile() and member.name.endswith(".data.npz"):
                    stream = tar.extractfile(member)
                    content = stream.read(limit) if stream else b""
                    limit -= len(content)
                    found.append(NpzArrays(path, content, budget))
        return found
    except _BROKEN_TAR as error:
        raise PoseFileError(path, "truncated", f"the tar archive is damaged: {error}") from error


def _is_hmr2(arrays: Arrays) -> bool:
    return "keypoints_2d" in arrays and ("smplx_global_orient" in arrays or "has_body_pose" in arrays)


BEDLAM = Reader("bedlam", "BEDLAM labels npz", (".npz",), lambda file: "pose_cam" in file.arrays, read_bedlam)
HUMANDATA = Reader("humandata", "HumanData npz", (".npz",), lambda file: is_humandata(file.arrays), read_humandata)
HMR2 = Reader("hmr2", "HMR2 sample npz", (".npz",), lambda file: _is_hmr2(file.arrays), read_hmr2)
HMR2_TAR = Reader("hmr2", "HMR2 WebDataset tar", (".tar",), lambda file: True, read_hmr2_tar)

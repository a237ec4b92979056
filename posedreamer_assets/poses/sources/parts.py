"""The parts of a body's pose in an npz, whatever their names and shapes: root, body, hands, jaw and eyes."""

from dataclasses import dataclass

import numpy as np

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.hands import HandSpace
from posedreamer_assets.poses.sources.npz import Arrays
from posedreamer_assets.poses.sources.turns import as_axis_angle, shapes_of

# Joints of a whole pose -> the model that has so many.
_WHOLE = {55: "smplx", 52: "smplh", 24: "smpl", 22: ""}
WHOLE_KEYS = ("poses", "fullpose", "full_pose", "pose", "smpl_poses", "thetas")
ROOT_KEYS = ("global_orient", "root_orient", "smplx_root_pose", "smpl_root_pose", "root_pose")
BODY_KEYS = ("body_pose", "pose_body", "smplx_body_pose", "smpl_body_pose")
_SINGLE = {
    "jaw_pose": ("jaw_pose", "pose_jaw", "smplx_jaw_pose"),
    "leye_pose": ("leye_pose", "pose_leye", "smplx_leye_pose"),
    "reye_pose": ("reye_pose", "pose_reye", "smplx_reye_pose"),
}
_HANDS = {
    "left_hand_pose": ("left_hand_pose", "pose_lhand", "lhand_pose", "smplx_lhand_pose", "left_hand_pca", "lhand_pca"),
    "right_hand_pose": (
        *("right_hand_pose", "pose_rhand", "rhand_pose", "smplx_rhand_pose"),
        *("right_hand_pca", "rhand_pca"),
    ),
}
_BOTH_HANDS, _BOTH_EYES = ("pose_hand", "hand_pose"), ("pose_eye", "eye_pose")
_COMPONENT_COUNTS = ("num_pca_comps", "num_pca", "n_pca")


@dataclass
class Parts:
    """What was found.

    Attributes:
        columns: axis-angle arrays by the names of `BodyParams`, all of them of the same count of frames.
        model: smplx, smplh or smpl; empty where the file does not tell.
        notes: what was dropped or assumed.
    """

    columns: dict[str, np.ndarray]
    model: str
    notes: list[str]

    @property
    def count(self) -> int:
        """Frames."""
        return len(self.columns["global_orient"])


def read_parts(arrays: Arrays, hands: HandSpace | None = None, whole: str | None = None) -> Parts:
    """All parts of the pose.

    Args:
        arrays: of the file.
        hands: the body's hand components; without them hands given by components are dropped.
        whole: name of the array with the whole pose, where it is not one of the usual ones.

    Raises:
        PoseFileError: `missing_key`, `shape`, `empty`, `dtype`, `pickle` of an array that is needed.
    """
    root, body = arrays.first_of(*ROOT_KEYS), arrays.first_of(*BODY_KEYS)
    whole = whole or arrays.first_of(*WHOLE_KEYS)
    parts = _named(arrays, root, body) if whole is None or (root and body) else _joined(arrays, whole)
    _add_single(arrays, parts)
    _add_hands(arrays, parts, hands)
    told = arrays.word("surface_model_type", "model_type", "model")
    parts.model = next((name for name in ("smplx", "smplh", "smpl") if told.startswith(name)), parts.model)
    return parts


def _joined(arrays: Arrays, key: str) -> Parts:
    values = arrays.numbers(key)
    if values.size == 0:
        raise PoseFileError(arrays.path, "empty", f"{key} holds no frames")
    found = shapes_of(values.shape, tuple(_WHOLE))
    if not found:
        widths = ", ".join(f"{joints} joints{f' ({model})' if model else ''}" for joints, model in _WHOLE.items())
        detail = f"{key}: shape {values.shape}, expected frames of {widths}, each with 3, 6 or 9 numbers"
        raise PoseFileError(arrays.path, "shape", detail)
    count, joints, width = found[0]
    values = values.reshape(count, joints, width)
    columns, layout = {}, None
    columns["body_pose"], layout = as_axis_angle(values[:, 1:22], body=True)
    columns["global_orient"] = as_axis_angle(values[:, :1], layout=layout)[0][:, 0]
    if joints == 55:
        face, _ = as_axis_angle(values[:, 22:25], layout=layout)
        columns |= {"jaw_pose": face[:, 0], "leye_pose": face[:, 1], "reye_pose": face[:, 2]}
    if joints >= 52:
        fingers, _ = as_axis_angle(values[:, -30:], layout=layout)
        columns |= {"left_hand_pose": fingers[:, :15], "right_hand_pose": fingers[:, 15:]}
    notes = [_layout_note(layout)] if layout else []
    if joints == 22:
        notes.append("no hands in the file: they are flat")
    return Parts(columns, _WHOLE[joints], notes)


def _named(arrays: Arrays, root_key: str | None, body_key: str | None) -> Parts:
    root, body = arrays.numbers(root_key or ROOT_KEYS[0]), arrays.numbers(body_key or BODY_KEYS[0])
    for key, values in ((root_key, root), (body_key, body)):
        if values.size == 0:
            raise PoseFileError(arrays.path, "empty", f"{key}: shape {values.shape}")
    roots, bodies = shapes_of(root.shape, (1,)), shapes_of(body.shape, (21, 23))
    fitting = [(r, b) for r in roots for b in bodies if r[0] == b[0]]
    if not fitting:
        shapes = f"{root_key}: shape {root.shape}, {body_key}: shape {body.shape}"
        expected = "expected as many frames in both, of 1 and 21 joints, each with 3, 6 or 9 numbers"
        raise PoseFileError(arrays.path, "shape", f"{shapes}, {expected}")
    root_shape, body_shape = max(fitting, key=lambda pair: pair[0][0])
    turned, layout = as_axis_angle(body.reshape(body_shape), body=True)
    columns = {
        "global_orient": as_axis_angle(root.reshape(root_shape), layout=layout)[0][:, 0],
        "body_pose": turned[:, :21],
    }
    notes = [_layout_note(layout)] if layout else []
    if np.nan_to_num(turned[:, 21:]).any():
        notes.append("SMPL's two hand joints are dropped: SMPL-X has fingers in their place")
    model = "smpl" if body_shape[1] == 23 else "smplx" if arrays.first_of(*_SINGLE["jaw_pose"]) else "smplh"
    return Parts(columns, model, notes)


def _layout_note(layout: str) -> str:
    return f"6D rotations are read as {layout}"


def usable(arrays: Arrays, notes: list[str], *keys: str) -> str | None:
    """The first of these optional arrays that can be used; pickled ones are passed over with a note."""
    for name in keys:
        key = arrays.first_of(name)
        if key is None:
            continue
        if not arrays.is_pickled(key):
            return key
        notes.append(f"{key} is pickled and ignored")
    return None


def _add_single(arrays: Arrays, parts: Parts) -> None:
    for name, keys in _SINGLE.items():
        if name not in parts.columns and (key := usable(arrays, parts.notes, *keys)):
            parts.columns[name] = _joints_of(arrays, key, parts.count, 1)[:, 0]
    eyes = usable(arrays, parts.notes, *_BOTH_EYES)
    if eyes and "leye_pose" not in parts.columns:
        both = _joints_of(arrays, eyes, parts.count, 2)
        parts.columns |= {"leye_pose": both[:, 0], "reye_pose": both[:, 1]}


def _joints_of(arrays: Arrays, key: str, count: int, joints: int) -> np.ndarray:
    values = arrays.numbers(key)
    shape = next((s for s in shapes_of(values.shape, (joints,)) if s[0] == count), None)
    if shape is None or values.size == 0:
        raise PoseFileError(arrays.path, "shape", f"{key}: shape {values.shape}, expected ({count}, {3 * joints})")
    return as_axis_angle(values.reshape(shape))[0]


def _add_hands(arrays: Arrays, parts: Parts, hands: HandSpace | None) -> None:
    given = {name: arrays.numbers(key) for name, keys in _HANDS.items() if (key := usable(arrays, parts.notes, *keys))}
    both = usable(arrays, parts.notes, *_BOTH_HANDS)
    if both and not given and "left_hand_pose" not in parts.columns:
        joined = arrays.numbers(both).reshape(-1)
        if joined.size == 0 or joined.size % (2 * parts.count):
            detail = f"{both}: shape {arrays.numbers(both).shape}, expected ({parts.count}, 90)"
            raise PoseFileError(arrays.path, "shape", detail)
        halves = joined.reshape(parts.count, 2, -1)
        given = {"left_hand_pose": halves[:, 0], "right_hand_pose": halves[:, 1]}
    for side, name in enumerate(_HANDS):
        if name in given and name not in parts.columns:
            parts.columns |= _one_hand(arrays, name, given[name], parts, (side, hands))


def _one_hand(
    arrays: Arrays, name: str, values: np.ndarray, parts: Parts, space: tuple[int, HandSpace | None]
) -> dict[str, np.ndarray]:
    count = parts.count
    flat = values.reshape(count, -1) if values.size and values.size % count == 0 else values
    width = flat.shape[1] if flat.ndim == 2 and len(flat) == count else 0
    if width in (45, 90, 135) and not _is_by_components(arrays, width):
        return {name: as_axis_angle(flat.reshape(count, 15, width // 15))[0]}
    if not 1 <= width <= 45:
        raise PoseFileError(arrays.path, "shape", f"{name}: shape {values.shape}, expected ({count}, 45)")
    side, hands = space
    if hands is not None:
        return {name: hands.pose(side, flat).reshape(count, 15, 3)}
    note = f"hands are given by {width} components, which the body's file does not have: they are flat"
    parts.notes += [note] if note not in parts.notes else []
    return {}


def _is_by_components(arrays: Arrays, width: int) -> bool:
    """Whether hands of 45 numbers are weights of components, as the file states."""
    if width != 45:
        return False
    if any(key in arrays for key in ("left_hand_pca", "lhand_pca")):
        return True
    key = arrays.first_of(*_COMPONENT_COUNTS)
    if key is not None and not arrays.is_pickled(key) and arrays.raw(key).dtype.kind in "iuf":
        return bool((arrays.raw(key) == width).all())
    return "use_pca" in arrays and not arrays.is_pickled("use_pca") and bool(arrays.raw("use_pca").all())

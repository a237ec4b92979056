"""Joint rotations in the spellings that programs write them in, as axis-angle vectors.

Axis-angle (3 numbers a joint), matrices (9), and the 6D form (6), of which there are three: the first two columns one
after the other, the two columns interleaved (SPIN, HMR2), and the first two rows (PyTorch3D, MDM, GVHMR).
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

_WIDTHS = (3, 9, 6)
_NO_ROTATION = 1e9  # marks what is no rotation, so that the frame is refused as absurd
_TOLERANCE = 0.05  # of a matrix from orthonormal; half precision is within 0.003
_KNEES = [3, 4]  # among the joints of a body pose without its root


def shapes_of(shape: tuple[int, ...], joints: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """All (frames, joints, numbers a joint) that an array of this shape can hold; a lone pose may lack the frames' axis.

    Args:
        shape: of the array.
        joints: counts of joints that make sense.
    """
    found: list[tuple[int, int, int]] = []
    rest, total = int(np.prod(shape[1:])), int(np.prod(shape))
    for count in joints:
        for width in _WIDTHS:
            if len(shape) >= 2 and rest == count * width and _fits(shape[1:], width):
                found.append((shape[0], count, width))
            elif total == count * width and _fits(shape, width):
                found.append((1, count, width))
    return found


def _fits(shape: tuple[int, ...], width: int) -> bool:
    """Whether the last axes agree with so many numbers a joint."""
    if width == 9:
        return shape[-2:] == (3, 3) or shape[-1] % 9 == 0
    if width == 6:
        return shape[-1] % 6 == 0 or shape[-2:] == (3, 2) or shape[-2:] == (2, 3)
    return shape[-1] % 3 == 0 and shape[-3:] != (1, 3, 3)


def as_axis_angle(
    values: Float[np.ndarray, "n j w"], *, body: bool = False, layout: str | None = None
) -> tuple[Float[np.ndarray, "n j 3"], str | None]:
    """Rotations of any width as axis-angle vectors, and how 6D ones were read.

    Numbers that are not finite stay so; what is no rotation becomes a number that no frame may hold.

    Args:
        values: 3, 6 or 9 numbers a joint.
        body: whether these are the 21 or 23 joints of a body pose, whose knees tell rows from columns.
        layout: of 6D numbers: "columns", "interleaved" or "rows"; found out where it is not given.
    """
    if values.shape[2] == 3:
        return values, None
    if values.shape[2] == 9:
        return _from_matrices(values.reshape(*values.shape[:2], 3, 3)), None
    layout = layout or _layout_of(values, body)
    return _from_matrices(_matrices(values, layout)), layout


def _from_matrices(matrices: Float[np.ndarray, "n j 3 3"]) -> Float[np.ndarray, "n j 3"]:
    flat = matrices.reshape(-1, 3, 3)
    known = np.isfinite(flat).all(axis=(1, 2))
    small = np.asarray(np.abs(np.nan_to_num(flat)).max(axis=(1, 2)) < 10)
    safe = np.where((known & small)[:, None, None], flat, np.eye(3))
    gap = np.abs(safe @ np.swapaxes(safe, 1, 2) - np.eye(3)).max(axis=(1, 2))
    proper = np.asarray((gap < _TOLERANCE) & (np.linalg.det(safe) > 0))
    vectors = Rotation.from_matrix(np.where(proper[:, None, None], safe, np.eye(3))).as_rotvec()
    vectors[~(proper & small)] = _NO_ROTATION
    vectors[~known] = np.nan
    return vectors.reshape(*matrices.shape[:2], 3)


def _matrices(values: Float[np.ndarray, "n j 6"], layout: str) -> Float[np.ndarray, "n j 3 3"]:
    """Rotations from 6D numbers, made orthonormal as Zhou et al. (CVPR 2019) do."""
    if layout == "interleaved":
        first, second = values[..., 0::2], values[..., 1::2]
    else:
        first, second = values[..., :3], values[..., 3:]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x = first / np.linalg.norm(first, axis=-1, keepdims=True)
        y = second - (x * second).sum(-1, keepdims=True) * x
        y = y / np.linalg.norm(y, axis=-1, keepdims=True)
        columns = np.stack([x, y, np.cross(x, y)], axis=-1)
    return np.swapaxes(columns, -1, -2) if layout == "rows" else columns


def _layout_of(values: Float[np.ndarray, "n j 6"], body: bool) -> str:
    """Interleaved where only that pairs to orthonormal vectors; rows or columns by the way in which knees bend.

    A row reading of columns inverts each rotation, which bends knees forwards.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = []
        for first, second in ((values[..., :3], values[..., 3:]), (values[..., 0::2], values[..., 1::2])):
            lengths = np.abs(np.linalg.norm(first, axis=-1) - 1) + np.abs(np.linalg.norm(second, axis=-1) - 1)
            gaps.append(float(np.nan_to_num(np.abs((first * second).sum(-1)) + lengths, nan=9.0, posinf=9.0).mean()))
    if gaps[1] < gaps[0]:
        return "interleaved"
    if not body:
        return "rows"
    knees = _from_matrices(_matrices(values[:, _KNEES], "rows"))
    bend = np.nan_to_num(knees[..., 0])
    bend = np.where(np.abs(bend) < np.pi + 1, bend, 0.0)
    return "columns" if bend.mean() < -0.02 else "rows"

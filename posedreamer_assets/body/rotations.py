"""Rotations as NumPy arrays: axis-angle (radians), matrices and the continuous 6D form."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


def axis_angle_to_matrix(axis_angle: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation matrices of axis-angle vectors in radians."""
    flat = Rotation.from_rotvec(np.asarray(axis_angle, np.float64).reshape(-1, 3)).as_matrix()
    return flat.reshape(*axis_angle.shape[:-1], 3, 3).astype(axis_angle.dtype)


def matrix_to_axis_angle(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Axis-angle vectors, radians, of norm at most pi."""
    flat = Rotation.from_matrix(np.asarray(matrix, np.float64).reshape(-1, 3, 3)).as_rotvec()
    return flat.reshape(*matrix.shape[:-2], 3).astype(matrix.dtype)


def matrix_to_6d(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 6"]:
    """The first two columns of each matrix: continuous, unlike axis-angle (Zhou et al., CVPR 2019)."""
    return np.swapaxes(matrix[..., :, :2], -1, -2).reshape(*matrix.shape[:-2], 6)


def axis_angle_to_6d(axis_angle: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 6"]:
    """The 6D form of axis-angle vectors."""
    return matrix_to_6d(axis_angle_to_matrix(axis_angle))


def rotation_x(angle_rad: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about x."""
    return Rotation.from_euler("x", angle_rad).as_matrix()


def rotation_z(angle_rad: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about z."""
    return Rotation.from_euler("z", angle_rad).as_matrix()


def rotation_between(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that turns direction a into direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    sine, cosine = np.linalg.norm(axis), float(a @ b)
    if sine < 1e-9:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        sine = np.linalg.norm(axis)
        return Rotation.from_rotvec(axis / sine * np.pi).as_matrix()
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, cosine)).as_matrix()

"""How near training poses are to test poses: frames a moment apart are two poses by name and one to a student."""

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_MIRROR

LEAST_DEG = 2.0
"""Mean angle of the 21 body joints below which two poses are the same moment. Of 192 test poses and 480 of a run, drawn
independently from the same families, the nearest two are 4.3 degrees apart."""
_CHUNK = 4096  # training poses that are compared at once


def nearest_deg(poses: Float[np.ndarray, "n 63"], tests: Float[np.ndarray, "m 63"]) -> Float32[np.ndarray, "n"]:
    """Mean angle, degrees, of the body joints of each pose to the nearest test pose or its mirror image; inf without any.

    The root is left out: a student sees both poses from all sides. Students are trained on mirrored copies too.

    Args:
        poses: axis-angle of the 21 body joints, radians.
        tests: the same.
    """
    nearest = np.full(len(poses), np.inf, np.float32)
    if not len(tests):
        return nearest
    both = np.concatenate([_quaternions(tests), _quaternions(_mirrored(tests))])
    for start in range(0, len(poses), _CHUNK):
        own = _quaternions(poses[start : start + _CHUNK])
        total = np.zeros((len(own), len(both)), np.float32)
        for joint in range(own.shape[1]):
            cosine = np.abs(own[:, joint] @ both[:, joint].T).clip(0, 1)
            total += 2 * np.arccos(cosine)
        nearest[start : start + _CHUNK] = np.degrees(total.min(axis=1) / own.shape[1])
    return nearest


def _quaternions(poses: Float[np.ndarray, "n 63"]) -> Float32[np.ndarray, "n 21 4"]:
    return Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().astype(np.float32).reshape(len(poses), -1, 4)


def _mirrored(poses: Float[np.ndarray, "n 63"]) -> Float[np.ndarray, "n 63"]:
    swap = np.array(JOINT_MIRROR[1:22]) - 1
    return (poses.reshape(len(poses), -1, 3)[:, swap] * np.array([1, -1, -1])).reshape(len(poses), -1)

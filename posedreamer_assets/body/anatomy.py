"""Anatomical joint angles, their limits, and the SMPL-X rotations that they stand for.

An angle is in degrees and zero in a relaxed stance with hanging arms, so limits read like those of a textbook (ranges of
motion after Norkin and White, Measurement of Joint Motion, rounded outwards). Angles map to SMPL-X rotations and back.
"""

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX, JOINT_MIRROR
from posedreamer_assets.body.params import BodyParams

CENTRAL_LIMITS: dict[str, tuple[float, float]] = {
    "spine_flex": (-35, 90),
    "spine_bend": (-40, 40),
    "spine_twist": (-50, 50),
    "neck_flex": (-55, 55),
    "neck_twist": (-75, 75),
    "neck_bend": (-40, 40),
    "jaw_open": (0, 25),
}
SIDE_LIMITS: dict[str, tuple[float, float]] = {
    "hip_flex": (-35, 130),
    "hip_abd": (-30, 65),
    "hip_rot": (-45, 55),
    "knee_flex": (0, 150),
    "ankle_flex": (-50, 35),
    "collar_raise": (-10, 25),
    "arm_raise": (3, 177),  # 0 hangs, 90 is level, 180 is overhead; at 0 and 180 the other two angles are one
    "arm_forward": (-60, 130),  # of the raised arm: 0 points sideways, 90 forwards
    "arm_twist": (-80, 80),
    "elbow_flex": (0, 150),
    "forearm_twist": (-80, 80),
    "wrist_flex": (-70, 75),
    "finger_curl": (-5, 95),
}
LIMITS: dict[str, tuple[float, float]] = CENTRAL_LIMITS | {
    f"{side}_{name}": limit for side in ("left", "right") for name, limit in SIDE_LIMITS.items()
}
"""Every angle with its range of motion, degrees."""

_SPINE = ("spine1", "spine2", "spine3")
_NECK = ("neck", "head")
_FINGERS = ("index", "middle", "ring", "pinky")


def body_from_angles(angles: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Axis-angle of all 55 joints (55, 3), radians, root left at zero; missing angles are zero.

    Raises:
        KeyError: an angle that does not exist.
    """
    return split_full_pose(full_poses({name: np.array([value]) for name, value in angles.items()}, 1)[0])


def full_poses(angles: Mapping[str, np.ndarray], count: int) -> Float[np.ndarray, "count 55 3"]:
    """`body_from_angles` of many bodies at once, from (count,) degrees for each angle; each as if it were alone.

    Raises:
        KeyError: an angle that does not exist.
    """
    unknown = set(angles) - set(LIMITS)
    if unknown:
        raise KeyError(f"no joint angle named {sorted(unknown)}")
    full = np.zeros((count, 55, 3))
    zero = np.zeros(count)

    def put(joint: str, order: str, *degrees: np.ndarray) -> None:
        turn = Rotation.from_euler(order, np.stack(degrees, axis=1), degrees=True)
        full[:, JOINT_INDEX[joint]] = turn.as_rotvec()

    def get(name: str) -> np.ndarray:
        return np.asarray(angles.get(name, zero), np.float64)

    for joint in _SPINE:
        put(joint, "XZY", get("spine_flex") / 3, get("spine_bend") / 3, get("spine_twist") / 3)
    for joint in _NECK:
        put(joint, "XZY", get("neck_flex") / 2, get("neck_bend") / 2, get("neck_twist") / 2)
    put("jaw", "X", get("jaw_open"))
    for side in ("left", "right"):
        # Written for the left side; the right one is its mirror image in the sagittal plane.
        def side_get(name: str, side: str = side) -> np.ndarray:
            return get(f"{side}_{name}")

        rows = {
            "hip": ("XZY", (-side_get("hip_flex"), side_get("hip_abd"), side_get("hip_rot"))),
            "knee": ("X", (side_get("knee_flex"),)),
            "ankle": ("X", (-side_get("ankle_flex"),)),
            "collar": ("Z", (side_get("collar_raise"),)),
            "shoulder": ("YZX", (-side_get("arm_forward"), side_get("arm_raise") - 90, side_get("arm_twist"))),
            "elbow": ("YX", (-side_get("elbow_flex"), side_get("forearm_twist"))),
            "wrist": ("Z", (-side_get("wrist_flex"),)),
        }
        rows |= {f"{f}{k}": ("Z", (-side_get("finger_curl"),)) for f in _FINGERS for k in (1, 2, 3)}
        rows |= {f"thumb{k}": ("Y", (-side_get("finger_curl") * 0.4,)) for k in (2, 3)}
        for joint, (order, degrees) in rows.items():
            put(f"{side}_{joint}", order, *degrees)
            if side == "right":
                full[:, JOINT_INDEX[f"{side}_{joint}"]] *= (1, -1, -1)
    return full


def angles_from_body(params: BodyParams) -> dict[str, np.ndarray]:
    """The angles of each body (n,), degrees: the inverse of `body_from_angles` within the limits."""
    full = params.full_pose()

    def euler(joint: str, order: str, mirror: bool = False) -> np.ndarray:
        vectors = full[:, JOINT_INDEX[joint]] * ((1, -1, -1) if mirror else (1, 1, 1))
        with warnings.catch_warnings():
            # Where two axes fall together one of their angles is free, and is taken as 0.
            warnings.filterwarnings("ignore", message="Gimbal lock detected")
            return Rotation.from_rotvec(vectors).as_euler(order, degrees=True)

    spine = np.sum([euler(joint, "XZY") for joint in _SPINE], axis=0)
    neck = np.sum([euler(joint, "XZY") for joint in _NECK], axis=0)
    angles = {f"spine_{name}": spine[:, i] for i, name in enumerate(("flex", "bend", "twist"))}
    angles |= {f"neck_{name}": neck[:, i] for i, name in enumerate(("flex", "bend", "twist"))}
    angles["jaw_open"] = euler("jaw", "XZY")[:, 0]
    for side in ("left", "right"):
        mirror = side == "right"
        hip, shoulder = euler(f"{side}_hip", "XZY", mirror), euler(f"{side}_shoulder", "YZX", mirror)
        elbow = euler(f"{side}_elbow", "YXZ", mirror)
        values = {
            "hip_flex": -hip[:, 0],
            "hip_abd": hip[:, 1],
            "hip_rot": hip[:, 2],
            "knee_flex": euler(f"{side}_knee", "XZY", mirror)[:, 0],
            "ankle_flex": -euler(f"{side}_ankle", "XZY", mirror)[:, 0],
            "collar_raise": euler(f"{side}_collar", "ZYX", mirror)[:, 0],
            "arm_raise": shoulder[:, 1] + 90,
            "arm_forward": -shoulder[:, 0],
            "arm_twist": shoulder[:, 2],
            "elbow_flex": -elbow[:, 0],
            "forearm_twist": elbow[:, 1],
            "wrist_flex": -euler(f"{side}_wrist", "ZYX", mirror)[:, 0],
            "finger_curl": -euler(f"{side}_index1", "ZYX", mirror)[:, 0],
        }
        angles |= {f"{side}_{name}": value for name, value in values.items()}
    return angles


def limit_violations(params: BodyParams, tolerance_deg: float = 0.5) -> list[list[str]]:
    """For each body the names of the angles outside their limits."""
    angles = angles_from_body(params)
    broken: list[list[str]] = [[] for _ in range(len(params))]
    for name, (low, high) in LIMITS.items():
        outside = (angles[name] < low - tolerance_deg) | (angles[name] > high + tolerance_deg)
        for i in np.flatnonzero(outside):
            broken[i].append(name)
    return broken


def split_full_pose(full: np.ndarray) -> dict[str, np.ndarray]:
    """A (55, 3) pose as the arrays of one row of BodyParams, without global_orient."""
    full = full.astype(np.float32)
    return {
        "body_pose": full[1:22],
        "jaw_pose": full[22],
        "leye_pose": full[23],
        "reye_pose": full[24],
        "left_hand_pose": full[25:40],
        "right_hand_pose": full[40:55],
    }


def mirror_full_pose(full: np.ndarray) -> np.ndarray:
    """The mirror image in the sagittal plane of (..., 55, 3) axis-angle poses."""
    return full[..., JOINT_MIRROR, :] * np.array([1, -1, -1], full.dtype)

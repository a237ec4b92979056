"""MPII's 16 joints of an SMPL-X body, and which parts of a body lie next to each joint."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.body.joints import COCO17, JOINT_INDEX, LANDMARK_VERTICES, PARENTS
from posedreamer_assets.body.model import BodyModel

MPII16: tuple[str, ...] = (
    *("right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top".split()),
    *("right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist".split()),
)
MPII_LIMBS: tuple[tuple[int, int], ...] = (
    *((9, 8), (8, 12), (12, 11), (11, 10), (8, 13), (13, 14), (14, 15)),
    *((8, 2), (2, 1), (1, 0), (8, 3), (3, 4), (4, 5)),
)
"""Pairs of joints that a skeleton is drawn from."""

POINTS = 77  # 55 joints, 21 landmark vertices, and the top of the head
_HEAD_TOP = 76
# Every joint of MPII is the mean of these points.
_MPII_FROM: tuple[tuple[int, ...], ...] = (
    *((8,), (5,), (2,), (1,), (4,), (7,), (0,), (16, 17), (12, 15), (_HEAD_TOP,)),
    *((21,), (19,), (17,), (16,), (18,), (20,)),
)
_MPII_OF_COCO: dict[str, str] = {name: name for name in MPII16 if name in COCO17}
_HEAD = ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")


@lru_cache(maxsize=2)
def head_top_vertex(body: BodyModel) -> int:
    """The topmost vertex of the head in the T-pose."""
    head = np.flatnonzero(_is_head(body))
    return int(head[body.v_template[head, 1].argmax()])


@lru_cache(maxsize=2)
def _is_head(body: BodyModel) -> Bool[np.ndarray, "v"]:
    return np.isin(body.dominant_joint, [JOINT_INDEX[name] for name in _HEAD])


def all_points(
    body: BodyModel, vertices: Float[np.ndarray, "n v 3"], joints: Float[np.ndarray, "n 76 3"]
) -> Float[np.ndarray, "n 77 3"]:
    """The 76 joints and landmarks of each body, and the top of its head."""
    return np.concatenate([joints, vertices[:, head_top_vertex(body)][:, None]], axis=1)


def mpii_of(points: Float[np.ndarray, "n 77 d"]) -> Float[np.ndarray, "n 16 d"]:
    """MPII's joints, means of points in space: take them before projecting."""
    return np.stack([points[:, list(of)].mean(axis=1) for of in _MPII_FROM], axis=1)


def mpii_of_coco(
    keypoints: Float[np.ndarray, "n 17 2"], flags: Bool[np.ndarray, "n 17"]
) -> tuple[Float[np.ndarray, "n 16 2"], Bool[np.ndarray, "n 16"]]:
    """MPII's joints of COCO's keypoints, and which of them a flag is set for.

    Limbs are the same points. Thorax and pelvis lie between shoulders and hips; neck and top of the head are not labelled.
    """
    found, known = np.zeros((len(keypoints), 16, 2)), np.zeros((len(keypoints), 16), bool)
    for name, source in _MPII_OF_COCO.items():
        found[:, MPII16.index(name)] = keypoints[:, COCO17.index(source)]
        known[:, MPII16.index(name)] = flags[:, COCO17.index(source)]
    for middle, part in (("pelvis", "hip"), ("thorax", "shoulder")):
        pair = [COCO17.index(f"{side}_{part}") for side in ("left", "right")]
        both = flags[:, pair].all(axis=1)
        found[both, MPII16.index(middle)] = keypoints[both][:, pair].mean(axis=1)
        known[both, MPII16.index(middle)] = True
    return found, known


def head_size_px(body: BodyModel, vertices_px: Float[np.ndarray, "n v 2"]) -> Float[np.ndarray, "n"]:
    """The diagonal of the box of each head, pixels; NaN where a part of it is behind the camera."""
    heads = vertices_px[:, _is_head(body)]
    return np.hypot(*(heads.max(axis=1) - heads.min(axis=1)).T)


@lru_cache(maxsize=2)
def parts_next_to(body: BodyModel) -> Bool[np.ndarray, "77 55"]:
    """Which parts of the surface lie next to each of the 77 points: a joint's own, its parent's and its children's."""
    beside = np.zeros((POINTS, 55), bool)
    for joint, parent in enumerate(PARENTS):
        beside[joint, joint] = True
        if parent >= 0:
            beside[joint, parent] = beside[parent, joint] = True
    head = [JOINT_INDEX[name] for name in _HEAD]
    for point, vertex in enumerate((*LANDMARK_VERTICES.values(), head_top_vertex(body)), start=55):
        part = int(body.dominant_joint[vertex])
        beside[point] = beside[part]
        if part in head:
            beside[point, head] = True
    return beside


def mpii_parts(body: BodyModel) -> Bool[np.ndarray, "16 55"]:
    """Which parts of the surface lie next to each of MPII's joints."""
    beside = parts_next_to(body)
    return np.stack([beside[list(of)].any(axis=0) for of in _MPII_FROM])

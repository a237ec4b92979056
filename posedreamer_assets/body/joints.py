"""Joint names, parents and landmark vertices of SMPL-X, and COCO's 17 keypoints taken from them, as data."""

import numpy as np

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")
JOINT_NAMES: tuple[str, ...] = (
    *("pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot".split()),
    *("right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow".split()),
    *("left_wrist right_wrist jaw left_eye_smplhf right_eye_smplhf".split()),
    *(f"left_{finger}{k}" for finger in _FINGERS for k in (1, 2, 3)),
    *(f"right_{finger}{k}" for finger in _FINGERS for k in (1, 2, 3)),
)
"""The 55 joints of SMPL-X in file order: 22 of the body, jaw and eyes, 15 of each hand."""

JOINT_INDEX: dict[str, int] = {name: i for i, name in enumerate(JOINT_NAMES)}


def _hand_parents(wrist: int, first: int) -> list[int]:
    return [wrist if k == 0 else first + 3 * finger + k - 1 for finger in range(5) for k in range(3)]


PARENTS: tuple[int, ...] = (
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15),
    *_hand_parents(20, 25),
    *_hand_parents(21, 40),
)

LANDMARK_VERTICES: dict[str, int] = {
    "nose": 9120,
    "right_eye": 9929,
    "left_eye": 9448,
    "right_ear": 616,
    "left_ear": 6,
    "left_big_toe": 5770,
    "left_small_toe": 5780,
    "left_heel": 8846,
    "right_big_toe": 8463,
    "right_small_toe": 8474,
    "right_heel": 8635,
    "left_thumb": 5361,
    "left_index": 4933,
    "left_middle": 5058,
    "left_ring": 5169,
    "left_pinky": 5286,
    "right_thumb": 8079,
    "right_index": 7669,
    "right_middle": 7794,
    "right_ring": 7905,
    "right_pinky": 8022,
}
"""Vertices of the SMPL-X mesh that serve as extra joints, in the order in which they follow the 55 joints."""

OUTPUT_JOINT_NAMES: tuple[str, ...] = (*JOINT_NAMES, *LANDMARK_VERTICES)

COCO17: tuple[str, ...] = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
COCO17_FROM_SMPLX: np.ndarray = np.array([OUTPUT_JOINT_NAMES.index(name) for name in COCO17])
"""Index of each COCO keypoint among the 76 output joints."""

COCO_SIGMAS: np.ndarray = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], dtype=np.float32
) / np.float32(1000)
"""Per-keypoint sigmas of COCO's OKS."""

COCO17_SKELETON: tuple[tuple[int, int], ...] = (
    *((5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12)),
    *((11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (0, 2), (1, 3), (2, 4)),
)


def mirrored(names: tuple[str, ...]) -> np.ndarray:
    """Index of each name's left-right partner (itself where there is none)."""
    swap = {"left": "right", "right": "left"}

    def partner(name: str) -> str:
        side, _, rest = name.partition("_")
        return f"{swap[side]}_{rest}" if side in swap else name

    return np.array([names.index(partner(name)) for name in names])


COCO17_MIRROR: np.ndarray = mirrored(COCO17)
JOINT_MIRROR: np.ndarray = mirrored(JOINT_NAMES)

"""What a body does, told from its pose and speed, in the words of the captions.

Activities are those of the procedural families, so that a caption keeps to its vocabulary; lying, which no family has,
brings one phrase of its own. Words of a file's name are used where they are in the vocabulary and the pose does not
speak against them.
"""

import re
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.poses.floor import PosesAt, centre_of_mass_m, surface_of
from posedreamer_assets.poses.procedural import FAMILIES
from posedreamer_assets.poses.upright import lying, trunk_tilt_deg

LYING = "lying on the ground"
STANDING = FAMILIES["stand"].activity
POSE_ACTIVITIES: tuple[str, ...] = (LYING, *(FAMILIES[name].activity for name in FAMILIES))
"""Every activity that a pose or a name can give: the activities for `captions.vocabulary`."""

_SEAT = ("pelvis", "left_hip", "right_hip")
_WALKING_M_S, _RUNNING_M_S = 0.5, 2.2
# Words of file names by the family they mean; a family's own name is one of them.
_WORDS = {
    "walk": ("walk", "walking", "stroll", "stride", "gait"),
    "run": ("run", "running", "jog", "jogging", "sprint"),
    "sit": ("sit", "sitting", "seated", "chair"),
    "crouch": ("crouch", "crouching", "squat", "squatting"),
    "reach": ("reach", "reaching"),
    "wave": ("wave", "waving", "hello"),
    "kick": ("kick", "kicking"),
    "jump": ("jump", "jumping", "hop", "leap", "jacks"),
    "lunge": ("lunge", "lunging"),
    "dance": ("dance", "dancing", "pirouette", "ballet"),
    "yoga": ("yoga", "plank", "pushup"),
    "throw": ("throw", "throwing", "pitch"),
    "bend": ("bend", "bending", "bow"),
    "kneel": ("kneel", "kneeling"),
    "crawl": ("crawl", "crawling"),
    "box": ("box", "boxing", "punch"),
    "stretch": ("stretch", "stretching"),
}
_OF_WORD = MappingProxyType({word: FAMILIES[name].activity for name, words in _WORDS.items() for word in words})
# What a pose shows beyond doubt; a file's name does not overrule it.
_PLAIN = frozenset((LYING, *(FAMILIES[name].activity for name in ("sit", "kneel", "crouch", "crawl"))))


def activities(body: BodyModel, params: BodyParams, speeds_m_s: Float[np.ndarray, "n"] | None = None) -> list[str]:
    """What each body does.

    Args:
        body: that the poses are for.
        params: world frame, y up, on the ground; a body above it jumps.
        speeds_m_s: horizontal speed of each pelvis in its clip; None where nothing is known of motion.
    """
    count = len(params)
    if count == 0:
        return []
    points, joints = surface_of(body).posed(params)
    joints = joints.astype(np.float64)
    low = points[..., 1].min(axis=1)
    speed = np.zeros(count) if speeds_m_s is None else np.nan_to_num(speeds_m_s)
    tilt, lies = trunk_tilt_deg(body, params), lying(body, params)
    knee, hip = _bend_deg(joints, "hip", "knee", "ankle"), _bend_deg(joints, "shoulder", "hip", "knee")
    heights = {
        part: _pair(joints, part)[..., 1] - low[:, None] for part in ("knee", "hip", "wrist", "head_top", "ankle")
    }
    size = np.linalg.norm(joints[:, JOINT_INDEX["left_knee"]] - joints[:, JOINT_INDEX["left_hip"]], axis=1)
    on_knees = heights["knee"] < 0.5 * size[:, None]
    seat = np.isin(body.dominant_joint[surface_of(body).vertices], [JOINT_INDEX[f] for f in _SEAT])
    hips_low = points[:, seat, 1].min(axis=1) - low < 0.12
    raised = (heights["wrist"] > heights["head_top"]).any(axis=1)
    hands_low = heights["wrist"].max(axis=1) < 0.35
    rules: Sequence[tuple[np.ndarray, str]] = (
        (lies | ((tilt > 60) & (tilt < 120) & (heights["ankle"].min(axis=1) > 0.25) & ~hands_low), LYING),
        ((tilt > 50) & hands_low & on_knees.all(axis=1), FAMILIES["crawl"].activity),
        ((tilt > 50) & (tilt < 120) & hands_low & ~hips_low, FAMILIES["yoga"].activity),
        (tilt >= 120, FAMILIES["yoga"].activity),
        (on_knees.any(axis=1) & ~hips_low & (knee.max(axis=1) > 60), FAMILIES["kneel"].activity),
        (on_knees.all(axis=1) & (knee.min(axis=1) > 110), FAMILIES["kneel"].activity),
        (hips_low, FAMILIES["sit"].activity),
        ((knee.min(axis=1) > 60) & (hip.min(axis=1) > 50) & _over_feet(joints), FAMILIES["crouch"].activity),
        ((knee.min(axis=1) > 30) & (hip.min(axis=1) > 60), FAMILIES["sit"].activity),
        ((hip.min(axis=1) > 60) & (knee.max(axis=1) < 45), FAMILIES["bend"].activity),
        (tilt > 45, FAMILIES["bend"].activity),
        (low > 0.1, FAMILIES["jump"].activity),
        (speed > _RUNNING_M_S, FAMILIES["run"].activity),
        (speed > _WALKING_M_S, FAMILIES["walk"].activity),
        (raised, FAMILIES["reach"].activity),
    )
    found = [STANDING] * count
    for applies, activity in reversed(rules):
        found = [activity if applies[i] else found[i] for i in range(count)]
    return found


def activity_of_name(name: str) -> str | None:
    """The activity that a file's name tells in a word of the vocabulary, or None."""
    for word in re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()):
        if word in _OF_WORD:
            return _OF_WORD[word]
    return None


def activity_of_frame(from_pose: str, name: str) -> str:
    """What a caption says of a frame: what its pose shows beyond doubt, else what the file's name tells, else the pose."""
    told = activity_of_name(name)
    return from_pose if from_pose in _PLAIN or told is None else told


def _pair(joints: np.ndarray, part: str) -> Float[np.ndarray, "n 2 3"]:
    if part == "head_top":
        # Above the head joint by a third of the neck-to-head line and a hand's breadth: the crown, more or less.
        crown = joints[:, JOINT_INDEX["head"]] + (0, 0.12, 0)
        return np.repeat(crown[:, None], 2, axis=1)
    return joints[:, [JOINT_INDEX[f"left_{part}"], JOINT_INDEX[f"right_{part}"]]]


def _bend_deg(joints: np.ndarray, start: str, middle: str, end: str) -> Float[np.ndarray, "n 2"]:
    """How far each limb is bent at its middle joint, degrees; 0 is straight."""
    upper = _pair(joints, middle) - _pair(joints, start)
    lower = _pair(joints, end) - _pair(joints, middle)
    cosine = (upper * lower).sum(axis=-1) / np.maximum(
        np.linalg.norm(upper, axis=-1) * np.linalg.norm(lower, axis=-1), 1e-9
    )
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


def _over_feet(joints: np.ndarray) -> np.ndarray:
    """Whether the body is in balance over its feet: a squat, no seat."""
    centre, feet = centre_of_mass_m(joints), (_pair(joints, "ankle") + _pair(joints, "foot")).mean(axis=1) / 2
    return np.linalg.norm((centre - feet)[:, [0, 2]], axis=1) < 0.22


def clip_speeds_m_s(
    body: BodyModel, frames: Int[np.ndarray, "n"], at: PosesAt, *, count: int, fps: float
) -> Float[np.ndarray, "n"]:
    """Horizontal speed of the centre of mass at frames of a clip, metres a second, over a third of a second.

    Args:
        body: that the poses are for.
        frames: frame numbers.
        at: bodies of the clip at frame numbers in [0, count), y up.
        count: frames in the clip.
        fps: frames in a second; 0 for poses without order in time, whose speed is 0.
    """
    if fps <= 0 or count < 2:
        return np.zeros(len(frames))
    half = max(1, round(fps / 6))
    ends = [np.clip(frames + shift, 0, count - 1) for shift in (-half, half)]
    places = [centre_of_mass_m(surface_of(body).posed(at(end))[1])[:, [0, 2]] for end in ends]
    return np.linalg.norm(places[1] - places[0], axis=1) * fps / np.maximum(ends[1] - ends[0], 1)

"""What a clip shows of the axis that points up: for each axis, whether what the body does would then be possible.

Three kinds of evidence. Poses: people stand on their soles in balance, kneel, sit, rest on a wide base with what is heavy
on the floor, or stand on their hands. Contacts: what touches the floor stays while the rest moves, the floor is level, and
it is at zero, where motion files have it. Flight: what leaves the floor falls along "down". A clip whose root has no path
shows nothing of contacts and flight.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from posedreamer_assets.body.joints import JOINT_INDEX, LANDMARK_VERTICES
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.poses.floor import GRAVITY_M_S2, PosesAt, centre_of_mass_m, surface_of

_MOST_FRAMES = 48
_STEP_S = 0.1
_CONTACT_M = 0.04
_SUPPORT_M = 0.10  # hands and feet of another body's motion touch the floor this well
_FLAT_SOLE_M = 0.06  # height of toes and heel over the floor
_BALANCE_M = 0.10  # that the centre of mass may lie outside of what it stands on
_FALL_TIME_S = 0.3  # height of the centre of mass over its speed of falling over: how far motion carries it
_WIDE_BASE_M = 0.4
_HANDS_M = 0.30  # height of wrists of hands that are on the floor, or beside a head that is
_MOVES_M_S = 0.03  # median of the surface's points
_FIXED_M = 0.002  # range of a root without a path, while
_STIRS_M = 0.02  # the body moves by more
_AT_ZERO_M, _NOT_AT_ZERO_M = 0.03, 0.10
# Shares of the body's mass by the joint whose part of the surface carries it (de Leva 1996, the trunk in four).
_MASS = {
    **dict.fromkeys(("pelvis", "spine1", "spine2", "spine3"), 0.107),
    "head": 0.068,
    **{
        f"{side}_{joint}": share
        for side in ("left", "right")
        for joint, share in (("shoulder", 0.026), ("elbow", 0.015), ("hip", 0.145), ("knee", 0.046), ("ankle", 0.013))
    },
}


@dataclass(frozen=True)
class Motion:
    """A clip as seen at some frames and a moment later, in the file's axes, metres."""

    points: Float[np.ndarray, "n k 3"]
    later: Float[np.ndarray, "n k 3"]
    joints: Float[np.ndarray, "n 55 3"]
    centre: Float[np.ndarray, "n 3"]
    acceleration: Float[np.ndarray, "n 3"]
    speed: Float[np.ndarray, "n"]  # of the centre of mass; 0 where nothing is known to follow
    seconds: float  # between the two; 0 where nothing is known to follow
    has_path: bool  # whether the root goes where the body goes; not where the file has zeros alone
    soles: Int[np.ndarray, "2 3"]  # rows of big toe, small toe and heel
    parts: Int[np.ndarray, "k"]  # of `_MASS`, or -1


def watch(body: BodyModel, frames: Int[np.ndarray, "f"], at: PosesAt, count: int, fps: float) -> Motion:
    """Look at some of these frames; those that are not finite are left out.

    Args:
        body: that poses are carried over to.
        frames: numbers of the good frames, at least one.
        at: bodies at frame numbers in [0, count), in the file's own axes, metres.
        count: frames in the clip.
        fps: frames in a second; 0 for poses without order in time.
    """
    surface = surface_of(body)
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, _MOST_FRAMES).astype(int))]
    step = max(1, round(_STEP_S * fps)) if fps >= 2 else 0
    step = step if count > 2 * step else 0
    middle = np.clip(chosen, step, count - 1 - step)
    steps = [surface.posed(at(middle + shift)) for shift in ((0,) if step == 0 else (-step, 0, step))]
    seen = np.all([np.isfinite(points).all(axis=(1, 2)) for points, _ in steps], axis=0)
    before, now, later = (steps[i] for i in ((0, 0, 0) if step == 0 else (0, 1, 2)))
    centres = [centre_of_mass_m(joints[seen]).astype(np.float64) for _, joints in (before, now, later)]
    rate = fps / step if step else 0.0
    row = {int(vertex): i for i, vertex in enumerate(surface.vertices)}
    soles = [[row[LANDMARK_VERTICES[f"{s}_{p}"]] for p in ("big_toe", "small_toe", "heel")] for s in ("left", "right")]
    return Motion(
        points=now[0][seen].astype(np.float64),
        later=later[0][seen].astype(np.float64),
        joints=now[1][seen].astype(np.float64),
        centre=centres[1],
        speed=np.linalg.norm(centres[2] - centres[1], axis=1) * rate,
        acceleration=(centres[0] - 2 * centres[1] + centres[2]) * rate**2,
        seconds=1 / rate if rate else 0.0,
        has_path=bool(at(middle).transl.any()) and _has_path(now[1][seen]),
        soles=np.array(soles),
        parts=_parts(body),
    )


def _has_path(joints: np.ndarray) -> bool:
    """Not where the body moves about a root that does not."""
    if len(joints) < 2:
        return True
    extent = np.ptp(joints, axis=0).max(axis=1)
    return bool(extent[0] > _FIXED_M or extent.max() < _STIRS_M)


@lru_cache(maxsize=4)
def _parts(body: BodyModel) -> Int[np.ndarray, "k"]:
    number = {JOINT_INDEX[name]: i for i, name in enumerate(_MASS)}
    return np.array([number.get(int(joint), -1) for joint in body.dominant_joint[surface_of(body).vertices]])


@dataclass(frozen=True)
class Signs:
    """What speaks for one axis and, the last two, against it; shares of the frames, 0 to 1."""

    upright: float  # cosine of the line from feet to head, where the body can stay so
    standing: float  # upright, on a flat sole or a knee, in balance
    resting: float  # in balance on a wide base: lying, crawling, push-ups, sitting with hands down
    lain: float  # most of the mass is on the floor
    inverted: float  # in balance on the hands, or hands and head, head down
    planted: float  # of frames that move: something on the floor stays
    level: float  # the floor's height is the same over the clip
    at_zero: float  # the floor is where the file's numbers are zero
    falling: float  # free flight accelerates along "down"
    toppling: float  # the body would fall over
    sliding: float  # of frames that move: all that touches the floor slides along

    @property
    def score(self) -> float:
        """All of it as one number. That the mass lies on the floor weighs less than a decision needs: who lies on the
        belly with stretched feet has as much of it on the floor when turned upside down."""
        weights = (1.0, 1.5, 0.75, 0.5, 2.5, 1.5, 1.0, 1.5, 2.0, -1.5, -1.5)
        return sum(w * getattr(self, f.name) for w, f in zip(weights, fields(self), strict=True))

    def tells(self, others: Sequence["Signs"]) -> bool:
        """Whether it is more than the pose of somebody who is not on their feet or hands: who lies, lies on any side. Then
        contacts have to tell, and no other axis may have the floor at zero instead.

        Args:
            others: the signs of the other axes.
        """
        if self.upright + self.standing + self.inverted >= 0.5:
            return True
        elsewhere = max(other.at_zero for other in others) > self.at_zero + 0.5
        return not elsewhere and self.planted + self.at_zero + self.falling >= 0.3

    def words(self) -> list[str]:
        """What speaks for the axis, strongest parts alone."""
        said = {
            "feet are below the head": self.upright,
            "soles or knees are under the body": self.standing,
            "the body rests on a wide base": self.resting,
            "most of the body lies on the floor": self.lain,
            "the body stands on its hands": self.inverted,
            "what touches the floor does not slide": self.planted,
            "the floor is level": self.level,
            "the floor is at zero": self.at_zero,
            "flight falls along it": self.falling,
        }
        return [f"{text} ({share:.0%})" for text, share in said.items() if share >= 0.3]


def signs_of(motion: Motion, up: Float[np.ndarray, "3"]) -> Signs:
    """What the clip shows for this direction."""
    if not len(motion.points):
        return Signs(*[0.0] * len(fields(Signs)))
    height = motion.points @ up
    low = height.min(axis=1)
    over = height - low[:, None]
    head, feet = motion.joints[:, JOINT_INDEX["head"]], _pair(motion, "foot").mean(axis=1)
    cosine = _cosine(head - feet, up)
    outside, width = _support(motion, up, over < _SUPPORT_M)
    balanced = outside < _BALANCE_M
    stays = balanced | (outside < _BALANCE_M + _FALL_TIME_S * motion.speed) | _seated(motion, up)
    flat = (over[:, motion.soles].max(axis=2) < _FLAT_SOLE_M).any(axis=1)
    trunk = _cosine(_pair(motion, "shoulder").mean(axis=1) - _pair(motion, "hip").mean(axis=1), up)
    knees = (_pair(motion, "knee") @ up - low[:, None]).min(axis=1) < 0.15
    hands = (_pair(motion, "wrist") @ up - low[:, None]).max(axis=1) < _HANDS_M
    planted, sliding, slide = _contacts(motion, over < _CONTACT_M)
    return Signs(
        upright=float((np.maximum(cosine, 0.0) * stays).mean()),
        standing=float((balanced & ((flat & (cosine > 0.7)) | (knees & (trunk > 0.7)))).mean()),
        resting=float((balanced & (width > _WIDE_BASE_M) & (np.abs(cosine) < 0.7)).mean()),
        lain=float((balanced * _lain(motion, over)).mean()),
        inverted=float((balanced & hands & (slide < 0.15) & (cosine < -0.7)).mean()),
        planted=planted,
        level=_level(motion, low),
        at_zero=_at_zero(motion, low),
        falling=_falling(motion, up),
        toppling=float((~stays).mean()),
        sliding=sliding,
    )


def _pair(motion: Motion, part: str) -> Float[np.ndarray, "n 2 3"]:
    return motion.joints[:, [JOINT_INDEX[f"left_{part}"], JOINT_INDEX[f"right_{part}"]]]


def _cosine(line: np.ndarray, up: np.ndarray) -> np.ndarray:
    return (line / np.maximum(np.linalg.norm(line, axis=-1, keepdims=True), 1e-6)) @ up


def _seated(motion: Motion, up: np.ndarray) -> Bool[np.ndarray, "n"]:
    """Which bodies sit as on a chair: trunk upright, thighs level, feet below; the chair is not in the file."""
    trunk = _pair(motion, "shoulder").mean(axis=1) - _pair(motion, "hip").mean(axis=1)
    thighs = _cosine(_pair(motion, "knee") - _pair(motion, "hip"), up)
    shins = _cosine(_pair(motion, "ankle") - _pair(motion, "knee"), up)
    return (_cosine(trunk, up) > 0.7) & (np.abs(thighs) < 0.5).all(axis=1) & (shins < -0.3).all(axis=1)


def _support(motion: Motion, up: np.ndarray, touching: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the centre of mass lies outside of the hull of what touches the floor, and how wide that hull is, metres."""
    plane = np.eye(3)[np.abs(up) < 0.5]
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane
    reach = np.where(touching[..., None], motion.points @ directions.T, -np.inf).max(axis=1)
    outside = (motion.centre @ directions.T - reach).max(axis=1)
    return outside, (reach[:, :8] + reach[:, 8:]).max(axis=1)


def _lain(motion: Motion, over: np.ndarray) -> Float[np.ndarray, "n"]:
    """From 0 to 1 as the parts that are on the floor have from two fifths to three quarters of the body's mass."""
    low = np.stack([over[:, motion.parts == part].min(axis=1) for part in range(len(_MASS))], axis=1)
    share = (low < _CONTACT_M) @ np.array(list(_MASS.values()))
    return np.clip((share - 0.4) / 0.35, 0.0, 1.0)


def _contacts(motion: Motion, touching: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Shares of the frames that move in which some point on the floor stays, and in which all of them slide along;
    and the speed of the slowest point on the floor, m/s, 0 where nothing is known to follow.

    The shares fade to 0 where fewer than a fifth of the frames move.
    """
    if not motion.seconds:
        return 0.0, 0.0, np.zeros(len(motion.points))
    speed = np.linalg.norm(motion.later - motion.points, axis=2) / motion.seconds
    slide = np.where(touching, speed, np.inf).min(axis=1)
    typical = np.median(speed, axis=1)
    moves = typical > _MOVES_M_S
    if not motion.has_path:
        return 0.0, 0.0, np.zeros(len(motion.points))
    if not moves.any():
        return 0.0, 0.0, slide
    weight = min(1.0, 5 * float(moves.mean()))
    stays, slips = (slide < 0.35 * typical)[moves].mean(), (slide > 0.7 * typical)[moves].mean()
    return float(stays) * weight, float(slips) * weight, slide


def _level(motion: Motion, low: np.ndarray) -> float:
    if not motion.has_path or not motion.seconds:
        return 0.0
    return float(np.exp(-np.subtract(*np.percentile(low, [90, 10])) / 0.15))


def _at_zero(motion: Motion, low: np.ndarray) -> float:
    if not motion.has_path:
        return 0.0
    off = abs(float(np.percentile(low, 10)))
    return float(np.clip((_NOT_AT_ZERO_M - off) / (_NOT_AT_ZERO_M - _AT_ZERO_M), 0.0, 1.0))


def _falling(motion: Motion, up: np.ndarray) -> float:
    """Whether some frames fall freely along -up: 0, 1 or between for fewer than three."""
    if not motion.has_path:
        return 0.0
    size = np.linalg.norm(motion.acceleration, axis=1)
    free = np.abs(size - GRAVITY_M_S2) < 2.5
    along = motion.acceleration @ -up > 0.95 * size
    return min(1.0, float((free & along).sum()) / 3)

"""Which axis of a file points up, and whether bodies are upright.

The axis is decided from a whole clip: every axis and sign is tried as "up" and asked whether what the body does is then
possible. Feet lie under the head when people stand; their soles are flat and their centre of mass is over them; lying,
sitting, crawling bodies rest on a wide base; what touches the floor does not slide while the body travels; the floor
stays level; what flies falls along "down". To this comes what the format and the rig's rest pose make believable. The
trunk of one frame decides nothing: of a person doing push-ups it points along the floor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX, LANDMARK_VERTICES
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.floor import GRAVITY_M_S2, PosesAt, centre_of_mass_m, surface_of

AXES = MappingProxyType(
    {f"{sign}{name}": (-1.0 if sign else 1.0) * np.eye(3)[i] for sign in ("", "-") for i, name in enumerate("xyz")}
)
"""Unit vectors of x, y, z, -x, -y, -z."""

NPZ_HABIT: Mapping[str, float] = MappingProxyType({"z": 0.6, "y": 0.5, "-y": -0.4, "x": -0.5, "-x": -0.5, "-z": -1.5})
"""What to believe of an AMASS-style npz that does not say: AMASS is z up, its followers are y up, some keep a camera's axes."""
BVH_HABIT: Mapping[str, float] = MappingProxyType({"y": 0.6, "z": 0.3, "x": -0.2, "-x": -0.5, "-y": -0.2, "-z": -1.0})
"""What to believe of a BVH file whose rest pose tells nothing."""
REST_POSE = 5.0
"""How much to believe the axis along which a rig's rest pose stands."""

_MOST_FRAMES = 48
_STEP_S = 0.1
_LEAST_LEAD = 0.35  # of the best axis before the second, in the scores' units
_LEAST_DOUBT = 0.1  # by which another axis is better, habits apart
_KNOWN = 1.0  # of beliefs: weaker ones are habits
_CONTACT_M = 0.04
_SUPPORT_M = 0.10  # hands and feet of another body's motion touch the floor this well
_FLAT_SOLE_M = 0.06  # height of toes and heel over the floor
_BALANCE_M = 0.10  # that the centre of mass may lie outside of what it stands on
_FALL_TIME_S = 0.3  # height of the centre of mass over its speed of falling over: how far motion carries it
_WIDE_BASE_M = 0.4
_TRAVEL_M_S = 0.25


@dataclass(frozen=True)
class UpAxis:
    """A decision.

    Attributes:
        axis: x, y, z, -x, -y or -z.
        confidence: 0.5 for a toss-up, 1 for no doubt.
        evidence: what it rests on, in words.
    """

    axis: str
    confidence: float
    evidence: tuple[str, ...]

    @property
    def to_y_up(self) -> Float[np.ndarray, "3 3"]:
        """The quarter or half turn that brings the axis to +y; the identity for y."""
        return to_y_up(self.axis)

    @property
    def note(self) -> str:
        """One line for a file's notes."""
        return f"{self.axis} up ({self.confidence:.0%} sure): {'; '.join(self.evidence)}"


def to_y_up(axis: str) -> Float[np.ndarray, "3 3"]:
    """The turn that brings an axis to +y: about x, or about z for x and -x."""
    turns = {"y": ("x", 0), "z": ("x", -90), "-y": ("x", 180), "-z": ("x", 90), "x": ("z", 90), "-x": ("z", -90)}
    about, degrees = turns[axis]
    return np.round(Rotation.from_euler(about, degrees, degrees=True).as_matrix())


def find_up_axis(
    path: object,
    body: BodyModel,
    frames: Int[np.ndarray, "n"],
    at: PosesAt,
    *,
    count: int,
    fps: float,
    believed: Mapping[str, float] = NPZ_HABIT,
    up_axis: str | None = None,
) -> UpAxis:
    """Decide which axis of a file points up.

    Args:
        path: the file, for errors.
        body: that poses are carried over to.
        frames: numbers of the good frames, at least one; some spread over the clip are looked at.
        at: bodies at frame numbers in [0, count), in the file's own axes, metres. Frames that are not finite are no
            evidence.
        count: frames in the clip.
        fps: frames in a second; 0 for poses without order in time.
        believed: what format and rest pose speak for, in the scores' units: 0.5 leans, 5 is hard to overrule.
        up_axis: the user's setting, `poses.up_axis`; decides alone where given and not "auto".

    Raises:
        PoseFileError: `ambiguous_up_axis` where the evidence does not decide; `unknown_layout` for a setting that is no axis.
    """
    if up_axis and up_axis != "auto":
        if up_axis not in AXES:
            raise PoseFileError(path, "unknown_layout", f"up_axis {up_axis!r}; expected one of {', '.join(AXES)}")
        return UpAxis(up_axis, 1.0, ("set by poses.up_axis",))
    motion = _watch(body, frames, at, count, fps)
    signs = {axis: _signs_of(motion, up) for axis, up in AXES.items()}
    scores = {axis: signs[axis].score + believed.get(axis, 0.0) for axis in AXES}
    first, second = sorted(scores, key=lambda axis: -scores[axis])[:2]
    lead = scores[first] - scores[second]
    known = {axis: signs[axis].score + _knowledge(believed.get(axis, 0.0)) for axis in AXES}
    shown = max(known, key=lambda axis: known[axis])
    if known[first] < known[shown] - _LEAST_DOUBT:  # a habit alone overrules nothing that the clip shows
        first, second, lead = shown, first, 0.0
    if not np.isfinite(lead) or lead < _LEAST_LEAD:
        told = "; ".join(
            f"{axis}: {signs[axis].words(believed.get(axis, 0.0)) or 'nothing'}" for axis in (first, second)
        )
        raise PoseFileError(
            path,
            "ambiguous_up_axis",
            f"{first} or {second} may be up ({told}); say which with poses.up_axis={first} or poses.up_axis={second}",
        )
    words = signs[first].words(believed.get(first, 0.0)) or "nothing speaks for another axis"
    return UpAxis(first, float(1 / (1 + np.exp(-3 * lead))), (words,))


def _knowledge(believed: float) -> float:
    """A belief that is more than a leaning: a rest pose, or an axis that files of a kind do not have."""
    return believed if abs(believed) >= _KNOWN else 0.0


@dataclass(frozen=True)
class _Motion:
    """A clip as seen at some frames and a moment later, in the file's axes, metres."""

    points: Float[np.ndarray, "n k 3"]
    later: Float[np.ndarray, "n k 3"]
    joints: Float[np.ndarray, "n 55 3"]
    centre: Float[np.ndarray, "n 3"]
    acceleration: Float[np.ndarray, "m 3"]
    speed: Float[np.ndarray, "n"]  # of the centre of mass; 0 where nothing is known to follow
    seconds: float  # between the two; 0 where nothing is known to follow
    soles: Int[np.ndarray, "2 3"]  # rows of big toe, small toe and heel


def _watch(body: BodyModel, frames: np.ndarray, at: PosesAt, count: int, fps: float) -> _Motion:
    surface = surface_of(body)
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, _MOST_FRAMES).astype(int))]
    step = max(1, round(_STEP_S * fps)) if fps >= 2 else 0
    step = step if count > 2 * step else 0
    middle = np.clip(chosen, step, count - 1 - step)
    steps = [surface.posed(at(middle + shift)) for shift in ((0,) if step == 0 else (-step, 0, step))]
    seen = np.all([np.isfinite(points).all(axis=(1, 2)) for points, _ in steps], axis=0)
    before, now, later = (steps[i] for i in ((0, 0, 0) if step == 0 else (0, 1, 2)))
    centres = [centre_of_mass_m(joints[seen]).astype(np.float64) for _, joints in (before, now, later)]
    seconds = step / fps if step else 0.0
    rate = 1 / seconds if seconds else 0.0
    row = {int(vertex): i for i, vertex in enumerate(surface.vertices)}
    return _Motion(
        points=now[0][seen],
        later=later[0][seen],
        joints=now[1][seen],
        centre=centres[1],
        speed=np.linalg.norm(centres[2] - centres[1], axis=1) * rate,
        acceleration=(centres[0] - 2 * centres[1] + centres[2]) * rate**2,
        seconds=seconds,
        soles=np.array(
            [
                [row[LANDMARK_VERTICES[f"{s}_{part}"]] for part in ("big_toe", "small_toe", "heel")]
                for s in ("left", "right")
            ]
        ),
    )


@dataclass(frozen=True)
class _Signs:
    """What speaks for one axis and, the last two, against it; shares of the frames, 0 to 1."""

    upright: float  # cosine of the line from feet to head, where the body can stay so
    standing: float  # upright, on a flat sole or a knee, in balance
    resting: float  # in balance on a wide base: lying, crawling, push-ups, sitting with hands down
    inverted: float  # in balance on the hands alone, head down
    planted: float  # what touches the floor stays where it is while the body travels
    level: float  # the floor's height is the same over the clip
    falling: float  # free flight accelerates along "down"
    toppling: float  # the body would fall over
    sliding: float  # all that touches the floor slides along while the body travels

    @property
    def score(self) -> float:
        weights = (1.0, 1.5, 0.75, 2.25, 1.5, 1.0, 2.0, -1.5, -1.5)
        return sum(w * getattr(self, f.name) for w, f in zip(weights, fields(self), strict=True))

    def words(self, believed: float) -> str:
        """What speaks for the axis, strongest parts alone."""
        said = {
            "feet are below the head": self.upright,
            "soles or knees are under the body": self.standing,
            "the body rests on a wide base": self.resting,
            "the body stands on its hands": self.inverted,
            "what touches the floor does not slide": self.planted,
            "the floor is level": self.level,
            "flight falls along it": self.falling,
        }
        told = [f"{text} ({share:.0%})" for text, share in said.items() if share >= 0.3]
        told += ["the rest pose stands along it"] * (believed >= REST_POSE)
        told += ["the format's habit"] * (0 < believed < REST_POSE)
        return ", ".join(told)


def _signs_of(motion: _Motion, up: np.ndarray) -> _Signs:
    if not len(motion.points):
        return _Signs(*[0.0] * 9)
    height = motion.points @ up
    low = height.min(axis=1)
    touching = height < low[:, None] + _CONTACT_M
    head, feet = motion.joints[:, JOINT_INDEX["head"]], _pair(motion, "foot").mean(axis=1)
    cosine = _cosine(head - feet, up)
    outside, width = _support(motion, up, height < low[:, None] + _SUPPORT_M)
    balanced = outside < _BALANCE_M
    stays = balanced | (outside < _BALANCE_M + _FALL_TIME_S * motion.speed) | _seated(motion, up)
    flat = ((height[:, motion.soles] - low[:, None, None]).max(axis=2) < _FLAT_SOLE_M).any(axis=1)
    trunk = _cosine(_pair(motion, "shoulder").mean(axis=1) - _pair(motion, "hip").mean(axis=1), up)
    knees = (_pair(motion, "knee") @ up - low[:, None]).min(axis=1) < 0.15
    slide = _least_slide(motion, touching)
    hands = (slide < 0.15) & ((_pair(motion, "wrist") @ up - low[:, None]).max(axis=1) < 0.22)
    spread = np.subtract(*np.percentile(low, [90, 10]))
    planted, sliding = _planted(motion, slide)
    return _Signs(
        upright=float((np.maximum(cosine, 0.0) * stays).mean()),
        standing=float((balanced & ((flat & (cosine > 0.7)) | (knees & (trunk > 0.7)))).mean()),
        resting=float((balanced & (width > _WIDE_BASE_M) & (np.abs(cosine) < 0.7)).mean()),
        inverted=float((balanced & hands & (cosine < -0.7)).mean()),
        planted=planted,
        level=float(np.exp(-spread / 0.15)),
        falling=_falling(motion, up),
        toppling=float((~stays).mean()),
        sliding=sliding,
    )


def _pair(motion: _Motion, part: str) -> Float[np.ndarray, "n 2 3"]:
    return motion.joints[:, [JOINT_INDEX[f"left_{part}"], JOINT_INDEX[f"right_{part}"]]].astype(np.float64)


def _cosine(line: np.ndarray, up: np.ndarray) -> np.ndarray:
    return (line / np.maximum(np.linalg.norm(line, axis=-1, keepdims=True), 1e-6)) @ up


def _seated(motion: _Motion, up: np.ndarray) -> Bool[np.ndarray, "n"]:
    """Which bodies sit as on a chair: trunk upright, thighs level, feet below; the chair is not in the file."""
    trunk = _pair(motion, "shoulder").mean(axis=1) - _pair(motion, "hip").mean(axis=1)
    thighs = _cosine(_pair(motion, "knee") - _pair(motion, "hip"), up)
    shins = _cosine(_pair(motion, "ankle") - _pair(motion, "knee"), up)
    return (_cosine(trunk, up) > 0.7) & (np.abs(thighs) < 0.5).all(axis=1) & (shins < -0.3).all(axis=1)


def _support(motion: _Motion, up: np.ndarray, touching: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the centre of mass lies outside of the hull of what touches the floor, and how wide that hull is, metres."""
    plane = np.eye(3)[np.abs(up) < 0.5]
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane
    reach = np.where(touching[..., None], motion.points @ directions.T, -np.inf).max(axis=1)
    outside = (motion.centre @ directions.T - reach).max(axis=1)
    return outside, (reach[:, :8] + reach[:, 8:]).max(axis=1)


def _least_slide(motion: _Motion, touching: np.ndarray) -> Float[np.ndarray, "n"]:
    """Speed of the slowest point on the floor, m/s; 0 where nothing is known to follow."""
    if not motion.seconds:
        return np.zeros(len(motion.points))
    slide = np.linalg.norm(motion.later - motion.points, axis=2) / motion.seconds
    return np.where(touching, slide, np.inf).min(axis=1)


def _planted(motion: _Motion, slide: np.ndarray) -> tuple[float, float]:
    """Shares of the travelling frames in which some point on the floor stays, and in which all of them slide along.

    Both fade to 0 where fewer than a fifth of the frames travel.
    """
    travels = motion.speed > _TRAVEL_M_S
    if not motion.seconds or not travels.any():
        return 0.0, 0.0
    stays = float((slide < np.maximum(0.15, 0.35 * motion.speed))[travels].mean())
    weight = min(1.0, 5 * float(travels.mean()))
    return stays * weight, (1 - stays) * weight


def _falling(motion: _Motion, up: np.ndarray) -> float:
    """Whether some frames fall freely along -up: 0, 1 or between for fewer than three."""
    size = np.linalg.norm(motion.acceleration, axis=1)
    free = np.abs(size - GRAVITY_M_S2) < 2.5
    along = motion.acceleration @ -up > 0.95 * size
    return min(1.0, float((free & along).sum()) / 3)


def trunk_tilt_deg(body: BodyModel, params: BodyParams) -> Float[np.ndarray, "n"]:
    """Angle between the line from hips to shoulders and the vertical, degrees; 0 upright, 90 lying, 180 upside down."""
    joints = surface_of(body).posed(params)[1].astype(np.float64)
    middle = {
        part: joints[:, [JOINT_INDEX[f"{s}_{part}"] for s in ("left", "right")]].mean(axis=1)
        for part in ("hip", "shoulder")
    }
    line = middle["shoulder"] - middle["hip"]
    return np.rad2deg(np.arccos(np.clip(line[:, 1] / np.maximum(np.linalg.norm(line, axis=1), 1e-9), -1, 1)))


def lying(body: BodyModel, params: BodyParams) -> Bool[np.ndarray, "n"]:
    """Which bodies lie: the trunk is more than 60 degrees from upright and hips and shoulders are low over the lowest point."""
    points, joints = surface_of(body).posed(params)
    low = points[..., 1].min(axis=1)
    rows = [JOINT_INDEX[f"{s}_{part}"] for s in ("left", "right") for part in ("hip", "shoulder")]
    near = (joints[:, rows, 1] - low[:, None]).mean(axis=1) < 0.3
    tilt = trunk_tilt_deg(body, params)
    return near & (tilt > 60) & (tilt < 120)


@dataclass(frozen=True)
class Uprightness:
    """How a batch or clip of bodies stands in the world; for data checks.

    Attributes:
        median_tilt_deg: of the trunk from the vertical.
        upright: share of frames with a trunk within 45 degrees of upright.
        lying: share of frames that lie.
        inverted: share of frames with the trunk more than 120 degrees from upright.
    """

    median_tilt_deg: float
    upright: float
    lying: float
    inverted: float


def uprightness(body: BodyModel, params: BodyParams) -> Uprightness:
    """How the bodies (one or more) stand. Above 0.3 lying or inverted of a clip of walking the up axis is wrong."""
    tilt = trunk_tilt_deg(body, params)
    return Uprightness(
        float(np.median(tilt)), float((tilt < 45).mean()), float(lying(body, params).mean()), float((tilt > 120).mean())
    )

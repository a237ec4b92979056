"""Which axis of a file points up, and whether bodies are upright.

The axis is decided from a whole clip: every axis and sign is tried as "up" and asked whether what the body does is then
possible (`up_evidence`). To this comes what the rig's rest pose makes believable, and the format's habit, which decides
nothing alone. The trunk of one frame decides nothing either: of a person doing push-ups it points along the floor. Where
two axes are as likely the user is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.floor import PosesAt, surface_of
from posedreamer_assets.poses.up_evidence import Signs, signs_of, watch

AXES = MappingProxyType(
    {f"{sign}{name}": (-1.0 if sign else 1.0) * np.eye(3)[i] for sign in ("", "-") for i, name in enumerate("xyz")}
)
"""Unit vectors of x, y, z, -x, -y, -z."""

NPZ_HABIT: Mapping[str, float] = MappingProxyType({"z": 0.6, "y": 0.5, "-y": -0.4, "x": -0.5, "-x": -0.5, "-z": -0.6})
"""What to believe of an AMASS-style npz that does not say: AMASS is z up, its followers are y up, some keep a camera's axes."""
BVH_HABIT: Mapping[str, float] = MappingProxyType({"y": 0.6, "z": 0.3, "x": -0.2, "-x": -0.5, "-y": -0.2, "-z": -0.6})
"""What to believe of a BVH file whose rest pose tells nothing."""
REST_POSE = 5.0
"""How much to believe the axis along which a rig's rest pose stands."""

_LEAST_LEAD = 0.35  # of the best axis before the second, in the scores' units
_LEAST_SHOWN = 0.75  # of it by what the clip itself shows, habits apart
_KNOWN = 2.0  # of beliefs: weaker ones are habits


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
    motion = watch(body, frames, at, count, fps)
    signs = {axis: signs_of(motion, up) for axis, up in AXES.items()}
    shown = {axis: signs[axis].score + _knowledge(believed.get(axis, 0.0)) for axis in AXES}
    scores = {axis: signs[axis].score + believed.get(axis, 0.0) for axis in AXES}
    first = max(scores, key=lambda axis: scores[axis])
    others = [axis for axis in AXES if axis != first]
    second = max(others, key=lambda axis: (max(scores[axis] - scores[first], shown[axis] - shown[first]), scores[axis]))
    lead, seen = (each[first] - max(each[axis] for axis in others) for each in (scores, shown))
    words = {axis: _words(signs[axis], believed.get(axis, 0.0)) for axis in (first, second)}
    is_told = _knowledge(believed.get(first, 0.0)) > 0 or signs[first].tells([signs[axis] for axis in others])
    if not (is_told and lead >= _LEAST_LEAD and seen >= _LEAST_SHOWN):  # a number that is no number decides nothing
        told = "; ".join(f"{axis}: {words[axis] or 'nothing'}" for axis in words)
        raise PoseFileError(
            path,
            "ambiguous_up_axis",
            f"{first} or {second} may be up ({told}); say which with poses.up_axis={first} or poses.up_axis={second}",
        )
    told = words[first] or "nothing speaks for another axis"
    return UpAxis(first, float(1 / (1 + np.exp(-3 * min(lead, seen)))), (told,))


def _words(signs: Signs, believed: float) -> str:
    told = signs.words()
    told += ["the rest pose stands along it"] * (believed >= REST_POSE)
    told += ["the format's habit"] * (0 < believed < REST_POSE)
    return ", ".join(told)


def _knowledge(believed: float) -> float:
    """A belief that is more than a leaning: a rest pose, or an axis that files of a kind do not have."""
    return believed if abs(believed) >= _KNOWN else 0.0


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

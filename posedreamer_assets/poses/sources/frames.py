"""What every pose source yields, and the checks and subsampling that they share."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from posedreamer_assets.body.joints import JOINT_NAMES, PARENTS
from posedreamer_assets.body.model import BodyModel, chain_transforms, rest_joints
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.paths import shown_path
from posedreamer_assets.seeds import derive_seed

BODY_JOINTS = 22  # of the 55: without jaw, eyes and hands
SAME_POSE_M = 0.03  # two frames are one pose when no body joint differs by more, pelvis on pelvis

# Largest believable values: axis-angle components in radians (a wrapped rotation may exceed pi), metres, betas.
_LIMITS = {"transl": 1000.0, "betas": 10.0, "expression": 20.0}
_ANGLE_LIMIT = 4 * np.pi


@dataclass(frozen=True)
class Sketch:
    """A source's own skeleton at one of its frames, and the body that was made of it, for people to compare.

    Attributes:
        params: the one body, on the ground.
        joints_m: upright in the axes of the world, near the body's size; where it stands does not count.
        bones: rows of `joints_m`, a joint's parent and the joint.
        sides: for each joint "left", "right" or None.
    """

    params: BodyParams
    joints_m: Float[np.ndarray, "j 3"]
    bones: Int[np.ndarray, "b 2"]
    sides: tuple[str | None, ...]


@dataclass(frozen=True)
class PoseFrames:
    """Poses of one file.

    Attributes:
        params: world frame, y up, ground at y = 0; the root orientation is the source's own.
        fps: frames per second of the source; 0 for fits, which have no order in time.
        names: where each frame comes from, "<file>#<frame>"; `read_folder` puts the file's folders in front.
        family: the clip's name.
        licence: terms of the source file.
        kind: what the file is, as its reader states: bvh, amass, fits and so on.
        cameras: the source's cameras, or None where it has none.
        captions: one text for each frame, or None.
        rejected: frames left out, each with its reason; near-identical and skipped frames are not errors.
        notes: what was assumed or dropped while reading.
        speeds_m_s: (n,) horizontal speed of each body in its clip; None where nothing is known of motion.
        count: frames, or fits, that the file holds of this person.
        up_axis: the axis that points up in the file; empty for fits, which are in a camera's axes.
        up_axis_sure: how sure that is, 0.5 to 1; 1 where it was stated, None for fits.
        sketches: the source's own skeleton at some frames spread over it, where readers are asked for it.
    """

    params: BodyParams
    fps: float
    names: list[str]
    family: str
    licence: str
    kind: str
    cameras: Cameras | None = None
    captions: list[str] | None = None
    rejected: tuple[PoseFileError, ...] = ()
    notes: tuple[str, ...] = ()
    speeds_m_s: Float[np.ndarray, "n"] | None = None
    count: int = 0
    up_axis: str = ""
    up_axis_sure: float | None = None
    sketches: tuple[Sketch, ...] = ()

    def __len__(self) -> int:
        return len(self.params)


def reject_bad_frames(
    path: Path, params: BodyParams, indices: Int[np.ndarray, "n"]
) -> tuple[Bool[np.ndarray, "n"], list[PoseFileError]]:
    """Which frames hold finite and believable numbers, and an error for each one that does not.

    Args:
        path: the file, for the errors.
        params: parameters as read.
        indices: number of each frame in the file, for the errors.

    Raises:
        PoseFileError: no frame is good; the reason is that of the first one.
    """
    good = np.ones(len(params), bool)
    errors: list[PoseFileError] = []
    for field in fields(params):
        values = getattr(params, field.name).reshape(len(params), -1)
        limit = _LIMITS.get(field.name, _ANGLE_LIMIT)
        finite = np.isfinite(values).all(axis=1)
        believable = ~(np.abs(np.where(np.isfinite(values), values, 0.0)) > limit).any(axis=1)
        for i in np.flatnonzero(good & ~(finite & believable)):
            if not finite[i]:
                errors.append(PoseFileError(path, "nan", f"frame {indices[i]}: {field.name} is not finite"))
            else:
                worst = float(np.abs(values[i]).max())
                detail = f"frame {indices[i]}: |{field.name}| reaches {worst:.4g}, at most {limit:.4g} is believable"
                errors.append(PoseFileError(path, "absurd_value", detail))
        good &= finite & believable
    if not good.any():
        if errors:
            raise PoseFileError(path, errors[0].reason, f"no good frame; {errors[0].detail}")
        raise PoseFileError(path, "empty", "holds no frames")
    return good, sorted(errors, key=lambda error: error.detail)


def within_limits(params: BodyParams) -> BodyParams:
    """The same parameters with NaN in place of every number that is not finite or not believable."""
    calm = {}
    for field in fields(params):
        values = getattr(params, field.name)
        limit = _LIMITS.get(field.name, _ANGLE_LIMIT)
        with np.errstate(invalid="ignore"):
            calm[field.name] = np.where(np.abs(values) <= limit, values, np.float32(np.nan))
    return params.replace(**calm)


def stride_indices(path: Path, count: int, fps: float, stride_s: float, seed: int, first: int = 0) -> np.ndarray:
    """Frames `stride_s` seconds apart, from a phase that depends on the seed and the file's name alone.

    Returns:
        (n,) increasing frame numbers in [first, count); at least one where count > first.
    """
    step = max(1, round(stride_s * fps))
    phase = derive_seed(seed, shown_path(path.name), "stride") % min(step, max(count - first, 1))
    return np.arange(first + phase, count, step)


def distinct_poses(positions: Float[np.ndarray, "n j 3"]) -> Int[np.ndarray, "m"]:
    """Greedy choice of frames that differ from all chosen before by SAME_POSE_M or more in some joint.

    Args:
        positions: joints in metres, pelvis first; where the body stands does not count, where it faces does.
    """
    centred = positions[:, :BODY_JOINTS] - positions[:, :1]
    kept: list[int] = []
    for i, frame in enumerate(centred):
        if not kept or np.linalg.norm(centred[kept] - frame, axis=-1).max(axis=1).min() >= SAME_POSE_M:
            kept.append(i)
    return np.array(kept, int)


def spread_rows(count: int, most: int) -> Int[np.ndarray, "m"]:
    """At most so many of some rows, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def body_sketches(params: BodyParams, joints_m: Float[np.ndarray, "m 55 3"]) -> tuple[Sketch, ...]:
    """Sketches of bodies on the ground whose sources are SMPL-like bodies themselves."""
    bones = np.array([(parent, joint) for joint, parent in enumerate(PARENTS) if parent >= 0])
    sides = tuple(next((side for side in ("left", "right") if name.startswith(side)), None) for name in JOINT_NAMES)
    return tuple(Sketch(params.take([i]), joints, bones, sides) for i, joints in enumerate(joints_m))


def posed_joints(body: BodyModel, params: BodyParams) -> Float[np.ndarray, "n 55 3"]:
    """World positions of the 55 joints without skinning any vertex, metres."""
    rotations = axis_angle_to_matrix(params.full_pose())
    position = chain_transforms(rotations, rest_joints(body, params))[1]
    return (position + params.transl[:, None]).astype(np.float32)

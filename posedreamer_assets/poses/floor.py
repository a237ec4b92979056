"""The ground under a body, from all of its surface: soles, hands, back and belly alike.

Heights come from a few hundred vertices that are extreme in their part of the body; they are skinned exactly, so the
lowest of them is the lowest of the mesh to 2 cm in any orientation, and to millimetres in most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from posedreamer_assets.body.joints import JOINT_INDEX, LANDMARK_VERTICES
from posedreamer_assets.body.model import BodyModel, chain_transforms
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix

PosesAt = Callable[[Int[np.ndarray, "n"]], BodyParams]
"""Bodies of a clip at given frame numbers."""

GRAVITY_M_S2 = 9.81
_DIRECTIONS = 120  # in which a part's extreme vertices are taken
_FALLING = 0.5  # of gravity; a squat's fastest drop has less, free flight 1
_STEP_S = 0.1  # between the frames of which an acceleration is made
_FLIGHT_S = 0.6  # no jump from level ground lasts twice that long
_PLANTED_M = 0.03
_CHUNK = 256
# Parts of the body's mass by the joint at its near end and at its far end (de Leva 1996, mean of men and women).
_SEGMENTS = (
    ("pelvis", "neck", 0.430),
    ("head", "head", 0.068),
    *((f"{side}_shoulder", f"{side}_elbow", 0.0263) for side in ("left", "right")),
    *((f"{side}_elbow", f"{side}_wrist", 0.0150) for side in ("left", "right")),
    *((f"{side}_wrist", f"{side}_wrist", 0.0059) for side in ("left", "right")),
    *((f"{side}_hip", f"{side}_knee", 0.1447) for side in ("left", "right")),
    *((f"{side}_knee", f"{side}_ankle", 0.0457) for side in ("left", "right")),
    *((f"{side}_ankle", f"{side}_foot", 0.0133) for side in ("left", "right")),
)


@dataclass(frozen=True)
class Surface:
    """Some vertices of a body, ready to be skinned without the others.

    Attributes:
        vertices: their numbers in the mesh.
        rest: in the T-pose, metres; `shape` how betas and expression move them.
        joints: of the mean body, metres; `joint_shape` how betas and expression move them.
        pose: corrective offsets of the pose, or None.
        weights: of skinning.
    """

    vertices: Int[np.ndarray, "k"]
    rest: Float[np.ndarray, "k 3"]
    shape: Float[np.ndarray, "k 3 20"]
    joints: Float[np.ndarray, "55 3"]
    joint_shape: Float[np.ndarray, "55 3 20"]
    pose: Float[np.ndarray, "486 k3"] | None
    weights: Float[np.ndarray, "k 55"]

    def posed(self, params: BodyParams) -> tuple[Float[np.ndarray, "n k 3"], Float[np.ndarray, "n 55 3"]]:
        """World positions of the vertices and of the 55 joints, metres."""
        parts = [self._posed(params.take(slice(i, i + _CHUNK))) for i in range(0, len(params), _CHUNK)]
        if not parts:
            return np.zeros((0, len(self.vertices), 3), np.float32), np.zeros((0, 55, 3), np.float32)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _posed(self, params: BodyParams) -> tuple[np.ndarray, np.ndarray]:
        n, k = len(params), len(self.vertices)
        coefficients = np.concatenate([params.betas, params.expression], axis=1)
        shaped = self.rest + np.einsum("kcs,ns->nkc", self.shape, coefficients, optimize=True)
        rest_joints = self.joints + np.einsum("jcs,ns->njc", self.joint_shape, coefficients, optimize=True)
        rotations = axis_angle_to_matrix(params.full_pose())
        if self.pose is not None:
            feature = (rotations[:, 1:] - np.eye(3, dtype=np.float32)).reshape(n, -1)
            shaped = shaped + (feature @ self.pose).reshape(n, k, 3)
        turned, position = chain_transforms(rotations, rest_joints.astype(np.float32))
        offset = position - np.einsum("njab,njb->nja", turned, rest_joints)
        transforms = np.concatenate([turned, offset[..., None]], axis=-1).reshape(n, 55, 12)
        blended = np.matmul(self.weights, transforms).reshape(n, k, 3, 4)
        points = np.einsum("nkab,nkb->nka", blended[..., :3], shaped) + blended[..., 3]
        move = params.transl[:, None]
        return (points + move).astype(np.float32), (position + move).astype(np.float32)


@lru_cache(maxsize=4)
def surface_of(body: BodyModel) -> Surface:
    """The extreme vertices of every part of a body, and its landmark vertices."""
    directions = _sphere(_DIRECTIONS)
    chosen = set(LANDMARK_VERTICES.values())
    for joint in np.unique(body.dominant_joint):
        own = np.flatnonzero(body.dominant_joint == joint)
        chosen |= {int(own[i]) for i in (body.v_template[own] @ directions.T).argmax(axis=0)}
    vertices = np.array(sorted(chosen))
    shape = np.concatenate([body.shapedirs, body.exprdirs], axis=2)
    pose = None
    if body.posedirs is not None:
        pose = body.posedirs.reshape(486, -1, 3)[:, vertices].reshape(486, -1)
    return Surface(
        vertices=vertices,
        rest=body.v_template[vertices],
        shape=shape[vertices],
        joints=body.J_regressor @ body.v_template,
        joint_shape=np.einsum("jv,vcs->jcs", body.J_regressor, shape, optimize=True),
        pose=pose,
        weights=body.weights[vertices],
    )


def _sphere(count: int) -> Float[np.ndarray, "count 3"]:
    """Directions spread evenly over the sphere (Fibonacci lattice), with the six axes among them."""
    place = np.arange(count) + 0.5
    height, turn = 1 - 2 * place / count, np.pi * (1 + 5**0.5) * place
    ring = np.sqrt(1 - height**2)
    spread = np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)
    return np.concatenate([spread, np.eye(3), -np.eye(3)])


def lowest_points_m(body: BodyModel, params: BodyParams) -> Float[np.ndarray, "n"]:
    """Height of the lowest point of each body, metres, world frame with y up."""
    return surface_of(body).posed(params)[0][..., 1].min(axis=1)


def centre_of_mass_m(joints: Float[np.ndarray, "n 55 3"]) -> Float[np.ndarray, "n 3"]:
    """Centre of mass of each body from its joints, metres."""
    parts = [share * (joints[:, JOINT_INDEX[near]] + joints[:, JOINT_INDEX[far]]) / 2 for near, far, share in _SEGMENTS]
    return np.sum(parts, axis=0) / sum(share for _, _, share in _SEGMENTS)


def flying(
    body: BodyModel, frames: Int[np.ndarray, "n"], at: PosesAt, *, count: int, fps: float
) -> Bool[np.ndarray, "n"]:
    """Which frames of a clip are in free flight: their centre of mass falls with more than half of gravity.

    Args:
        body: that the poses are for.
        frames: frame numbers.
        at: bodies of the clip at frame numbers, y up, metres.
        count: frames in the clip; at its ends, and where it is too coarse, nothing is known to fly.
        fps: frames in a second; 0 for poses without order in time.
    """
    step = max(1, round(_STEP_S * fps))
    inside = (frames >= step) & (frames < count - step)
    flies = np.zeros(len(frames), bool)
    if fps < 1 / (2 * _STEP_S) or not inside.any():
        return flies
    heights = []
    for shift in (-step, 0, step):
        joints = surface_of(body).posed(at(frames[inside] + shift))[1]
        heights.append(centre_of_mass_m(joints)[:, 1].astype(np.float64))
    with np.errstate(invalid="ignore"):
        acceleration = (heights[0] - 2 * heights[1] + heights[2]) * (fps / step) ** 2
        flies[inside] = acceleration < -_FALLING * GRAVITY_M_S2
    return flies


def settle(
    body: BodyModel, params: BodyParams, frames: Int[np.ndarray, "n"], at: PosesAt, *, count: int, fps: float
) -> tuple[BodyParams, tuple[str, ...]]:
    """Put the bodies of a clip on the ground at y = 0.

    A body touches the ground with whatever part of it is lowest, unless it flies by its own motion: then it keeps its
    height above the lowest point that it had within 0.6 s. What holds a body up in the world (a stair, a bar) is not known
    and not kept; the note tells how many frames stood higher than the clip's lowest ones.

    Args:
        body: that the poses are for.
        params: the frames to place, world frame, y up, metres.
        frames: their numbers in the clip.
        at: bodies of the clip at any frame numbers in [0, count), in the same frame as `params` and with the same betas;
            values that are not finite (frames set aside) are no evidence.
        count: frames in the clip.
        fps: frames in a second; 0 for poses without order in time, all of which touch the ground.

    Returns:
        Bodies moved up or down alone, and notes.
    """
    lowest = lowest_points_m(body, params).astype(np.float64)
    height = np.zeros(len(params))
    air = np.flatnonzero(flying(body, frames, at, count=count, fps=fps))
    if len(air):
        shifts = np.unique(np.rint(np.arange(-_FLIGHT_S, _FLIGHT_S + 1e-9, _STEP_S) * fps).astype(int))
        near = np.clip(frames[air, None] + shifts, 0, count - 1)
        around = lowest_points_m(body, at(near.reshape(-1))).reshape(near.shape)
        floor = np.nanmin(np.concatenate([around, lowest[air, None]], axis=1), axis=1)
        height[air] = np.maximum(lowest[air] - floor, 0.0)
    transl = params.transl.copy()
    transl[:, 1] += (height - lowest).astype(np.float32)
    held = int((lowest - height - np.percentile(lowest, 5, method="lower") > 0.15).sum()) if len(lowest) else 0
    notes = (f"{held} of {len(lowest)} frames stood higher than the clip's floor: put on the ground",) if held else ()
    return params.replace(transl=transl), notes


def sole_pitch_deg(body: BodyModel, params: BodyParams) -> Float[np.ndarray, "n 2"]:
    """Pitch of the left and the right sole, degrees, toes up positive; NaN for a foot that does not touch the ground.

    A foot touches the ground where its toes or its heel are within 3 cm of y = 0. Over a clip of standing and walking the
    median is near 0; a rig whose foot bones were misread shows tens of degrees.
    """
    surface = surface_of(body)
    points = surface.posed(params)[0]
    row = {int(vertex): i for i, vertex in enumerate(surface.vertices)}
    pitches = []
    for side in ("left", "right"):
        toe = points[:, [row[LANDMARK_VERTICES[f"{side}_{name}"]] for name in ("big_toe", "small_toe")]].mean(axis=1)
        heel = points[:, row[LANDMARK_VERTICES[f"{side}_heel"]]]
        line = (toe - heel).astype(np.float64)
        pitch = np.rad2deg(np.arctan2(line[:, 1], np.linalg.norm(line[:, [0, 2]], axis=1))) - _flat_pitch_deg(
            body, side
        )
        pitches.append(np.where(np.minimum(toe[:, 1], heel[:, 1]) < _PLANTED_M, pitch, np.nan))
    return np.stack(pitches, axis=1)


def _flat_pitch_deg(body: BodyModel, side: str) -> float:
    """Pitch of the heel-to-toe landmarks of a flat sole: those of the T-pose."""
    toes = body.v_template[[LANDMARK_VERTICES[f"{side}_{name}"] for name in ("big_toe", "small_toe")]].mean(axis=0)
    line = toes - body.v_template[LANDMARK_VERTICES[f"{side}_heel"]]
    return float(np.rad2deg(np.arctan2(line[1], np.linalg.norm(line[[0, 2]]))))

"""Motion of any humanoid skeleton carried over to SMPL-X.

A rig is understood by joint names and by its tree: wrists, ankles and the head are found by name, the joints between
them and the trunk by descent. Bones, not local axes, carry the pose, so the rig's own axes and rest pose do not matter.

For each rig joint j a reference rotation G_ref[j] is found in which the rig stands as SMPL-X stands in its T-pose.
With G[j](t) the joint's world rotation and M the turn from the file's world to y up, SMPL-X's world rotation is

    R[j](t) = M G[j](t) G_ref[j]^-1 A^-1 S[j]^-1

where A turns the reference pose to face +z with y up, and S[j] is the smallest rotation that brings the limb's
reference direction onto SMPL-X's. Limb directions are thereby exact, and bone twists are those of the rig, counted from its
reference pose. Bone lengths stay those of the SMPL-X body.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.joints import JOINT_INDEX, PARENTS
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import matrix_to_axis_angle, rotation_between, rotation_x
from posedreamer_assets.poses.reference import (
    body_frame,
    built_reference,
    facing,
    feet_of_unknown_pitch,
    leg_length,
    limb_swings,
    mean_rotation,
    reference_error,
    snapped,
    trunk_weights,
    unit,
)
from posedreamer_assets.poses.rig import SIDES, JointMap, RetargetError, Skeleton, map_joints
from posedreamer_assets.poses.upright import AXES, BVH_HABIT, REST_POSE, to_y_up

_T_POSE_DEG = 20.0
_FIRST_POSE = 1.5  # how much a first frame in a T-pose speaks for the axis along which it stands
_FAR_ENDS = {"shoulder": "elbow", "elbow": "wrist", "hip": "knee", "knee": "ankle"}


@dataclass(frozen=True)
class Retargeter:
    """A rig calibrated against a body; made by `calibrate`."""

    mapping: JointMap
    to_reference: dict[int, np.ndarray]  # rig joint -> G_ref^-1 A^-1 S^-1
    to_world: np.ndarray  # M
    scale: float  # metres in one unit of the file
    rest: np.ndarray  # (55, 3) SMPL-X joints in the T-pose
    trunk_weights: np.ndarray  # (4, rig trunk joints): share of each in pelvis, spine1, spine2, spine3
    first_is_reference: bool
    believed: Mapping[str, float]  # which axis the reference pose makes likely to point up
    loose_feet: tuple[str, ...]  # sides whose reference pose does not tell where the sole is flat
    notes: tuple[str, ...]

    @classmethod
    def calibrate(
        cls,
        skeleton: Skeleton,
        rotation: Float[np.ndarray, "n joints 3 3"],
        position: Float[np.ndarray, "n joints 3"],
        body: BodyModel,
    ) -> "Retargeter":
        """Understand a rig from its rest offsets and some frames of its motion, the file's first frame foremost.

        The result works in the file's own axes; `facing_up` turns it to y up once the axis is known.

        Raises:
            RetargetError: joints are missing, or no reference pose can be made out.
        """
        mapping = map_joints(skeleton)
        rest = (body.J_regressor @ body.v_template).astype(np.float64)
        leg = leg_length(mapping, position[0])
        if not np.isfinite(leg) or leg < 1e-6:
            raise RetargetError(f"the legs are {leg:g} units long", "absurd_value")
        chosen = _choose_reference(skeleton, mapping, rotation, position)
        leg_joints = rest[[JOINT_INDEX["left_hip"], JOINT_INDEX["left_knee"], JOINT_INDEX["left_ankle"]]]
        body_leg = float(np.linalg.norm(np.diff(leg_joints, axis=0), axis=1).sum())
        return cls(
            mapping=mapping,
            to_reference=limb_swings(mapping, chosen.placed, rest, chosen.turned),
            to_world=np.eye(3),
            scale=body_leg / leg,
            rest=rest,
            trunk_weights=trunk_weights(mapping, chosen.placed, rest),
            first_is_reference=chosen.name == "first frame",
            believed=chosen.believed,
            loose_feet=feet_of_unknown_pitch(mapping, chosen.placed),
            notes=(f"reference: {chosen.name}", *mapping.notes),
        )

    def facing_up(self, to_y_up: Float[np.ndarray, "3 3"], note: str) -> "Retargeter":
        """The same rig in a world turned to y up."""
        return replace(self, to_world=to_y_up, notes=(note, *self.notes))

    def with_level_soles(self, pitch_deg: Mapping[str, float]) -> "Retargeter":
        """The same rig with feet turned about their own left axis, so that soles with these pitches (by side) are level."""
        turned, notes = dict(self.to_reference), list(self.notes)
        for side, pitch in pitch_deg.items():
            for name in (f"{side}_ankle", f"{side}_foot"):
                if name in self.mapping.joints:
                    joint = self.mapping.joints[name]
                    turned[joint] = turned[joint] @ rotation_x(float(np.deg2rad(pitch)))
            notes.append(f"{side} foot: turned by {-pitch:.0f} degrees, so that it is level where it stands")
        return replace(self, to_reference=turned, notes=tuple(notes))

    def retarget(
        self, rotation: Float[np.ndarray, "n joints 3 3"], position: Float[np.ndarray, "n joints 3"]
    ) -> BodyParams:
        """SMPL-X parameters of frames given as world rotations and positions of the rig's joints.

        The hips' midpoint follows the rig's, scaled by leg length; height above the ground is left to the caller.
        """
        world = self._world_rotations(rotation, position)
        local = world.copy()
        for joint, parent in enumerate(PARENTS):
            if parent >= 0:
                local[:, joint] = np.swapaxes(world[:, parent], -1, -2) @ world[:, joint]
        vectors = matrix_to_axis_angle(local).astype(np.float32)
        hips = [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]
        middle = position[:, [self.mapping.joints[f"{side}_hip"] for side in SIDES]].mean(axis=1)
        lever = self.rest[hips].mean(axis=0) - self.rest[0]
        pelvis = self.scale * middle @ self.to_world.T - world[:, 0] @ lever
        return BodyParams.zeros(len(rotation)).replace(
            global_orient=vectors[:, 0],
            body_pose=vectors[:, 1:22],
            left_hand_pose=vectors[:, 25:40],
            right_hand_pose=vectors[:, 40:55],
            transl=(pelvis - self.rest[0]).astype(np.float32),
        )

    def _world_rotations(self, rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
        def turned(joint: int) -> np.ndarray:
            return self.to_world @ rotation[:, joint] @ self.to_reference[joint]

        world = np.empty((len(rotation), 55, 3, 3))
        trunk = np.stack([turned(j) for j in (self.mapping.joints["pelvis"], *self.mapping.spine)])
        for name, weights in zip(("pelvis", "spine1", "spine2", "spine3"), self.trunk_weights, strict=True):
            world[:, JOINT_INDEX[name]] = mean_rotation(trunk, weights)
        head = turned(self.mapping.joints["head"])
        neck = [turned(joint) for joint in self.mapping.neck] or [trunk[-1], head]
        world[:, JOINT_INDEX["neck"]] = mean_rotation(np.stack(neck), np.ones(len(neck)))
        world[:, JOINT_INDEX["head"]] = head
        mapped = {JOINT_INDEX[name]: joint for name, joint in self.mapping.joints.items()}
        for joint, parent in enumerate(PARENTS):
            if joint in (0, 3, 6, 9, 12, 15):
                continue
            world[:, joint] = turned(mapped[joint]) if joint in mapped else world[:, parent]
        for name in self.mapping.split:
            self._straighten(name, world, position)
        return world

    def _straighten(self, name: str, world: np.ndarray, position: np.ndarray) -> None:
        """Swing a limb whose bone has joints within it, so that it points from end to end as the rig's does."""
        end = f"{name.split('_')[0]}_{_FAR_ENDS[name.split('_')[1]]}" if name.split("_")[1] in _FAR_ENDS else None
        if end is None:
            return
        joints = self.mapping.joints
        wanted = unit((position[:, joints[end]] - position[:, joints[name]]) @ self.to_world.T)
        bone = self.rest[JOINT_INDEX[end]] - self.rest[JOINT_INDEX[name]]
        row = JOINT_INDEX[name]
        found = unit(world[:, row] @ bone)
        world[:, row] = np.stack([rotation_between(a, b) for a, b in zip(found, wanted, strict=True)]) @ world[:, row]


@dataclass(frozen=True)
class _Reference:
    name: str
    turned: np.ndarray  # A G_ref of every rig joint, (joints, 3, 3)
    placed: np.ndarray  # (joints, 3), y up and facing +z
    believed: Mapping[str, float]


def _choose_reference(skeleton: Skeleton, mapping: JointMap, rotation: np.ndarray, position: np.ndarray) -> _Reference:
    rest_position = skeleton.rest_positions()
    upright_rest = reference_error(mapping, rest_position)
    first_axis = _standing_axis(mapping, position[0])
    first_error = np.inf
    if first_axis is not None:
        turn = to_y_up(first_axis)
        first_error = reference_error(mapping, position[0] @ turn.T, upright_in_world=True)
    if upright_rest < np.inf:
        rest_axis = _standing_axis(mapping, rest_position)
        believed = {rest_axis: REST_POSE} if rest_axis else BVH_HABIT
    else:
        believed = {first_axis: _FIRST_POSE} if first_axis and first_error < _T_POSE_DEG else BVH_HABIT
    if first_axis is not None and first_error < _T_POSE_DEG and first_error < upright_rest:
        turn = to_y_up(first_axis)
        align = facing(mapping, position[0] @ turn.T) @ turn
        return _Reference("first frame", align @ rotation[0], position[0] @ align.T, believed)
    if upright_rest < np.inf:
        align = snapped(body_frame(mapping, rest_position))
        identity = np.repeat(np.eye(3)[None], len(skeleton.names), axis=0)
        return _Reference("rest pose", align @ identity, rest_position @ align.T, believed)
    turned, placed = built_reference(skeleton, mapping, rotation, position)
    return _Reference("built from bones and hinges", turned, placed, believed)


def _standing_axis(mapping: JointMap, position: np.ndarray) -> str | None:
    """The axis of the file along which a body stands, within 30 degrees; None where there is none."""
    try:
        up = body_frame(mapping, position)[1]
    except RetargetError:
        return None
    axis = max(AXES, key=lambda name: float(AXES[name] @ up))
    return axis if AXES[axis] @ up > np.cos(np.deg2rad(30)) else None

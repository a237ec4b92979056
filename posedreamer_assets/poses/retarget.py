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

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX, PARENTS
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import matrix_to_axis_angle, rotation_between, rotation_x

_SIDES = ("left", "right")
_FINGERS = ("index", "middle", "pinky", "ring", "thumb")
_PARTS = (
    *(
        [
            "hand",
            "wrist",
            "foot",
            "ankle",
            "toe",
            "toes",
            "toebase",
            "thumb",
            "finger",
            "fingers",
            "clavicle",
            "collar",
            "shoulder",
            "humerus",
            "radius",
            "elbow",
        ]
    ),
    *(
        [
            "femur",
            "tibia",
            "knee",
            "hip",
            "leg",
            "arm",
            "forearm",
            "upperarm",
            "lowerarm",
            "thigh",
            "shin",
            "calf",
            "uparm",
            "lowarm",
            "upleg",
            "lowleg",
        ]
    ),
    *(["hipjoint", "index", "middle", "ring", "pinky", "handindex"]),
)
_HELPERS = {"roll", "twist", "end", "nub", "ik", "pole", "target"}
_MIN_BONE = 1e-4  # of the rig's leg length; shorter bones are doubles of their parent
_SANE_LEG_DEG, _SANE_ARM_DEG = 40.0, 100.0
_T_POSE_DEG = 20.0
_FOOT_KEEPS_DEG = 60.0
_LEAST_BEND = 0.05  # mean sine of an elbow's or knee's bend from which its axis can be told


class RetargetError(Exception):
    """A skeleton that cannot be understood; `reason` is a code of `errors.PoseFileError`."""

    def __init__(self, detail: str, reason: str = "unknown_layout") -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True)
class Skeleton:
    """Joints with parents before children (-1 for the root) and offsets from the parent in the file's units.

    End sites are joints named `<parent>_end`.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[np.ndarray, "joints 3"]

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Children of each joint, in file order."""
        lists: list[list[int]] = [[] for _ in self.names]
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                lists[parent].append(joint)
        return tuple(map(tuple, lists))

    def ancestors(self, joint: int) -> list[int]:
        """Parent, grandparent, ... up to the root."""
        chain = []
        while (joint := self.parents[joint]) >= 0:
            chain.append(joint)
        return chain

    def rest_positions(self) -> Float[np.ndarray, "joints 3"]:
        """Positions with all rotations zero."""
        position = np.zeros((len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            position[joint] = self.offsets[joint] + (position[parent] if parent >= 0 else 0.0)
        return position


@dataclass(frozen=True)
class JointMap:
    """Rig joints by SMPL-X name, and the joints between pelvis and chest and between chest and head.

    `tips` names for a mapped joint the rig joint at the far end of its bone.
    """

    joints: dict[str, int]
    spine: tuple[int, ...]  # above the pelvis, up to and with the chest; empty when pelvis and chest are one joint
    neck: tuple[int, ...]  # above the chest, below the head
    tips: dict[str, int]


def split_name(name: str) -> tuple[str | None, list[str]]:
    """Side ("left", "right" or None) and lower-case words of a joint's name.

    Understands LeftUpLeg, lHand, hand_l, Bip01 L Hand, mixamorig:LeftArm, LThumb and lfemur.
    """
    bare = re.sub(r"^mixamorig\d*", "", name.rsplit(":", 1)[-1], flags=re.IGNORECASE)
    words = [w.lower() for w in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", bare)]
    sides = {"left": "left", "l": "left", "right": "right", "r": "right"}
    for i, word in enumerate(words):
        if word in sides:
            return sides[word], words[:i] + words[i + 1 :]
    for i, word in enumerate(words):
        for prefix in ("left", "right", "l", "r"):
            if word.startswith(prefix) and word[len(prefix) :] in _PARTS:
                return sides[prefix], [*words[:i], word[len(prefix) :], *words[i + 1 :]]
    return None, words


def map_joints(skeleton: Skeleton) -> JointMap:
    """Find SMPL-X's joints in a rig.

    Raises:
        RetargetError: a limb or the head is not found, or left and right are not apart.
    """
    named = [split_name(name) for name in skeleton.names]
    joints: dict[str, int] = {}
    tips: dict[str, int] = {}
    for side in _SIDES:
        wrist = _topmost(skeleton, named, side, ("hand", "wrist"), avoid=(*_FINGERS, "finger", "fingers", "in"))
        ankle = _topmost(skeleton, named, side, ("foot", "ankle"), avoid=("toe", "toes", "toebase"))
        _map_chain(skeleton, named, side, wrist, ("elbow", "shoulder", "collar"), "wrist", joints)
        _map_chain(skeleton, named, side, ankle, ("knee", "hip"), "ankle", joints)
        _map_toe(skeleton, side, ankle, joints, tips)
        _map_hand(skeleton, named, side, wrist, joints, tips)
    pelvis = _common_ancestor(skeleton, joints["left_hip"], joints["right_hip"])
    chest = _common_ancestor(skeleton, joints["left_shoulder"], joints["right_shoulder"])
    for side in _SIDES:
        if joints.get(f"{side}_collar") == chest:
            del joints[f"{side}_collar"]
    joints["pelvis"] = pelvis
    spine = _path(skeleton, pelvis, chest)
    head = _topmost(skeleton, named, None, ("head",), avoid=tuple(_HELPERS))
    neck = _path(skeleton, chest, head)[:-1]
    joints["head"] = head
    far = _deepest_tip(skeleton, head)
    if far is not None:
        tips["head"] = far
    return JointMap(joints, tuple(spine), tuple(neck), tips)


def _topmost(
    skeleton: Skeleton,
    named: list[tuple[str | None, list[str]]],
    side: str | None,
    words: tuple[str, ...],
    avoid: tuple[str, ...],
) -> int:
    def matches(joint: int) -> bool:
        own_side, own = named[joint]
        return own_side == side and bool(set(own) & set(words)) and not set(own) & {*avoid, *_HELPERS}

    for joint in range(len(named)):
        if matches(joint) and not any(matches(up) for up in skeleton.ancestors(joint)):
            return joint
    label = f"{side} {words[0]}" if side else words[0]
    raise RetargetError(f"no joint for the {label}; the rig has {', '.join(skeleton.names[:60])}")


def _bone_length(skeleton: Skeleton, joint: int) -> float:
    return float(np.linalg.norm(skeleton.offsets[joint]))


def _map_chain(
    skeleton: Skeleton,
    named: list[tuple[str | None, list[str]]],
    side: str,
    tip: int,
    names: tuple[str, ...],
    tip_name: str,
    joints: dict[str, int],
) -> None:
    """Walk from a wrist or ankle towards the trunk; twist helpers and zero-length doubles are no joints."""
    joints[f"{side}_{tip_name}"] = tip
    least = _MIN_BONE * max(float(np.linalg.norm(skeleton.offsets, axis=1).max()), 1e-12)
    length, found = _bone_length(skeleton, tip), []
    for joint in skeleton.ancestors(tip):
        own_side, words = named[joint]
        if own_side != side:
            break
        if length > least and not set(words) & _HELPERS:
            found.append(joint)
            length = 0.0
        length += _bone_length(skeleton, joint)
    if len(found) < 2:
        raise RetargetError(f"the {side} {tip_name} hangs on {len(found)} joints, expected {names[1]} and {names[0]}")
    joints.update({f"{side}_{name}": joint for name, joint in zip(names, found, strict=False)})


def _map_toe(skeleton: Skeleton, side: str, ankle: int, joints: dict[str, int], tips: dict[str, int]) -> None:
    real = [c for c in skeleton.children[ankle] if _bone_length(skeleton, c) > 0]
    if not real:
        return
    toe = max(real, key=lambda c: (not skeleton.names[c].endswith("_end"), _bone_length(skeleton, c)))
    tips[f"{side}_ankle"] = toe
    if skeleton.children[toe]:
        joints[f"{side}_foot"] = toe


def _map_hand(
    skeleton: Skeleton,
    named: list[tuple[str | None, list[str]]],
    side: str,
    wrist: int,
    joints: dict[str, int],
    tips: dict[str, int],
) -> None:
    below = [j for j in range(len(named)) if wrist in skeleton.ancestors(j)]
    for finger in _FINGERS:
        chain = [j for j in below if finger in named[j][1] and "in" not in named[j][1] and skeleton.children[j]]
        chain = [j for j in chain if not set(named[j][1]) & _HELPERS]
        if len(chain) >= 3 and all(b in skeleton.children[a] for a, b in pairwise(chain)):
            for k, joint in enumerate(chain[:3], start=1):
                joints[f"{side}_{finger}{k}"] = joint
                tips[f"{side}_{finger}{k}"] = skeleton.children[joint][0]
    middle = joints.get(f"{side}_middle1", joints.get(f"{side}_index1"))
    rest = skeleton.rest_positions()
    others = [j for j in below if "thumb" not in named[j][1] and np.linalg.norm(rest[j] - rest[wrist]) > 0]
    others = [j for j in others if not any("thumb" in named[up][1] for up in skeleton.ancestors(j))]
    if middle is not None:
        tips[f"{side}_wrist"] = middle
    elif others:
        tips[f"{side}_wrist"] = others[0]


def _deepest_tip(skeleton: Skeleton, joint: int) -> int | None:
    children = [c for c in skeleton.children[joint] if _bone_length(skeleton, c) > 0]
    return max(children, key=lambda c: _bone_length(skeleton, c)) if children else None


def _common_ancestor(skeleton: Skeleton, a: int, b: int) -> int:
    above = skeleton.ancestors(a)
    for joint in skeleton.ancestors(b):
        if joint in above:
            return joint
    raise RetargetError(f"{skeleton.names[a]} and {skeleton.names[b]} have no common ancestor")


def _path(skeleton: Skeleton, top: int, bottom: int) -> list[int]:
    """Joints from below `top` down to and with `bottom`; empty when they are one joint."""
    if top == bottom:
        return []
    chain = [bottom, *skeleton.ancestors(bottom)]
    if top not in chain:
        raise RetargetError(f"{skeleton.names[bottom]} does not hang on {skeleton.names[top]}")
    return chain[: chain.index(top)][::-1]


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

        Raises:
            RetargetError: joints are missing, or no upright reference pose can be made out.
        """
        mapping = map_joints(skeleton)
        rest = (body.J_regressor @ body.v_template).astype(np.float64)
        leg = _leg_length(mapping, position[0])
        if not np.isfinite(leg) or leg < 1e-6:
            raise RetargetError(f"the legs are {leg:g} units long", "absurd_value")
        rest_position = skeleton.rest_positions()
        identity = np.repeat(np.eye(3)[None], len(skeleton.names), axis=0)
        upright_rest = _reference_error(mapping, rest_position)
        up = _up_axis(mapping, position, rest_position if upright_rest < np.inf else None)
        to_world = np.eye(3) if up == 1 else rotation_x(-np.pi / 2)
        first_error = _reference_error(mapping, position[0] @ to_world.T, upright_in_world=True)
        use_first = first_error < _T_POSE_DEG and first_error < upright_rest
        notes = [f"{'yz'[up - 1]} up"]
        if use_first:
            reference, align = rotation[0], _facing(mapping, position[0] @ to_world.T) @ to_world
            placed = position[0] @ align.T
            notes.append("reference: first frame")
        elif upright_rest < np.inf:
            reference, align = identity, _snapped(_body_frame(mapping, rest_position))
            placed = rest_position @ align.T
            notes.append("reference: rest pose")
        else:
            reference, placed = _built_reference(skeleton, mapping, rotation, position)
            align = np.eye(3)
            notes.append("reference: built from bones and hinges")
        to_reference = _limb_swings(mapping, placed, rest, align @ reference)
        leg_joints = rest[[JOINT_INDEX["left_hip"], JOINT_INDEX["left_knee"], JOINT_INDEX["left_ankle"]]]
        body_leg = float(np.linalg.norm(np.diff(leg_joints, axis=0), axis=1).sum())
        return cls(
            mapping=mapping,
            to_reference=to_reference,
            to_world=to_world,
            scale=body_leg / leg,
            rest=rest,
            trunk_weights=_trunk_weights(mapping, placed, rest),
            first_is_reference=use_first,
            notes=tuple(notes),
        )

    def retarget(
        self, rotation: Float[np.ndarray, "n joints 3 3"], position: Float[np.ndarray, "n joints 3"]
    ) -> BodyParams:
        """SMPL-X parameters of frames given as world rotations and positions of the rig's joints.

        The hips' midpoint follows the rig's, scaled by leg length; height above the ground is left to the caller.
        """
        world = self._world_rotations(rotation)
        local = world.copy()
        for joint, parent in enumerate(PARENTS):
            if parent >= 0:
                local[:, joint] = np.swapaxes(world[:, parent], -1, -2) @ world[:, joint]
        vectors = matrix_to_axis_angle(local).astype(np.float32)
        hips = [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]
        middle = position[:, [self.mapping.joints[f"{side}_hip"] for side in _SIDES]].mean(axis=1)
        lever = self.rest[hips].mean(axis=0) - self.rest[0]
        pelvis = self.scale * middle @ self.to_world.T - world[:, 0] @ lever
        return BodyParams.zeros(len(rotation)).replace(
            global_orient=vectors[:, 0],
            body_pose=vectors[:, 1:22],
            left_hand_pose=vectors[:, 25:40],
            right_hand_pose=vectors[:, 40:55],
            transl=(pelvis - self.rest[0]).astype(np.float32),
        )

    def _world_rotations(self, rotation: np.ndarray) -> np.ndarray:
        def turned(joint: int) -> np.ndarray:
            return self.to_world @ rotation[:, joint] @ self.to_reference[joint]

        world = np.empty((len(rotation), 55, 3, 3))
        trunk = np.stack([turned(j) for j in (self.mapping.joints["pelvis"], *self.mapping.spine)])
        for name, weights in zip(("pelvis", "spine1", "spine2", "spine3"), self.trunk_weights, strict=True):
            world[:, JOINT_INDEX[name]] = _mean_rotation(trunk, weights)
        head = turned(self.mapping.joints["head"])
        neck = [turned(joint) for joint in self.mapping.neck] or [trunk[-1], head]
        world[:, JOINT_INDEX["neck"]] = _mean_rotation(np.stack(neck), np.ones(len(neck)))
        world[:, JOINT_INDEX["head"]] = head
        mapped = {JOINT_INDEX[name]: joint for name, joint in self.mapping.joints.items()}
        for joint, parent in enumerate(PARENTS):
            if joint in (0, 3, 6, 9, 12, 15):
                continue
            world[:, joint] = turned(mapped[joint]) if joint in mapped else world[:, parent]
        return world


def _mean_rotation(rotations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted chordal mean over the first axis of rotations (k, n, 3, 3)."""
    if np.count_nonzero(weights) == 1:
        return rotations[int(np.argmax(weights))]
    u, _, vt = np.linalg.svd(np.einsum("k,knab->nab", weights, rotations))
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt


def _trunk_weights(mapping: JointMap, placed: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """How much each rig trunk joint turns each of pelvis, spine1..3: the overlap in height of the parts they carry.

    Heights run from the hips (0) to the shoulders (1); the pelvis follows the rig's pelvis alone: the hips hang on it.
    """

    def starts(heights: np.ndarray, low: float, high: float) -> np.ndarray:
        shares = np.clip((heights - low) / max(high - low, 1e-9), 0, 1)
        return np.concatenate([[0.0], np.maximum.accumulate(shares), [1.0]])

    rig_ends = _middle(mapping, placed, "hip")[1], _middle(mapping, placed, "shoulder")[1]
    rig = starts(placed[list(mapping.spine), 1], *rig_ends)
    names = ("spine1", "spine2", "spine3")
    ends = [(rest[JOINT_INDEX[f"left_{part}"], 1]) for part in ("hip", "shoulder")]
    own = starts(np.array([rest[JOINT_INDEX[name], 1] for name in names]), *ends)
    weights = np.zeros((4, len(rig) - 1))
    for k in range(4):
        weights[k] = np.clip(np.minimum(rig[1:], own[k + 1]) - np.maximum(rig[:-1], own[k]), 0, None)
    weights[0] = np.eye(len(rig) - 1)[0]
    empty = weights.sum(axis=1) <= 1e-6
    weights[empty] = np.eye(len(rig) - 1)[-1]
    return weights / weights.sum(axis=1, keepdims=True)


def _middle(mapping: JointMap, position: np.ndarray, part: str) -> np.ndarray:
    return (position[..., mapping.joints[f"left_{part}"], :] + position[..., mapping.joints[f"right_{part}"], :]) / 2


def _across(mapping: JointMap, position: np.ndarray, part: str) -> np.ndarray:
    return position[..., mapping.joints[f"left_{part}"], :] - position[..., mapping.joints[f"right_{part}"], :]


def _leg_length(mapping: JointMap, position: np.ndarray) -> float:
    total = 0.0
    for side in _SIDES:
        chain = position[[mapping.joints[f"{side}_{part}"] for part in ("hip", "knee", "ankle")]]
        total += float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())
    return total / 2


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)


def _angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.rad2deg(np.arccos(np.clip(_unit(a) @ _unit(b), -1, 1))))


def _frame(left: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The rotation that turns `left` to +x and `up` (made orthogonal) to +y; forward becomes +z."""
    x = _unit(left)
    y = _unit(up - (up @ x) * x)
    if not np.allclose([x @ x, y @ y, x @ y], (1, 1, 0), atol=1e-6):
        raise RetargetError("hips and shoulders span no frame: joints coincide or lie in one line", "absurd_value")
    return np.stack([x, y, np.cross(x, y)])


def _body_frame(mapping: JointMap, position: np.ndarray) -> np.ndarray:
    up = _middle(mapping, position, "shoulder") - _middle(mapping, position, "hip")
    left = _unit(_across(mapping, position, "hip")) + _unit(_across(mapping, position, "shoulder"))
    return _frame(left, up)


def _snapped(frame: np.ndarray) -> np.ndarray:
    """The nearest rotation made of axes: rest poses are drawn along axes though the trunk leans."""
    snapped = np.zeros((3, 3))
    for row in (0, 1):
        axis = int(np.abs(frame[row]).argmax())
        snapped[row, axis] = np.sign(frame[row, axis])
    snapped[2] = np.cross(snapped[0], snapped[1])
    off = np.rad2deg(Rotation.from_matrix(snapped @ frame.T).magnitude()) if abs(snapped[2]).sum() == 1 else 180.0
    return snapped if off < 30 else frame


def _facing(mapping: JointMap, position: np.ndarray) -> np.ndarray:
    """The turn about y that makes an upright body face +z."""
    left = _unit(_across(mapping, position, "hip")) + _unit(_across(mapping, position, "shoulder"))
    return _frame(left * (1, 0, 1), np.array([0.0, 1.0, 0.0]))


def _reference_error(mapping: JointMap, position: np.ndarray, *, upright_in_world: bool = False) -> float:
    """Mean angle of the limbs to a T-pose, degrees; infinite for a pose that cannot serve as reference.

    Arms may hang: turning them up sideways leads to the same T-pose.
    """
    if min(np.linalg.norm(_across(mapping, position, part)) for part in ("hip", "shoulder")) < 1e-9:
        return np.inf
    try:
        frame = _facing(mapping, position) if upright_in_world else _body_frame(mapping, position)
    except RetargetError:
        return np.inf
    placed = position @ frame.T
    angles = []
    for side, sign in zip(_SIDES, (1.0, -1.0), strict=True):
        hip, knee, ankle, shoulder, elbow, wrist = (
            placed[mapping.joints[f"{side}_{part}"]] for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        )
        legs = [_angle_deg(bone, np.array([0.0, -1.0, 0.0])) for bone in (knee - hip, ankle - knee)]
        arms = [_angle_deg(bone, np.array([sign, 0.0, 0.0])) for bone in (elbow - shoulder, wrist - elbow)]
        forward = np.abs([_unit(elbow - shoulder)[2], _unit(wrist - elbow)[2]]).max()
        toe = mapping.tips.get(f"{side}_ankle")
        backward = toe is not None and _unit(placed[toe] - ankle)[2] < 0.1
        if max(legs) > _SANE_LEG_DEG or max(arms) > _SANE_ARM_DEG or forward > 0.6 or backward:
            return np.inf
        angles += legs + arms
    head = placed[mapping.joints["head"]]
    if head[1] < _middle(mapping, placed, "hip")[1]:
        return np.inf
    return float(np.mean(angles))


def _up_axis(mapping: JointMap, position: np.ndarray, rest_position: np.ndarray | None) -> int:
    """1 for y up, 2 for z up: along which axis trunk and legs stand over the clip; a rest pose leans the scale."""
    trunk = _unit(_middle(mapping, position, "shoulder") - _middle(mapping, position, "hip")).mean(axis=0)
    legs = _unit(_middle(mapping, position, "hip") - _middle(mapping, position, "ankle")).mean(axis=0)
    score = np.abs(trunk + legs) / 2
    if rest_position is not None:
        score += 0.3 * np.abs(_snapped(_body_frame(mapping, rest_position))[1])
    # Ties go to y, the format's habit.
    return 2 if score[2] > score[1] + 0.05 else 1


def _limb_swings(mapping: JointMap, placed: np.ndarray, rest: np.ndarray, base: np.ndarray) -> dict[int, np.ndarray]:
    """(S A G_ref)^-1 of every mapped joint.

    Args:
        placed: reference positions, y up and facing +z.
        base: A G_ref, (joints, 3, 3).
    """
    swings: dict[str, np.ndarray] = {}
    bones = _limb_bones(mapping)
    for name, (parent, tip) in bones.items():
        joint = mapping.joints[name]
        inherited = swings.get(parent, np.eye(3))
        swings[name] = inherited
        if tip is None:
            continue
        rig = inherited @ (placed[tip] - placed[joint])
        target = _target_direction(name, rest)
        if target is None or np.linalg.norm(rig) < 1e-9:
            continue
        # A sole is flat in both reference poses though ankles sit at different heights above it.
        if name.endswith("ankle") and _angle_deg(rig, target) < _FOOT_KEEPS_DEG:
            continue
        swings[name] = rotation_between(rig, target) @ inherited
    lean = _trunk_lean(mapping, placed, rest)
    by_joint = {joint: np.eye(3) for joint in (*mapping.neck, mapping.joints["head"])}
    by_joint |= dict.fromkeys(mapping.spine, lean) | {mapping.joints["pelvis"]: np.eye(3)}
    by_joint |= {mapping.joints[name]: lean for name in ("left_collar", "right_collar") if name in mapping.joints}
    by_joint |= {mapping.joints[name]: swing for name, swing in swings.items()}
    return {joint: (swing @ base[joint]).T for joint, swing in by_joint.items()}


def _trunk_lean(mapping: JointMap, placed: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """S of spine and collars: with the pelvis level, the line from hips to shoulders leans forward as the rig's does.

    With angles from upright in the sagittal plane, a the part of the trunk below spine1, b the part above it and p the
    rig's lean, |a| sin(a - p) + |b| sin(b + d - p) = 0 is solved for the turn d of the upper part.
    """

    def lean(part: np.ndarray) -> float:
        return float(np.arctan2(part[2], part[1]))

    start = rest[JOINT_INDEX["spine1"]]
    below = start - rest[[JOINT_INDEX[f"{side}_hip"] for side in _SIDES]].mean(axis=0)
    above = rest[[JOINT_INDEX[f"{side}_shoulder"] for side in _SIDES]].mean(axis=0) - start
    rig = lean(_middle(mapping, placed, "shoulder") - _middle(mapping, placed, "hip"))
    ratio = np.linalg.norm(below[1:]) / max(float(np.linalg.norm(above[1:])), 1e-6)
    turn = rig - lean(above) + np.arcsin(np.clip(-ratio * np.sin(lean(below) - rig), -1, 1))
    return rotation_x(-float(turn))


def _limb_bones(mapping: JointMap) -> dict[str, tuple[str, int | None]]:
    """Limb joints from the trunk outwards: the joint whose swing each inherits, and the rig joint at its bone's end."""
    bones: dict[str, tuple[str, int | None]] = {}
    for side in _SIDES:
        arm = [f"{side}_{part}" for part in ("shoulder", "elbow", "wrist")]
        leg = [f"{side}_{part}" for part in ("hip", "knee", "ankle", "foot")]
        for chain in (arm, leg):
            for parent, name, following in zip(["", *chain], chain, [*chain[1:], ""], strict=False):
                if name in mapping.joints:
                    bones[name] = (parent, mapping.tips.get(name, mapping.joints.get(following)))
        for finger in _FINGERS:
            for k in (1, 2, 3):
                name = f"{side}_{finger}{k}"
                if name in mapping.joints:
                    bones[name] = (f"{side}_wrist" if k == 1 else f"{side}_{finger}{k - 1}", mapping.tips[name])
    return bones


def _target_direction(name: str, rest: np.ndarray) -> np.ndarray | None:
    """Direction of a limb's bone in SMPL-X's T-pose."""
    side, _, part = name.partition("_")
    if part[-1].isdigit():
        # Finger bones keep the rig's own spread: both reference hands are flat.
        return None
    ends = {"shoulder": "elbow", "elbow": "wrist", "wrist": "middle1", "hip": "knee", "knee": "ankle", "ankle": "foot"}
    if part not in ends:
        return None
    return rest[JOINT_INDEX[f"{side}_{ends[part]}"]] - rest[JOINT_INDEX[name]]


def _built_reference(
    skeleton: Skeleton, mapping: JointMap, rotation: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A G_ref for rigs whose zero pose is no pose of a body.

    Trunk joints are upright where the body's left and up lie on average, to the nearest axes of the joint. Limbs hang
    together as their offsets tell; which way they are twisted follows from the axes about which elbows and knees bend.

    Returns:
        World rotations (joints, 3, 3) and positions (joints, 3) of the rig in a T-pose, y up, facing +z.
    """
    known: dict[int, np.ndarray] = {}
    relative: dict[int, np.ndarray] = {}
    hips, shoulders = (_unit(_across(mapping, position, part)) for part in ("hip", "shoulder"))
    up = _unit(_middle(mapping, position, "shoulder") - _middle(mapping, position, "hip"))
    collars = [mapping.joints[name] for name in ("left_collar", "right_collar") if name in mapping.joints]
    for joint in (mapping.joints["pelvis"], *mapping.spine, *collars, *mapping.neck, mapping.joints["head"]):
        left = hips if joint == mapping.joints["pelvis"] else shoulders
        known[joint] = _snapped(_frame(_seen_from(rotation[:, joint], left), _seen_from(rotation[:, joint], up)))
    for side, outward in zip(_SIDES, (1.0, -1.0), strict=True):
        arm = _hinged(mapping, rotation, position, [f"{side}_{part}" for part in ("shoulder", "elbow", "wrist")])
        leg = _hinged(mapping, rotation, position, [f"{side}_{part}" for part in ("hip", "knee", "ankle")])
        # In the T-pose the left elbow bends about -y and the right one about +y; both knees bend about +x.
        known[mapping.joints[f"{side}_shoulder"]] = np.diag([outward, -outward, -1.0]) @ arm
        known[mapping.joints[f"{side}_hip"]] = np.array([[0, 1.0, 0], [-1.0, 0, 0], [0, 0, 1.0]]) @ leg
        # No joint's zero tells where a sole is flat: on average over the clip it is square to the shin.
        for upper, lower in (("knee", "ankle"), ("ankle", "foot")):
            if f"{side}_{lower}" in mapping.joints:
                pair = [mapping.joints[f"{side}_{part}"] for part in (upper, lower)]
                relative[pair[1]] = _mean_relative(rotation[:, pair[0]], rotation[:, pair[1]])
    reference = np.empty((len(skeleton.names), 3, 3))
    placed = np.zeros((len(skeleton.names), 3))
    for joint, parent in enumerate(skeleton.parents):
        inherited = reference[parent] if parent >= 0 else np.eye(3)
        reference[joint] = known.get(joint, inherited @ relative.get(joint, np.eye(3)))
        if parent >= 0:
            placed[joint] = placed[parent] + reference[parent] @ skeleton.offsets[joint]
    return reference, placed


def _mean_relative(parent: np.ndarray, child: np.ndarray) -> np.ndarray:
    """The mean rotation of a joint as seen from its parent, of (n, 3, 3) each."""
    local = np.swapaxes(parent, -1, -2) @ child
    return _mean_rotation(local[:, None], np.ones(len(local)))[0]


def _seen_from(rotation: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A world direction (n, 3) in a joint's own axes, averaged over the frames."""
    return np.einsum("nba,nb->na", rotation, direction).mean(axis=0)


def _hinged(mapping: JointMap, rotation: np.ndarray, position: np.ndarray, chain: list[str]) -> np.ndarray:
    """The rotation that turns a limb's bone to +x and the axis about which its middle joint bends to +y."""
    start, middle, end = (position[:, mapping.joints[name]] for name in chain)
    upper, lower = _unit(middle - start), _unit(end - middle)
    frames = rotation[:, mapping.joints[chain[0]]]
    axis = _seen_from(frames, np.cross(upper, lower))
    if np.linalg.norm(axis) < _LEAST_BEND:
        raise RetargetError(
            f"the rest pose is not upright, the first frame is no T-pose, and the {chain[1].replace('_', ' ')} never "
            "bends, so that the limb's twist is unknown"
        )
    return _snapped(_frame(_seen_from(frames, upper), axis))

"""Reference poses of a rig: in which frame it stands as SMPL-X stands in its T-pose, and how far its limbs are from it."""

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.rotations import rotation_between, rotation_x
from posedreamer_assets.poses.rig import SIDES, JointMap, RetargetError, Skeleton
from posedreamer_assets.poses.rig_names import FINGERS

_SANE_LEG_DEG, _SANE_ARM_DEG = 40.0, 100.0
_FOOT_KEEPS_DEG = 60.0
_LEAST_BEND = 0.05  # mean sine of an elbow's or knee's bend from which its axis can be told


def mean_rotation(rotations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted chordal mean over the first axis of rotations (k, n, 3, 3)."""
    if np.count_nonzero(weights) == 1:
        return rotations[int(np.argmax(weights))]
    u, _, vt = np.linalg.svd(np.einsum("k,knab->nab", weights, rotations))
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt


def trunk_weights(mapping: JointMap, placed: np.ndarray, rest: np.ndarray) -> np.ndarray:
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


def leg_length(mapping: JointMap, position: np.ndarray) -> float:
    total = 0.0
    for side in SIDES:
        chain = position[[mapping.joints[f"{side}_{part}"] for part in ("hip", "knee", "ankle")]]
        total += float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())
    return total / 2


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.rad2deg(np.arccos(np.clip(unit(a) @ unit(b), -1, 1))))


def _frame(left: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The rotation that turns `left` to +x and `up` (made orthogonal) to +y; forward becomes +z."""
    x = unit(left)
    y = unit(up - (up @ x) * x)
    if not np.allclose([x @ x, y @ y, x @ y], (1, 1, 0), atol=1e-6):
        raise RetargetError("hips and shoulders span no frame: joints coincide or lie in one line", "absurd_value")
    return np.stack([x, y, np.cross(x, y)])


def body_frame(mapping: JointMap, position: np.ndarray) -> np.ndarray:
    up = _middle(mapping, position, "shoulder") - _middle(mapping, position, "hip")
    left = unit(_across(mapping, position, "hip")) + unit(_across(mapping, position, "shoulder"))
    return _frame(left, up)


def snapped(frame: np.ndarray) -> np.ndarray:
    """The nearest rotation made of axes: rest poses are drawn along axes though the trunk leans."""
    snapped = np.zeros((3, 3))
    for row in (0, 1):
        axis = int(np.abs(frame[row]).argmax())
        snapped[row, axis] = np.sign(frame[row, axis])
    snapped[2] = np.cross(snapped[0], snapped[1])
    off = np.rad2deg(Rotation.from_matrix(snapped @ frame.T).magnitude()) if abs(snapped[2]).sum() == 1 else 180.0
    return snapped if off < 30 else frame


def facing(mapping: JointMap, position: np.ndarray) -> np.ndarray:
    """The turn about y that makes an upright body face +z."""
    left = unit(_across(mapping, position, "hip")) + unit(_across(mapping, position, "shoulder"))
    return _frame(left * (1, 0, 1), np.array([0.0, 1.0, 0.0]))


def reference_error(mapping: JointMap, position: np.ndarray, *, upright_in_world: bool = False) -> float:
    """Mean angle of the limbs to a T-pose, degrees; infinite for a pose that cannot serve as reference.

    Arms may hang: turning them up sideways leads to the same T-pose.
    """
    if min(np.linalg.norm(_across(mapping, position, part)) for part in ("hip", "shoulder")) < 1e-9:
        return np.inf
    try:
        frame = facing(mapping, position) if upright_in_world else body_frame(mapping, position)
    except RetargetError:
        return np.inf
    placed = position @ frame.T
    angles = []
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        hip, knee, ankle, shoulder, elbow, wrist = (
            placed[mapping.joints[f"{side}_{part}"]] for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        )
        legs = [angle_deg(bone, np.array([0.0, -1.0, 0.0])) for bone in (knee - hip, ankle - knee)]
        arms = [angle_deg(bone, np.array([sign, 0.0, 0.0])) for bone in (elbow - shoulder, wrist - elbow)]
        forward = np.abs([unit(elbow - shoulder)[2], unit(wrist - elbow)[2]]).max()
        toe = mapping.tips.get(f"{side}_ankle")
        # A foot's bone may lead straight down to the ball of a flat foot; it never leads back.
        backward = toe is not None and unit(placed[toe] - ankle)[2] < -0.1
        if max(legs) > _SANE_LEG_DEG or max(arms) > _SANE_ARM_DEG or forward > 0.6 or backward:
            return np.inf
        angles += legs + arms
    head = placed[mapping.joints["head"]]
    if head[1] < _middle(mapping, placed, "hip")[1]:
        return np.inf
    return float(np.mean(angles))


def limb_swings(mapping: JointMap, placed: np.ndarray, rest: np.ndarray, base: np.ndarray) -> dict[int, np.ndarray]:
    """(S A G_ref)^-1 of every mapped joint.

    Args:
        placed: reference positions, y up and facing +z.
        base: A G_ref, (joints, 3, 3).
    """
    swings: dict[str, np.ndarray] = {}
    bones = limb_bones(mapping)
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
        if name.endswith("ankle") and (
            angle_deg(rig, target) < _FOOT_KEEPS_DEG or is_heel_height(mapping, placed, rig)
        ):
            continue
        swings[name] = rotation_between(rig, target) @ inherited
    lean = _trunk_lean(mapping, placed, rest)
    by_joint = {joint: np.eye(3) for joint in (*mapping.neck, mapping.joints["head"])}
    by_joint |= dict.fromkeys(mapping.spine, lean) | {mapping.joints["pelvis"]: np.eye(3)}
    by_joint |= {mapping.joints[name]: lean for name in ("left_collar", "right_collar") if name in mapping.joints}
    by_joint |= {mapping.joints[name]: swing for name, swing in swings.items()}
    return {joint: (swing @ base[joint]).T for joint, swing in by_joint.items()}


def feet_of_unknown_pitch(mapping: JointMap, placed: np.ndarray) -> tuple[str, ...]:
    """Sides whose foot has no bone that leads along the sole, so that the reference pose cannot tell where it is flat."""
    found = []
    for side in SIDES:
        tip = mapping.tips.get(f"{side}_ankle")
        ankle = mapping.joints[f"{side}_ankle"]
        if tip is None or is_heel_height(mapping, placed, placed[tip] - placed[ankle]):
            found.append(side)
    return tuple(found)


def is_heel_height(mapping: JointMap, placed: np.ndarray, bone: np.ndarray) -> bool:
    """Whether a foot's bone is the height of the ankle over a flat sole: straight down and short."""
    return angle_deg(bone, np.array([0.0, -1.0, 0.0])) < 30 and bool(
        np.linalg.norm(bone) < 0.15 * leg_length(mapping, placed)
    )


def _trunk_lean(mapping: JointMap, placed: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """S of spine and collars: with the pelvis level, the line from hips to shoulders leans forward as the rig's does.

    With angles from upright in the sagittal plane, a the part of the trunk below spine1, b the part above it and p the
    rig's lean, |a| sin(a - p) + |b| sin(b + d - p) = 0 is solved for the turn d of the upper part.
    """

    def lean(part: np.ndarray) -> float:
        return float(np.arctan2(part[2], part[1]))

    start = rest[JOINT_INDEX["spine1"]]
    below = start - rest[[JOINT_INDEX[f"{side}_hip"] for side in SIDES]].mean(axis=0)
    above = rest[[JOINT_INDEX[f"{side}_shoulder"] for side in SIDES]].mean(axis=0) - start
    rig = lean(_middle(mapping, placed, "shoulder") - _middle(mapping, placed, "hip"))
    ratio = np.linalg.norm(below[1:]) / max(float(np.linalg.norm(above[1:])), 1e-6)
    turn = rig - lean(above) + np.arcsin(np.clip(-ratio * np.sin(lean(below) - rig), -1, 1))
    return rotation_x(-float(turn))


def limb_bones(mapping: JointMap) -> dict[str, tuple[str, int | None]]:
    """Limb joints from the trunk outwards: the joint whose swing each inherits, and the rig joint at its bone's end."""
    bones: dict[str, tuple[str, int | None]] = {}
    for side in SIDES:
        arm = [f"{side}_{part}" for part in ("shoulder", "elbow", "wrist")]
        leg = [f"{side}_{part}" for part in ("hip", "knee", "ankle", "foot")]
        for chain in (arm, leg):
            for parent, name, following in zip(["", *chain], chain, [*chain[1:], ""], strict=False):
                if name in mapping.joints:
                    bones[name] = (parent, mapping.tips.get(name, mapping.joints.get(following)))
        for finger in FINGERS:
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


def built_reference(
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
    hips, shoulders = (unit(_across(mapping, position, part)) for part in ("hip", "shoulder"))
    up = unit(_middle(mapping, position, "shoulder") - _middle(mapping, position, "hip"))
    collars = [mapping.joints[name] for name in ("left_collar", "right_collar") if name in mapping.joints]
    for joint in (mapping.joints["pelvis"], *mapping.spine, *collars, *mapping.neck, mapping.joints["head"]):
        left = hips if joint == mapping.joints["pelvis"] else shoulders
        known[joint] = snapped(_frame(_seen_from(rotation[:, joint], left), _seen_from(rotation[:, joint], up)))
    for side, outward in zip(SIDES, (1.0, -1.0), strict=True):
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
    return mean_rotation(local[:, None], np.ones(len(local)))[0]


def _seen_from(rotation: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A world direction (n, 3) in a joint's own axes, averaged over the frames."""
    return np.einsum("nba,nb->na", rotation, direction).mean(axis=0)


def _hinged(mapping: JointMap, rotation: np.ndarray, position: np.ndarray, chain: list[str]) -> np.ndarray:
    """The rotation that turns a limb's bone to +x and the axis about which its middle joint bends to +y."""
    start, middle, end = (position[:, mapping.joints[name]] for name in chain)
    upper, lower = unit(middle - start), unit(end - middle)
    frames = rotation[:, mapping.joints[chain[0]]]
    axis = _seen_from(frames, np.cross(upper, lower))
    if np.linalg.norm(axis) < _LEAST_BEND:
        raise RetargetError(
            f"the rest pose is not upright, the first frame is no T-pose, and the {chain[1].replace('_', ' ')} never "
            "bends, so that the limb's twist is unknown"
        )
    return snapped(_frame(_seen_from(frames, upper), axis))

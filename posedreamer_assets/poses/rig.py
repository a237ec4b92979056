"""What a rig's joints are in a human body, told from their names and their tree."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from posedreamer_assets.poses.rig_names import (
    ANIMAL_WORDS,
    FINGERS,
    HELPERS,
    bone_of,
    finger_number,
    finger_of,
    has,
    in_palm,
    split_names,
)

SIDES = ("left", "right")
_MIN_BONE = 1e-4  # of the longest bone; shorter ones are doubles of their parent
_FOREARM = ("forearm", "lowerarm", "elbow", "lowarm", "loarm", "farm", "ulna", "radius")
_SHANK = ("leg", "lowerleg", "lowleg", "loleg", "knee", "shin", "calf", "tibia", "lleg")
_LEG_WORDS = (*_SHANK, "upleg", "upperleg", "thigh", "femur", "hip", "foot", "ankle", "buttock")

Named = list[tuple[str | None, list[str]]]


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

    def below(self, joint: int) -> list[int]:
        """All joints that hang on a joint, end sites too, in file order."""
        found = {joint}
        for child, parent in enumerate(self.parents):
            if parent in found:
                found.add(child)
        return sorted(found - {joint})

    def is_end(self, joint: int) -> bool:
        """Whether a joint is an end site."""
        return self.names[joint].endswith("_end") and not self.children[joint]

    def length(self, joint: int) -> float:
        """Length of the bone that leads to a joint."""
        return float(np.linalg.norm(self.offsets[joint]))

    def rest_positions(self) -> Float[np.ndarray, "joints 3"]:
        """Positions with all rotations zero."""
        position = np.zeros((len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            position[joint] = self.offsets[joint] + (position[parent] if parent >= 0 else 0.0)
        return position


@dataclass(frozen=True)
class JointMap:
    """Rig joints by SMPL-X name, and the joints between pelvis and chest and between chest and head.

    `tips` names for a mapped joint the rig joint at the far end of its bone; `split` are limb joints whose bone has joints
    within it; `notes` tell what stands in for what and what was left out.
    """

    joints: dict[str, int]
    spine: tuple[int, ...]  # above the pelvis, up to and with the chest; empty when pelvis and chest are one joint
    neck: tuple[int, ...]  # above the chest, below the head
    tips: dict[str, int]
    split: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    joints: dict[str, int] = field(default_factory=dict)
    tips: dict[str, int] = field(default_factory=dict)
    split: set[str] = field(default_factory=set)
    inner: set[int] = field(default_factory=set)  # joints within a split bone
    notes: list[str] = field(default_factory=list)


def map_joints(skeleton: Skeleton) -> JointMap:
    """Find SMPL-X's joints in a rig.

    Raises:
        RetargetError: a limb or the head is not found, or left and right are not apart; `not_a_person` for animals,
            `hands_only` for rigs without legs.
    """
    named = split_names(skeleton.names)
    _refuse_others(skeleton, named)
    found = _Found()
    for side in SIDES:
        wrist = _end_of_limb(skeleton, named, side, ("hand", "wrist", "palm"), _FOREARM, found)
        ankle = _end_of_limb(skeleton, named, side, ("foot", "ankle"), _SHANK, found)
        _map_chain(skeleton, named, side, wrist, ("elbow", "shoulder", "collar"), "wrist", found)
        _map_chain(skeleton, named, side, ankle, ("knee", "hip"), "ankle", found)
        _map_toe(skeleton, side, ankle, found)
        _map_hand(skeleton, named, side, wrist, found)
    joints = found.joints
    pelvis = _common_ancestor(skeleton, joints["left_hip"], joints["right_hip"])
    chest = _common_ancestor(skeleton, joints["left_shoulder"], joints["right_shoulder"])
    for side in SIDES:
        if joints.get(f"{side}_collar") == chest:
            del joints[f"{side}_collar"]
    joints["pelvis"] = pelvis
    spine = _path(skeleton, pelvis, chest)
    head = _head(skeleton, named, found)
    neck = _path(skeleton, chest, head)[:-1]
    joints["head"] = head
    far = [c for c in skeleton.children[head] if skeleton.length(c) > 0]
    if far:
        found.tips["head"] = max(far, key=skeleton.length)
    _note_left_out(skeleton, named, found, {*spine, *neck})
    return JointMap(joints, tuple(spine), tuple(neck), found.tips, frozenset(found.split), tuple(found.notes))


def _refuse_others(skeleton: Skeleton, named: Named) -> None:
    animal = [n for n, (_, words) in zip(skeleton.names, named, strict=True) if ANIMAL_WORDS & set(words)]
    if animal:
        raise RetargetError(f"no human rig: it has {', '.join(animal[:6])}", "not_a_person")
    legs = any(has(words, *_LEG_WORDS) for _, words in named)
    fingers = sum(finger_of(words, 0) is not None for _, words in named)
    if fingers >= 3 and not legs:
        raise RetargetError(f"hands without a body: {', '.join(skeleton.names[:12])}", "hands_only")


def _topmost(skeleton: Skeleton, named: Named, side: str | None, words: tuple[str, ...], avoid: set[str]) -> int | None:
    def matches(joint: int) -> bool:
        own_side, own = named[joint]
        return own_side == side and bool(set(own) & set(words)) and not set(own) & avoid

    for joint in range(len(named)):
        if matches(joint) and not any(matches(up) for up in skeleton.ancestors(joint)):
            return joint
    return None


def _end_of_limb(
    skeleton: Skeleton, named: Named, side: str, words: tuple[str, ...], before: tuple[str, ...], found: _Found
) -> int:
    """A wrist or an ankle: the joint of that name, or the end site of the bone before it."""
    avoid = {*FINGERS, *HELPERS, "finger", "fingers", "in", "toe", "toes", "toebase", "mid", "little"}
    joint = _topmost(skeleton, named, side, words, avoid)
    if joint is not None:
        return joint
    for last in reversed(range(len(named))):
        ends = [c for c in skeleton.children[last] if skeleton.is_end(c) and skeleton.length(c) > 0]
        lone = len(ends) == len(skeleton.children[last]) > 0
        if named[last][0] == side and has(named[last][1], *before) and lone and not skeleton.is_end(last):
            found.notes.append(f"{side} {words[0]}: the end site of {skeleton.names[last]}")
            return ends[0]
    raise RetargetError(f"no joint for the {side} {words[0]}; the rig has {', '.join(skeleton.names[:60])}")


def _head(skeleton: Skeleton, named: Named, found: _Found) -> int:
    head = _topmost(skeleton, named, None, ("head", "skull"), set(HELPERS))
    if head is not None:
        return head
    for last in reversed(range(len(named))):
        ends = [c for c in skeleton.children[last] if skeleton.is_end(c) and skeleton.length(c) > 0]
        if named[last][0] is None and "neck" in " ".join(named[last][1]) and ends and not skeleton.is_end(last):
            found.notes.append(f"head: the end site of {skeleton.names[last]}")
            return ends[0]
    raise RetargetError(f"no joint for the head; the rig has {', '.join(skeleton.names[:60])}")


def _map_chain(
    skeleton: Skeleton, named: Named, side: str, tip: int, names: tuple[str, ...], tip_name: str, found: _Found
) -> None:
    """Walk from a wrist or ankle towards the trunk; twist helpers and zero-length doubles are no joints.

    Several joints of one name with other numbers are one bone, unless no limb would be left.
    """
    found.joints[f"{side}_{tip_name}"] = tip
    least = _MIN_BONE * max(float(np.linalg.norm(skeleton.offsets, axis=1).max()), 1e-12)
    length, chain = skeleton.length(tip), []
    for joint in skeleton.ancestors(tip):
        own_side, words = named[joint]
        if own_side != side:
            break
        if length > least and not set(words) & HELPERS:
            chain.append(joint)
            length = 0.0
        length += skeleton.length(joint)
    bones: list[list[int]] = []
    for joint in chain:
        if bones and bone_of(named[joint][1]) == bone_of(named[bones[-1][0]][1]):
            bones[-1].append(joint)
        else:
            bones.append([joint])
    if len(bones) < 2:
        bones = [[joint] for joint in chain]
    if len(bones) < 2:
        raise RetargetError(f"the {side} {tip_name} hangs on {len(bones)} joints, expected {names[1]} and {names[0]}")
    for name, bone in zip(names, bones, strict=False):
        found.joints[f"{side}_{name}"] = bone[-1]
        found.inner.update(bone[:-1])
        if len(bone) > 1:
            found.split.add(f"{side}_{name}")


def _map_toe(skeleton: Skeleton, side: str, ankle: int, found: _Found) -> None:
    real = [c for c in skeleton.children[ankle] if skeleton.length(c) > 0]
    if not real:
        found.notes.append(f"{side} foot: no toes, square to the shin in the reference pose")
        return
    toe = max(real, key=lambda c: (not skeleton.is_end(c), skeleton.length(c)))
    found.tips[f"{side}_ankle"] = toe
    if skeleton.children[toe]:
        found.joints[f"{side}_foot"] = toe


def _map_hand(skeleton: Skeleton, named: Named, side: str, wrist: int, found: _Found) -> None:
    below = skeleton.below(wrist)
    numbers = [n for j in below if not skeleton.is_end(j) and (n := finger_number(named[j][1])) is not None]
    thumb = min(numbers) if numbers and min(numbers) in (0, 1) else None
    for finger in FINGERS:
        chain = [j for j in below if finger_of(named[j][1], thumb) == finger and skeleton.children[j]]
        chain = [j for j in chain if not set(named[j][1]) & HELPERS]
        if finger != "thumb" and len(chain) > 2:
            chain = [j for j in chain if not in_palm(named[j][1])]
        if len(chain) < 2 or any(a not in skeleton.ancestors(b) for a, b in pairwise(chain)):
            continue
        for k, joint in enumerate(chain[:3], start=1):
            found.joints[f"{side}_{finger}{k}"] = joint
            found.tips[f"{side}_{finger}{k}"] = skeleton.children[joint][0]
    middle = found.joints.get(f"{side}_middle1", found.joints.get(f"{side}_index1"))
    rest = skeleton.rest_positions()
    others = [j for j in below if np.linalg.norm(rest[j] - rest[wrist]) > 0]
    others = [j for j in others if not any("thumb" in named[up][1] for up in (j, *skeleton.ancestors(j)))]
    if middle is not None:
        found.tips[f"{side}_wrist"] = middle
    elif others:
        found.tips[f"{side}_wrist"] = others[0]
    lost = [j for j in below if not skeleton.is_end(j) and j not in found.joints.values()]
    lost = [j for j in lost if not set(named[j][1]) & HELPERS and not in_palm(named[j][1])]
    if lost and not any(f"{side}_{finger}1" in found.joints for finger in FINGERS):
        found.notes.append(f"{side} fingers not understood, flat: {', '.join(skeleton.names[j] for j in lost[:5])}")
        found.inner.update(lost)


def _note_left_out(skeleton: Skeleton, named: Named, found: _Found, trunk: set[int]) -> None:
    """Name the joints that move nothing of the body: props, tails, faces."""
    used = {*found.joints.values(), *found.tips.values(), *found.inner, *trunk}
    above = {up for joint in used for up in skeleton.ancestors(joint)}
    lost = [j for j in range(len(named)) if j not in used | above and not skeleton.is_end(j)]
    lost = [j for j in lost if not set(named[j][1]) & HELPERS and not in_palm(named[j][1])]
    if lost:
        names = ", ".join(skeleton.names[j] for j in lost[:6]) + (", ..." if len(lost) > 6 else "")
        found.notes.append(f"{len(lost)} joints left out: {names}")


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

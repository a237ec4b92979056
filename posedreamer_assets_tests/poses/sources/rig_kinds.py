"""Rigs as other programs write them: names, split bones, missing joints, made by the tests from one body and motion."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets_tests.poses.sources.rigs import PARTS, Motion

Part = tuple[str, str | None, tuple[float, float, float]]
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_TRUNK = {"pelvis": "hips", "spine": "spine", "chest": "chest", "neck": "neck", "head": "head"}


@dataclass(frozen=True)
class Kind:
    """How a rig writes the body: names of sided parts with {Side}, {side}, {S} or {s}, and what it does to the tree."""

    names: dict[str, str]
    trunk: dict[str, str] | None = None
    change: Callable[[list[Part]], list[Part]] = lambda parts: parts

    def name(self, part: str) -> str:
        side, _, rest = part.partition("_")
        if side not in ("left", "right"):
            return (self.trunk or _TRUNK).get(part, part)
        base, _, number = (rest, "", "") if rest in self.names else rest.partition("+")
        jp = {"left": "左", "right": "右"}[side]
        text = self.names.get(base, base).format(
            Side=side.capitalize(), side=side, SIDE=side.upper(), S=side[0].upper(), s=side[0], J=jp
        )
        return text + (f".{number}" if number else "")


def _names(words: str) -> dict[str, str]:
    parts = ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
    return dict(zip(parts, words.split(","), strict=True))


def _half(offset: tuple[float, float, float]) -> tuple[float, float, float]:
    return offset[0] / 2, offset[1] / 2, offset[2] / 2


def _split(parts: list[Part], ends: tuple[str, ...] = ("elbow", "wrist", "knee", "ankle")) -> list[Part]:
    """Upper and lower arms and legs (or those that end so) in two bones each, the second named with .001."""
    far = {p: n for n, p, _ in parts if p and n.split("_")[-1] in ends}
    offsets = {name: offset for name, _, offset in parts}
    out: list[Part] = []
    for name, parent, offset in parts:
        if parent is not None and far.get(parent) == name:
            out.append((name, f"{parent}+001", _half(offset)))
        else:
            out.append((name, parent, offset))
        if name in far:
            out.append((f"{name}+001", name, _half(offsets[far[name]])))
    return out


def _without(*gone: str) -> Callable[[list[Part]], list[Part]]:
    """The named parts (any side) become end sites of their parents; what hangs on them goes."""

    def change(parts: list[Part]) -> list[Part]:
        lost: set[str] = set()
        out: list[Part] = []
        for name, parent, offset in parts:
            bare = name.removeprefix("left_").removeprefix("right_")
            if parent in lost:
                lost.add(name)
            elif bare in gone:
                lost.add(name)
                out.append((f"{parent}_end", parent, offset))
            else:
                out.append((name, parent, offset))
        return out

    return change


def _foot_down(parts: list[Part]) -> list[Part]:
    return [(n, p, (0, -7, 0) if n.endswith("_foot") else o) for n, p, o in parts]


def _trunk(words: str) -> dict[str, str]:
    return dict(zip(("pelvis", "spine", "chest", "neck", "head"), words.split(","), strict=True))


_MIXAMO = _names("{Side}Shoulder,{Side}Arm,{Side}ForeArm,{Side}Hand,{Side}UpLeg,{Side}Leg,{Side}Foot,{Side}ToeBase")
KINDS: dict[str, Kind] = {
    "motive": Kind(_names("{S}Shoulder,{S}UArm,{S}FArm,{S}Hand,{S}Thigh,{S}Shin,{S}Foot,{S}Toe"), {"pelvis": "Hip"}),
    "rigify deform": Kind(
        {k: f"DEF-{v}.{{S}}" for k, v in _names("shoulder,upper_arm,forearm,hand,thigh,shin,foot,toe").items()},
        change=_split,
    ),
    "makehuman": Kind(
        _names("clavicle.{S},upperarm01.{S},lowerarm01.{S},wrist.{S},upperleg01.{S},lowerleg01.{S},foot.{S},toe1-1.{S}")
    ),
    "no head": Kind(_MIXAMO, change=_without("head")),
    "hands as end sites": Kind(_MIXAMO, change=_without("wrist")),
    "feet as end sites": Kind(_MIXAMO, change=_without("ankle")),
    "toes as end sites": Kind(_MIXAMO, change=_without("foot")),
    "joined lower case": Kind(
        _names(
            "{side}shoulder,{side}upperarm,{side}lowerarm,{side}hand,{side}upperleg,{side}lowerleg,{side}foot,{side}toes"
        )
    ),
    "japanese": Kind(
        _names("{J}肩,{J}腕,{J}ひじ,{J}手首,{J}足,{J}ひざ,{J}足首,{J}つま先"),
        {"pelvis": "センター", "spine": "上半身", "chest": "上半身2", "neck": "首", "head": "頭"},
    ),
    "side word before all": Kind({k: f"L_{v}" for k, v in _MIXAMO.items()}, {k: f"L_{v}" for k, v in _TRUNK.items()}),
    "sides last": Kind(
        {k: f"{v}{{side}}" for k, v in _names("clavicle,shoulder,elbow,wrist,hip,knee,ankle,foot").items()}
    ),
    "palm and ball": Kind(
        {k: f"{{S}}_{v}" for k, v in _names("Clav,UpperArm,Forearm,Palm,Thigh,Calf,Foot,Ball").items()}
    ),
    "foot bone points down": Kind(_MIXAMO, change=_foot_down),
    "azure kinect": Kind(
        _names(
            "CLAVICLE_{SIDE},SHOULDER_{SIDE},ELBOW_{SIDE},WRIST_{SIDE},HIP_{SIDE},KNEE_{SIDE},ANKLE_{SIDE},FOOT_{SIDE}"
        ),
        _trunk("PELVIS,SPINE_NAVEL,SPINE_CHEST,NECK,HEAD"),
    ),
    "biped": Kind(
        {k: f"Bip01 {{S}} {v}" for k, v in _names("Clavicle,UpperArm,Forearm,Hand,Thigh,Calf,Foot,Toe0").items()},
        _trunk("Bip01,Bip01 Spine,Bip01 Spine1,Bip01 Neck,Bip01 Head"),
    ),
    "character creator": Kind(
        {k: f"CC_Base_{{S}}_{v}" for k, v in _names("Clavicle,Upperarm,Forearm,Hand,Thigh,Calf,Foot,ToeBase").items()},
        _trunk("CC_Base_Hip,CC_Base_Waist,CC_Base_Spine02,CC_Base_NeckTwist01,CC_Base_Head"),
    ),
    "daz": Kind(
        {k: f"{{s}}{v}" for k, v in _names("Collar,ShldrBend,ForearmBend,Hand,ThighBend,Shin,Foot,Toe").items()}
        | {"shoulder+001": "{s}ShldrTwist", "elbow+001": "{s}ForearmTwist", "hip+001": "{s}ThighTwist"},
        _trunk("hip,abdomenLower,chestLower,neckLower,head"),
        lambda parts: _split(parts, ("elbow", "wrist", "knee")),
    ),
    "sides behind a dot": Kind(
        {k: f"{v}.{{S}}" for k, v in _names("shoulder,upper_arm,forearm,hand,thigh,shin,foot,toe").items()}
    ),
    "kinect": Kind(
        {k: f"{v}{{Side}}" for k, v in _names("Clavicle,Shoulder,Elbow,Wrist,Hip,Knee,Ankle,Foot").items()},
        _trunk("SpineBase,SpineMid,SpineShoulder,Neck,Head"),
    ),
    "low limbs": Kind(
        _names("{Side}Collar,{Side}UpArm,{Side}LowArm,{Side}Hand,{Side}UpLeg,{Side}LowLeg,{Side}Foot,{Side}Toe")
    ),
    "second life": Kind(
        {k: f"m{v}{{Side}}" for k, v in _names("Collar,Shoulder,Elbow,Wrist,Hip,Knee,Ankle,Foot").items()},
        _trunk("mPelvis,mTorso,mChest,mNeck,mHead"),
    ),
    "smpl": Kind(
        {k: f"{{S}}_{v}" for k, v in _names("Collar,Shoulder,Elbow,Wrist,Hip,Knee,Ankle,Foot").items()},
        _trunk("Pelvis,Spine1,Spine3,Neck,Head"),
    ),
    "smplx": Kind(
        {k: f"{{side}}_{v}" for k, v in _names("collar,shoulder,elbow,wrist,hip,knee,ankle,foot").items()},
        _trunk("pelvis,spine1,spine3,neck,head"),
    ),
    "unreal": Kind(
        {k: f"{v}_{{s}}" for k, v in _names("clavicle,upperarm,lowerarm,hand,thigh,calf,foot,ball").items()},
        _trunk("pelvis,spine_01,spine_03,neck_01,head"),
    ),
    "an actor called L": Kind(
        {k: f"L:{v}" for k, v in _MIXAMO.items()}, _trunk("L:Hips,L:Spine,L:Chest,L:Neck,L:Head")
    ),
    "an actor called Right": Kind(
        {k: f"Right:{v}" for k, v in _MIXAMO.items()},
        _trunk("Right:Hips,Right:Spine,Right:Chest,Right:Neck,Right:Head"),
    ),
    "vrm": Kind(
        {
            k: f"J_Bip_{{S}}_{v}"
            for k, v in _names("Shoulder,UpperArm,LowerArm,Hand,UpperLeg,LowerLeg,Foot,ToeBase").items()
        },
        _trunk("J_Bip_C_Hips,J_Bip_C_Spine,J_Bip_C_Chest,J_Bip_C_Neck,J_Bip_C_Head"),
    ),
    "vrm's own": Kind(
        {k: f"{{side}}{v}" for k, v in _names("Shoulder,UpperArm,LowerArm,Hand,UpperLeg,LowerLeg,Foot,Toes").items()}
    ),
    "upper case": Kind(
        {
            k: v.replace("{Side}", "{SIDE}_")
            for k, v in _names(
                "{Side}SHOULDER,{Side}ARM,{Side}FOREARM,{Side}HAND,{Side}UPLEG,{Side}LEG,{Side}FOOT,{Side}TOE"
            ).items()
        },
        _trunk("HIPS,SPINE,CHEST,NECK,HEAD"),
    ),
    "spaces": Kind(
        {
            k: f"{{Side}} {v}"
            for k, v in _names("Clavicle,Upper Arm,Lower Arm,Hand,Upper Leg,Lower Leg,Foot,Toe").items()
        }
    ),
}


def _fingers(names: str, bones: str = "1,2,3", before: str = "{Side}", after: str = "") -> dict[str, list[str]]:
    return {
        f: [f"{before}{n}{b}{after}" for b in bones.split(",")] for f, n in zip(FINGERS, names.split(","), strict=True)
    }


FINGER_NAMES: dict[str, dict[str, list[str]]] = {
    "mid": _fingers("Thumb,Index,Mid,Ring,Pinky", before="{s}"),
    "little": _fingers("Thumb,Index,Middle,Ring,Little"),
    "biped": _fingers("0,1,2,3,4", ",1,2", "Bip01 {S} Finger"),
    "makehuman": _fingers("1-,2-,3-,4-,5-", before="finger", after=".{S}"),
    "xsens": _fingers("First,Second,Third,Fourth,Fifth", "PP,MP,DP")
    | {"thumb": [f"{{Side}}First{b}" for b in ("MC", "PP", "DP")]},
    "vrm": _fingers("Thumb,Index,Middle,Ring,Little", "Proximal,Intermediate,Distal", "{side}"),
}


def with_fingers(kind: Kind, scheme: str) -> Kind:
    """The kind with five fingers of three joints on each hand."""
    names = {f"{f}{k}": n for f, three in FINGER_NAMES[scheme].items() for k, n in enumerate(three, start=1)}

    def change(parts: list[Part]) -> list[Part]:
        out = [part for part in kind.change(parts) if "wrist_end" not in part[0]]
        for side, sign in (("left", 1.0), ("right", -1.0)):
            for n, finger in enumerate(FINGERS):
                joints = [f"{side}_{finger}{k}" for k in (1, 2, 3)]
                out.append((joints[0], f"{side}_wrist", (sign * 8, 0, 4.0 - 2 * n)))
                out += [(joint, up, (sign * 3, 0, 0)) for up, joint in pairwise(joints)]
                out.append((f"{joints[2]}_end", joints[2], (sign * 2, 0, 0)))
        return out

    return Kind(kind.names | names, kind.trunk, change)


def write_kind(path: Path, kind: Kind, motion: Motion, to_file: np.ndarray | None = None) -> Path:
    """Write the motion on this rig, in axes turned by `to_file` (3, 3)."""
    world = np.eye(3) if to_file is None else to_file
    parts = kind.change(list(PARTS))
    lines, columns = ["HIERARCHY"], []
    count = len(motion.pelvis)

    def emit(part: str, parent: str | None, offset: tuple[float, float, float]) -> None:
        text = " ".join(f"{v:.6f}" for v in world @ np.array(offset))
        if part.endswith("_end"):
            lines.extend(["End Site", "{", f"OFFSET {text}", "}"])
            return
        places = "Xposition Yposition Zposition " if parent is None else ""
        lines.extend([f"{'JOINT' if parent else 'ROOT'} {kind.name(part)}", "{", f"OFFSET {text}"])
        lines.append(f"CHANNELS {6 if parent is None else 3} {places}Zrotation Xrotation Yrotation")
        if parent is None:
            columns.append(motion.pelvis @ world.T)
        local = motion.local.get(part, np.repeat(np.eye(3)[None], count, axis=0))
        columns.append(Rotation.from_matrix(world @ local @ world.T).as_euler("ZXY", degrees=True))
        for child, up, shift in parts:
            if up == part:
                emit(child, part, shift)
        lines.append("}")

    emit(*parts[0])
    rows = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {count}", "Frame Time: 0.0333333"]
    path.write_text("\n".join([*lines, *(" ".join(f"{v:.8f}" for v in row) for row in rows)]) + "\n")
    return path

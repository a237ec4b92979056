"""A small humanoid rig, poses of it and BVH files of both, written by the tests with known rotations."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

# Name, parent and offset in centimetres of a body in the T-pose: y up, left on +x, facing +z.
PARTS: list[tuple[str, str | None, tuple[float, float, float]]] = [
    ("pelvis", None, (0, 95, 0)),
    ("spine", "pelvis", (0, 12, 0)),
    ("chest", "spine", (0, 25, 0)),
    ("neck", "chest", (0, 18, 0)),
    ("head", "neck", (0, 10, 2)),
    ("head_end", "head", (0, 18, 0)),
]
for _side, _sign in (("left", 1), ("right", -1)):
    PARTS += [
        (f"{_side}_collar", "chest", (_sign * 4, 12, 0)),
        (f"{_side}_shoulder", f"{_side}_collar", (_sign * 14, 0, 0)),
        (f"{_side}_elbow", f"{_side}_shoulder", (_sign * 28, 0, 0)),
        (f"{_side}_wrist", f"{_side}_elbow", (_sign * 25, 0, 0)),
        (f"{_side}_wrist_end", f"{_side}_wrist", (_sign * 9, 0, 0)),
        (f"{_side}_hip", "pelvis", (_sign * 9, -4, 0)),
        (f"{_side}_knee", f"{_side}_hip", (0, -42, 0)),
        (f"{_side}_ankle", f"{_side}_knee", (0, -43, 0)),
        (f"{_side}_foot", f"{_side}_ankle", (0, -6, 14)),
        (f"{_side}_foot_end", f"{_side}_foot", (0, 0, 6)),
    ]
LIMBS = {"shoulder": "elbow", "elbow": "wrist", "hip": "knee", "knee": "ankle"}

_PLAIN = {"pelvis": "Hips", "spine": "Spine", "chest": "Chest", "neck": "Neck", "head": "Head"}
SCHEMES: dict[str, dict[str, str]] = {
    "mixamo": {
        "collar": "mixamorig:{Side}Shoulder",
        "shoulder": "mixamorig:{Side}Arm",
        "elbow": "mixamorig:{Side}ForeArm",
        "wrist": "mixamorig:{Side}Hand",
        "hip": "mixamorig:{Side}UpLeg",
        "knee": "mixamorig:{Side}Leg",
        "ankle": "mixamorig:{Side}Foot",
        "foot": "mixamorig:{Side}ToeBase",
    },
    "anatomical": {
        "collar": "{Side}Collar",
        "shoulder": "{Side}Shoulder",
        "elbow": "{Side}Elbow",
        "wrist": "{Side}Wrist",
        "hip": "{Side}Hip",
        "knee": "{Side}Knee",
        "ankle": "{Side}Ankle",
        "foot": "{Side}Toe",
    },
    "biped": {
        "collar": "Bip01 {S} Clavicle",
        "shoulder": "Bip01 {S} UpperArm",
        "elbow": "Bip01 {S} Forearm",
        "wrist": "Bip01 {S} Hand",
        "hip": "Bip01 {S} Thigh",
        "knee": "Bip01 {S} Calf",
        "ankle": "Bip01 {S} Foot",
        "foot": "Bip01 {S} Toe0",
    },
    "suffix": {
        "collar": "clavicle_{s}",
        "shoulder": "upperarm_{s}",
        "elbow": "lowerarm_{s}",
        "wrist": "hand_{s}",
        "hip": "thigh_{s}",
        "knee": "calf_{s}",
        "ankle": "foot_{s}",
        "foot": "toe_{s}",
    },
}
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y-up to z-up coordinates


def named(part: str, scheme: str) -> str:
    side, _, rest = part.partition("_")
    if side not in ("left", "right"):
        return _PLAIN[part]
    return SCHEMES[scheme][rest].format(Side=side.capitalize(), S=side[0].upper(), s=side[0])


@dataclass(frozen=True)
class Motion:
    """Local rotations by part, each (n, 3, 3), and the pelvis position (n, 3) in centimetres, y up."""

    local: dict[str, np.ndarray]
    pelvis: np.ndarray

    def world(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """World rotation and position of every part: a naive loop down the tree."""
        rotation: dict[str, np.ndarray] = {}
        position: dict[str, np.ndarray] = {}
        count = len(self.pelvis)
        for part, parent, offset in PARTS:
            local = self.local.get(part, np.repeat(np.eye(3)[None], count, axis=0))
            if parent is None:
                rotation[part], position[part] = local, self.pelvis
                continue
            rotation[part] = np.stack([rotation[parent][i] @ local[i] for i in range(count)])
            position[part] = np.stack([position[parent][i] + rotation[parent][i] @ offset for i in range(count)])
        return rotation, position

    def direction(self, side: str, part: str) -> np.ndarray:
        """World direction (n, 3) of a limb bone."""
        position = self.world()[1]
        bone = position[f"{side}_{LIMBS[part]}"] - position[f"{side}_{part}"]
        return bone / np.linalg.norm(bone, axis=1, keepdims=True)


def still(count: int = 3) -> Motion:
    """The T-pose."""
    return Motion({}, np.repeat([[0.0, 95.0, 0.0]], count, axis=0))


def turned(motion: Motion, part: str, axis: str, degrees: float | np.ndarray) -> Motion:
    """The motion with one part turned about its own axis."""
    angles = np.broadcast_to(np.asarray(degrees, float), len(motion.pelvis))
    turn = Rotation.from_rotvec(np.deg2rad(angles)[:, None] * np.eye(3)["xyz".index(axis)]).as_matrix()
    before = motion.local.get(part, np.eye(3))
    return replace(motion, local=motion.local | {part: before @ turn})


def lively(seed: int, count: int = 12) -> Motion:
    """Random but bodily poses: limbs swing, elbows and knees bend the right way, the body turns and walks."""
    rng = np.random.default_rng(seed)
    motion = Motion({}, np.array([0.0, 95.0, 0.0]) + rng.normal(0, [30, 2, 30], (count, 3)))
    motion = turned(motion, "pelvis", "y", rng.uniform(-180, 180, count))
    motion = turned(motion, "chest", "x", rng.uniform(-10, 25, count))
    for side, sign in (("left", 1), ("right", -1)):
        motion = turned(motion, f"{side}_shoulder", "z", -sign * rng.uniform(-40, 80, count))
        motion = turned(motion, f"{side}_shoulder", "y", -sign * rng.uniform(-20, 70, count))
        motion = turned(motion, f"{side}_elbow", "y", -sign * rng.uniform(15, 110, count))
        motion = turned(motion, f"{side}_hip", "x", -rng.uniform(-20, 60, count))
        motion = turned(motion, f"{side}_hip", "z", sign * rng.uniform(0, 20, count))
        motion = turned(motion, f"{side}_knee", "x", rng.uniform(10, 80, count))
    return motion


@dataclass(frozen=True)
class Style:
    """How a motion is written down."""

    scheme: str = "mixamo"
    order: str = "ZXY"
    z_up: bool = False
    unit: float = 1.0  # of the file, in centimetres
    positions_everywhere: bool = False
    hanging_arms: bool = False  # in the rest pose
    axes: int | None = None  # seed of per-joint axes under which the rest pose is no pose of a body


def axes_of(style: Style) -> dict[str, np.ndarray]:
    """Constant rotation of each joint's axes against the T-pose's."""
    turn = Z_UP if style.z_up else np.eye(3)
    axes = {part: turn.T @ turn for part, _, _ in PARTS}
    if style.hanging_arms:
        for side, sign in (("left", 1), ("right", -1)):
            for part in ("shoulder", "elbow", "wrist"):
                axes[f"{side}_{part}"] = Rotation.from_euler("z", sign * 90, degrees=True).as_matrix()
    if style.axes is not None:
        rng = np.random.default_rng(style.axes)
        group = Rotation.create_group("O").as_matrix()
        limb = {part: group[rng.integers(len(group))] for part, _, _ in PARTS}
        for part, parent, _ in PARTS:
            # Limbs share axes along their length, as rigs with bones along one axis do.
            shares = any(word in part for word in ("elbow", "wrist", "knee"))
            limb[part] = limb[parent] if shares and parent else limb[part]
        axes = limb
    return axes


def _euler_degrees(rotations: np.ndarray, order: str) -> np.ndarray:
    with warnings.catch_warnings():
        # At gimbal lock one of the many right answers is as good as another.
        warnings.simplefilter("ignore", UserWarning)
        return Rotation.from_matrix(rotations).as_euler(order, degrees=True)


def write_bvh(path: Path, motion: Motion, style: Style | None = None, frame_time: str = "0.0333333") -> Path:
    """Write the motion; local rotations and offsets are re-expressed in each joint's own axes."""
    style = style or Style()
    axes = axes_of(style)
    parents = {part: parent for part, parent, _ in PARTS}
    world = Z_UP if style.z_up else np.eye(3)
    lines = ["HIERARCHY"]
    columns: list[np.ndarray] = []

    def in_file(part: str, vector: tuple[float, float, float]) -> np.ndarray:
        parent = parents[part]
        frame = axes[parent].T if parent else np.eye(3)
        return world @ (frame @ np.array(vector)) / style.unit

    def emit(part: str, depth: int) -> None:
        pad = "\t" * depth
        offset = in_file(part, next(o for p, _, o in PARTS if p == part))
        text = " ".join(f"{v:.6f}" for v in offset)
        if part.endswith("_end"):
            lines.extend([f"{pad}End Site", f"{pad}{{", f"{pad}\tOFFSET {text}", f"{pad}}}"])
            return
        root = parents[part] is None
        lines.extend([f"{pad}{'ROOT' if root else 'JOINT'} {named(part, style.scheme)}", f"{pad}{{"])
        lines.append(f"{pad}\tOFFSET {text}")
        moves = root or style.positions_everywhere
        channels = ["Xposition", "Yposition", "Zposition"] if moves else []
        channels += [f"{axis}rotation" for axis in style.order]
        lines.append(f"{pad}\tCHANNELS {len(channels)} {' '.join(channels)}")
        if moves:
            columns.append(motion.pelvis @ world.T / style.unit if root else np.tile(offset, (len(motion.pelvis), 1)))
        parent = parents[part]
        outer = axes[parent] if parent else np.eye(3)
        local = motion.local.get(part, np.repeat(np.eye(3)[None], len(motion.pelvis), axis=0))
        local = world @ outer.T @ local @ axes[part] @ world.T
        columns.append(_euler_degrees(local, style.order))
        for child, up, _ in PARTS:
            if up == part:
                emit(child, depth + 1)
        lines.append(f"{pad}}}")

    emit("pelvis", 0)
    values = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {frame_time}"]
    lines += [" ".join(f"{v:.8f}" for v in row) for row in values]
    path.write_text("\n".join(lines) + "\n")
    return path

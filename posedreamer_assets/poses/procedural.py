"""Poses from nothing but keyframes and joint limits: the source that works before any data is there.

A family is a handful of keyframes in anatomical angles (degrees, see `anatomy`). A pose is a keyframe, or a blend of two
neighbouring ones, plus noise, clipped to the limits, half of the time mirrored. All randomness comes from the sample's
own generator, so a sample does not depend on the batch that it is made in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.anatomy import LIMITS, full_poses, mirror_full_pose
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.poses.stature import ADULT_YEARS, betas_of_people
from posedreamer_assets.seeds import sample_rng

Keyframe = Mapping[str, float]


@dataclass(frozen=True)
class Family:
    """Keyframes of one activity. `root_pitch` (forwards) and `root_roll` tilt the whole body; `lift_m` raises it."""

    activity: str  # how a caption calls it
    keyframes: Sequence[Keyframe]
    blend: bool = True
    noise_deg: float = 7.0


def _legs(left_hip: float, left_knee: float, right_hip: float, right_knee: float, **more: float) -> dict[str, float]:
    legs = {"left_hip_flex": left_hip, "left_knee_flex": left_knee}
    return legs | {"right_hip_flex": right_hip, "right_knee_flex": right_knee} | more


def _arms(raised: float, forward: float, elbow: float, side: str = "both") -> dict[str, float]:
    sides = ("left", "right") if side == "both" else (side,)
    values = {"arm_raise": raised, "arm_forward": forward, "elbow_flex": elbow}
    return {f"{s}_{name}": value for s in sides for name, value in values.items()}


_RELAXED = _arms(14, 10, 15)

FAMILIES: dict[str, Family] = {
    "stand": Family(
        "standing",
        (
            _RELAXED | {"left_hip_abd": 4, "right_hip_abd": 4},
            _arms(35, -20, 100) | {"left_hip_abd": 10, "right_hip_abd": 10},
            _arms(25, 60, 75) | {"neck_twist": 25},
        ),
    ),
    "walk": Family(
        "walking",
        (
            _legs(28, 8, -16, 18, **_arms(25, -40, 18, "left"), **_arms(28, 75, 25, "right"), spine_twist=-8),
            _legs(5, 5, 25, 60, **_arms(14, 10, 20)),
        ),
    ),
    "run": Family(
        "running",
        (
            _legs(65, 80, -25, 40, **_arms(40, -50, 90, "left"), **_arms(45, 80, 95, "right"), spine_flex=12),
            _legs(20, 25, 35, 110, **_arms(30, 20, 95), spine_flex=14, lift_m=0.05),
        ),
    ),
    "sit": Family(
        "sitting",
        (
            _legs(88, 88, 88, 88, **_arms(35, 70, 50), left_hip_abd=8, right_hip_abd=8),
            _legs(95, 40, 95, 40, **_arms(25, -30, 20), spine_flex=-8),
            _legs(110, 130, 110, 130, **_arms(45, 80, 40), left_hip_abd=35, right_hip_abd=35, spine_flex=18),
        ),
    ),
    "crouch": Family(
        "crouching",
        (
            _legs(105, 125, 105, 125, **_arms(60, 80, 30), left_ankle_flex=25, right_ankle_flex=25, spine_flex=25),
            _legs(80, 95, 80, 95, **_arms(75, 85, 15), left_ankle_flex=22, right_ankle_flex=22, spine_flex=20),
        ),
    ),
    "reach": Family(
        "reaching up",
        (
            _arms(165, 40, 12, "left") | _arms(14, 5, 15, "right") | {"neck_flex": -25, "spine_bend": -10},
            _arms(155, 60, 15) | {"neck_flex": -20},
            _arms(90, 85, 8, "left") | _arms(25, 10, 30, "right") | {"spine_flex": 15, "left_hip_flex": 20},
        ),
    ),
    "wave": Family(
        "waving",
        (
            _arms(100, 15, 95, "left") | _arms(14, 8, 15, "right") | {"left_arm_twist": -60},
            _arms(135, 25, 45, "left") | _arms(14, 8, 15, "right"),
        ),
        noise_deg=9.0,
    ),
    "kick": Family(
        "kicking",
        (
            _legs(85, 15, 2, 10, **_arms(70, -20, 25), spine_flex=-10),
            _legs(-28, 85, 5, 12, **_arms(55, 30, 30), spine_flex=15),
            _legs(60, 5, 0, 12, **_arms(80, 0, 20), left_hip_abd=45, spine_bend=15),
        ),
    ),
    "jump": Family(
        "jumping",
        (
            _legs(20, 45, 25, 60, **_arms(150, 30, 15), lift_m=0.35, left_hip_abd=20, right_hip_abd=20),
            _legs(70, 95, 75, 100, **_arms(90, 60, 40), lift_m=0.4),
            _legs(5, 8, 5, 8, **_arms(150, 0, 10), lift_m=0.25, left_hip_abd=32, right_hip_abd=32),
        ),
    ),
    "lunge": Family(
        "lunging",
        (
            _legs(85, 90, -20, 55, **_arms(20, 0, 25), left_ankle_flex=5),
            _legs(80, 85, -25, 15, **_arms(165, 20, 8), spine_flex=-8),
        ),
    ),
    "dance": Family(
        "dancing",
        (
            _legs(20, 30, 5, 20, **_arms(130, 10, 60, "left"), **_arms(75, 40, 70, "right"), spine_bend=15),
            _legs(45, 70, 0, 15, **_arms(95, 0, 25), left_hip_abd=35, spine_twist=25, neck_twist=-25),
            _legs(10, 25, 15, 35, **_arms(100, 80, 80), spine_twist=-20, right_hip_abd=25),
        ),
        noise_deg=13.0,
    ),
    "yoga": Family(
        "doing yoga",
        (
            # warrior II
            _legs(70, 85, 0, 5, **_arms(90, 0, 3), left_hip_abd=45, left_hip_rot=40, right_hip_abd=50, neck_twist=55),
            # tree
            _legs(55, 130, 0, 3, **_arms(172, 10, 12), left_hip_abd=60, left_hip_rot=50),
            # downward dog
            _legs(85, 8, 85, 8, **_arms(172, 20, 5), root_pitch=105, left_ankle_flex=20, right_ankle_flex=20),
            # plank
            _legs(2, 5, 2, 5, **_arms(78, 88, 5), root_pitch=78, left_ankle_flex=-5, right_ankle_flex=-5),
            # triangle
            _legs(15, 5, 10, 5, **_arms(92, 0, 3), left_hip_abd=40, right_hip_abd=40, root_roll=50, spine_bend=15),
            # chair
            _legs(80, 85, 80, 85, **_arms(160, 50, 8), spine_flex=20, left_ankle_flex=25, right_ankle_flex=25),
            # warrior III
            _legs(-15, 5, 80, 8, **_arms(168, 30, 5), root_pitch=78),
            # seated forward bend
            _legs(115, 8, 115, 8, **_arms(110, 85, 10), spine_flex=60),
        ),
        blend=False,
        noise_deg=5.0,
    ),
    "throw": Family(
        "throwing a ball",
        (
            _legs(30, 20, -15, 20, **_arms(95, -35, 95, "right"), **_arms(80, 60, 20, "left"), spine_twist=-35),
            _legs(40, 35, -25, 25, **_arms(115, 75, 25, "right"), **_arms(40, 0, 50, "left"), spine_twist=30),
        ),
    ),
    "bend": Family(
        "bending down",
        (
            _legs(70, 15, 70, 15, **_arms(70, 85, 12), spine_flex=55, neck_flex=10),
            _legs(35, 10, 35, 10, **_arms(50, 80, 35), spine_flex=40),
        ),
    ),
    "kneel": Family(
        "kneeling",
        (
            _legs(90, 92, -5, 95, **_arms(35, 75, 60), right_ankle_flex=-35),
            _legs(5, 100, 5, 100, **_arms(20, 20, 25), left_ankle_flex=-40, right_ankle_flex=-40),
            _legs(70, 145, 70, 145, **_arms(35, 60, 45), left_ankle_flex=-45, right_ankle_flex=-45),
        ),
    ),
    "crawl": Family(
        "crawling",
        (
            _legs(100, 95, 65, 85, **_arms(85, 88, 8), root_pitch=82, neck_flex=-35),
            _legs(
                80, 90, 95, 95, **_arms(100, 85, 10, "left"), **_arms(70, 85, 12, "right"), root_pitch=80, neck_flex=-20
            ),
        ),
    ),
    "box": Family(
        "boxing",
        (
            _legs(25, 30, -5, 20, **_arms(85, 85, 10, "left"), **_arms(35, 70, 130, "right"), spine_twist=-20),
            _legs(20, 30, 5, 25, **_arms(40, 75, 125), spine_flex=10),
        ),
    ),
    "stretch": Family(
        "stretching",
        (
            _arms(165, -10, 25, "left") | _arms(30, -10, 80, "right") | {"spine_bend": -30},
            _arms(90, -20, 10) | {"spine_twist": 35},
            _arms(150, 0, 110) | {"spine_flex": -15, "neck_flex": -10},
        ),
    ),
}


def _freestyle() -> Family:
    """Legs of one keyframe with arms of another: poses that no single activity has."""
    frames = [k for family in FAMILIES.values() for k in family.keyframes if "root_pitch" not in k]

    def pick(frame: Keyframe, words: tuple[str, ...]) -> dict[str, float]:
        return {name: value for name, value in frame.items() if any(word in name for word in words)}

    mixed = [
        pick(frame, ("hip", "knee", "ankle", "lift", "spine"))
        | pick(frames[(7 * i + 3) % len(frames)], ("arm", "elbow", "neck"))
        for i, frame in enumerate(frames)
    ]
    return Family("moving freely", tuple(mixed), noise_deg=13.0)


FAMILIES["freestyle"] = _freestyle()


def family_names(chosen: Sequence[str] = ()) -> list[str]:
    """The chosen families, or all.

    Raises:
        ConfigError: a family that does not exist.
    """
    unknown = sorted(set(chosen) - set(FAMILIES))
    if unknown:
        raise ConfigError(f"no pose family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    return list(chosen) or list(FAMILIES)


def sample_angles(family: Family, rng: np.random.Generator) -> dict[str, float]:
    """Angles of one pose of a family, degrees, within the limits; root_pitch, root_roll and lift_m come with them."""
    index = int(rng.integers(len(family.keyframes)))
    angles = dict(family.keyframes[index])
    if family.blend and len(family.keyframes) > 1:
        other = family.keyframes[(index + 1) % len(family.keyframes)]
        share = float(rng.uniform(0, 1))
        names = angles.keys() | other.keys()
        angles = {k: (1 - share) * angles.get(k, 0.0) + share * other.get(k, 0.0) for k in sorted(names)}
    noise = rng.normal(0, family.noise_deg, len(LIMITS))
    for (name, (low, high)), jitter in zip(LIMITS.items(), noise, strict=True):
        # Fingers move freely; arms and legs more than the spine and the neck.
        scale = 1.0 if "_" in name and name.split("_")[0] in ("left", "right") else 0.6
        base = float(rng.uniform(5, 40)) if name.endswith("finger_curl") else angles.get(name, 0.0)
        angles[name] = float(np.clip(base + scale * jitter, low, high))
    for name in ("root_pitch", "root_roll"):
        angles[name] = angles.get(name, 0.0) + float(rng.normal(0, 2.5))
    return angles


def sample_pose(family: Family, rng: np.random.Generator) -> BodyParams:
    """One posed body of mean shape, pelvis above the origin, random yaw; not yet on the ground (see `stand_on_ground`)."""
    return _posed([_draw(family, rng)])


@dataclass(frozen=True)
class _Draw:
    """What one sample's generator gave."""

    angles: dict[str, float]
    pitch_deg: float
    roll_deg: float
    lift_m: float
    mirrored: bool
    yaw_deg: float
    expression: np.ndarray


def _draw(family: Family, rng: np.random.Generator) -> _Draw:
    angles = sample_angles(family, rng)
    pitch, roll, lift = (angles.pop(k, 0.0) for k in ("root_pitch", "root_roll", "lift_m"))
    return _Draw(
        angles,
        pitch,
        roll,
        lift,
        mirrored=bool(rng.random() < 0.5),
        yaw_deg=float(rng.uniform(-180, 180)),
        expression=np.clip(rng.normal(0, 0.6, (1, 10)), -1.5, 1.5).astype(np.float32),
    )


def _posed(draws: Sequence[_Draw]) -> BodyParams:
    """Bodies of many draws at once; each comes out as if it were alone."""
    count = len(draws)
    full = full_poses({name: np.array([draw.angles.get(name, 0.0) for draw in draws]) for name in LIMITS}, count)
    full = full.astype(np.float32)
    mirrored = np.array([draw.mirrored for draw in draws])
    full[mirrored] = mirror_full_pose(full[mirrored])
    turns = [(draw.yaw_deg, draw.pitch_deg, -draw.roll_deg if draw.mirrored else draw.roll_deg) for draw in draws]
    orient = Rotation.from_euler("YXZ", np.array(turns), degrees=True).as_rotvec()
    transl = np.zeros((count, 3), np.float32)
    transl[:, 1] = [max(draw.lift_m, 0.0) for draw in draws]
    return BodyParams(
        betas=np.zeros((count, 10), np.float32),
        expression=np.concatenate([draw.expression for draw in draws]),
        global_orient=orient.astype(np.float32),
        body_pose=full[:, 1:22],
        jaw_pose=full[:, 22],
        leye_pose=full[:, 23],
        reye_pose=full[:, 24],
        left_hand_pose=full[:, 25:40],
        right_hand_pose=full[:, 40:55],
        transl=transl,
    )


def stand_on_ground(body: BodyModel, params: BodyParams) -> BodyParams:
    """Move each body so that its lowest vertex is `transl_y` above the ground (y = 0)."""
    lift = params.transl[:, 1].copy()
    at_origin = params.replace(transl=np.zeros_like(params.transl))
    lowest = body.forward(at_origin).vertices[..., 1].min(axis=1)
    transl = params.transl.copy()
    transl[:, 1] = lift - lowest
    return params.replace(transl=transl)


def procedural_poses(
    body: BodyModel,
    sample_ids: Sequence[str],
    run_seed: int,
    families: Sequence[str] = (),
    ages: tuple[float, float] = ADULT_YEARS,
) -> tuple[BodyParams, list[str]]:
    """One body for each sample id, standing on the ground, and the family of each.

    Args:
        body: that is posed.
        sample_ids: of the batch; a row depends on its id and the seed alone.
        run_seed: of the run.
        families: to draw from, or all.
        ages: youngest and oldest age in years; statures and builds are those of people (see `stature.betas_of_people`).
    """
    names = family_names(families)
    draws, chosen = [], []
    for sample_id in sample_ids:
        rng = sample_rng(run_seed, sample_id, "pose")
        name = names[int(rng.integers(len(names)))]
        chosen.append(name)
        draws.append(_draw(FAMILIES[name], rng))
    params = _posed(draws) if draws else BodyParams.zeros(0)
    params = params.replace(betas=betas_of_people(body, sample_ids, run_seed, ages))
    return stand_on_ground(body, params), chosen

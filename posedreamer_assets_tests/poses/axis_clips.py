"""Clips of many kinds whose up axis is known: on the feet, on the floor, on the hands, in the air, and lone poses of them.

Bodies live: small turns run through all joints. What touches the floor stays where it is, so that whoever swings a leg
travels. The floor is at zero, as motion files have it. In the six axes, with and without a path of the root, each kind
asks whether the axis is found; some of them cannot be told apart (see `test_up_axis_kinds.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.anatomy import LIMITS, full_poses
from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.poses.floor import GRAVITY_M_S2, centre_of_mass_m, surface_of

FRAMES, FPS = 60, 30.0
_TOUCHES_M = 0.02
Angles = Mapping[str, float]


def both(**angles: float) -> dict[str, float]:
    """The same angles on the left and on the right."""
    return {f"{side}_{name}": value for side in ("left", "right") for name, value in angles.items()}


@dataclass(frozen=True)
class Kind:
    """How to make clips of one kind.

    Attributes:
        keys: poses in degrees that are blended from the first to the last; "pitch" and "roll" turn the root.
        swing: amplitudes of angles that swing once in `period_s`, the right side against the left.
        period_s: of the swing.
        alive: degrees by which all joints sway; 0 for one who holds still.
        jump_m: height of a jump that fills half of the clip.
        fours: the root is pitched until hands and feet are level.
        balanced: the body leans in its ankles until its centre of mass is over its feet.
    """

    keys: Sequence[Angles]
    swing: Angles = field(default_factory=dict)
    period_s: float = 1.1
    alive: float = 2.0
    jump_m: float = 0.0
    fours: bool = False
    balanced: bool = False


_HANG = both(arm_raise=14, elbow_flex=15)
_UP = both(arm_raise=172)
_WALK = {"hip_flex": 28.0, "arm_forward": 35.0}
_KNEEL = both(knee_flex=95, ankle_flex=-40, arm_raise=14, elbow_flex=20)

CHOSEN_ON: dict[str, Kind] = {
    "walk": Kind([_HANG], _WALK),
    "jump": Kind([_HANG | both(hip_flex=40, knee_flex=60, ankle_flex=20), _UP], jump_m=0.4),
    "stand": Kind([_HANG, _HANG | both(arm_forward=40, elbow_flex=70), _HANG]),
    "T-pose": Kind([both(arm_raise=90)], alive=0.0),
    "bend to the floor": Kind(
        [_HANG, both(hip_flex=95, arm_raise=90, arm_forward=85) | {"spine_flex": 45}], balanced=True
    ),
    "dog": Kind(
        [both(hip_flex=85, knee_flex=8, arm_raise=172, arm_forward=20, ankle_flex=20) | {"pitch": 100}], fours=True
    ),
    "push-up": Kind(
        [
            both(arm_raise=78, arm_forward=88, elbow_flex=5, ankle_flex=25, wrist_flex=-60) | {"pitch": 75},
            both(arm_raise=50, arm_forward=60, elbow_flex=100, ankle_flex=25, wrist_flex=-60) | {"pitch": 85},
        ],
        fours=True,
    ),
    "sit cross-legged": Kind(
        [
            both(hip_flex=105, knee_flex=125, hip_abd=35, arm_raise=45, arm_forward=70, elbow_flex=40)
            | {"spine_flex": 12}
        ]
    ),
    "lie on the back": Kind([both(arm_raise=25, elbow_flex=15, ankle_flex=-35) | {"pitch": -90}]),
    "lie face down, stretched": Kind([_UP | both(ankle_flex=-50) | {"pitch": 90}]),
    "lie stretched, still": Kind([_UP | both(ankle_flex=-5) | {"pitch": -90}], alive=0.0),
    "lie on the side": Kind(
        [both(hip_flex=50, knee_flex=70, arm_raise=60, arm_forward=80, elbow_flex=80) | {"roll": 90}]
    ),
    "handstand": Kind([_UP | {"pitch": 180}, _UP | both(hip_flex=8, wrist_flex=-60) | {"pitch": 178}]),
    "kneel": Kind([_KNEEL]),
    "get up": Kind(
        [
            both(arm_raise=20) | {"pitch": -90},
            both(hip_flex=60, knee_flex=90, arm_raise=30, arm_forward=-20) | {"pitch": -40},
            both(hip_flex=105, knee_flex=125, ankle_flex=25, arm_raise=60, arm_forward=80) | {"spine_flex": 25},
            _HANG,
        ]
    ),
}
"""Kinds on which weights and thresholds of `upright` may be looked at."""

HELD_OUT: dict[str, Kind] = {
    "run": Kind([_HANG | both(elbow_flex=85)], {"hip_flex": 45.0, "arm_forward": 45.0}, period_s=0.7),
    "leap": Kind([_HANG | both(hip_flex=20, knee_flex=30), both(arm_raise=90)], {"hip_flex": 40.0}, jump_m=0.3),
    "stand with raised arms": Kind([_UP, _UP | both(arm_forward=30)]),
    "stand to attention": Kind([both(arm_raise=5)], alive=0.0),
    "squat": Kind(
        [_HANG, both(hip_flex=85, knee_flex=110, ankle_flex=30, arm_raise=75, arm_forward=85) | {"spine_flex": 20}],
        balanced=True,
    ),
    "crawl": Kind(
        [both(hip_flex=80, knee_flex=90, ankle_flex=-40, arm_raise=80, arm_forward=88, wrist_flex=-60) | {"pitch": 80}],
        {"hip_flex": 15.0, "arm_forward": 15.0},
        fours=True,
    ),
    "plank": Kind(
        [both(arm_raise=80, arm_forward=88, ankle_flex=25, wrist_flex=-60) | {"pitch": 80}], alive=1.0, fours=True
    ),
    "sit on a chair": Kind([both(hip_flex=88, knee_flex=88, arm_raise=30, arm_forward=40, elbow_flex=70)]),
    "sit with long legs": Kind(
        [both(hip_flex=85, knee_flex=8, arm_raise=35, arm_forward=20) | {"spine_flex": 15, "pitch": -8}]
    ),
    "lie on the back, knees up": Kind([both(hip_flex=45, knee_flex=90, arm_raise=20) | {"pitch": -90}]),
    "lie face down": Kind([both(arm_raise=60, elbow_flex=60, ankle_flex=-50) | {"pitch": 90, "neck_twist": 60}]),
    "lie stretched": Kind([_UP | both(ankle_flex=-30) | {"pitch": -90}]),
    "lie stretched on the side": Kind([_UP | both(ankle_flex=-20) | {"roll": 90}]),
    "walk on the hands": Kind([_UP | both(hip_flex=10) | {"pitch": 180}], {"arm_forward": 20.0, "hip_flex": 15.0}),
    "headstand": Kind([both(arm_raise=120, arm_forward=85, elbow_flex=95) | {"pitch": 180}]),
    "lunge": Kind(
        [_HANG, _HANG | {"left_hip_flex": 85, "left_knee_flex": 85, "right_hip_flex": -15, "right_knee_flex": 60}]
    ),
    "roll": Kind(
        [
            both(hip_flex=110, knee_flex=130, arm_raise=60, arm_forward=80) | {"spine_flex": 60, "pitch": p}
            for p in (0, 350)
        ]
    ),
}
"""Kinds that weights were first chosen without; what was found on them has changed four rules since."""

KINDS = CHOSEN_ON | HELD_OUT


def clip(kind: Kind, yaw_deg: float = 0.0, seed: int = 0) -> BodyParams:
    """Two seconds at 30 frames a second, y up, floor at zero."""
    angles, turn = _angles(kind, np.random.default_rng(seed))
    full = full_poses(angles, FRAMES).astype(np.float32)
    params = BodyParams.zeros(FRAMES).replace(
        body_pose=full[:, 1:22], left_hand_pose=full[:, 25:40], right_hand_pose=full[:, 40:55]
    )
    if kind.fours:
        turn[:, 1] = _level(params, turn[:, 1])
    if kind.balanced:
        params, turn[:, 1] = _leaning(angles)
    turn[:, 0] = yaw_deg
    return planted(params.replace(global_orient=_rotvec(turn)), kind.jump_m)


def planted(params: BodyParams, jump_m: float = 0.0) -> BodyParams:
    """The bodies on the ground, moved level so that what touches it stays; or flying for half of the clip."""
    points = surface_of(load_body()).posed(params)[0].astype(np.float64)
    move = np.zeros((len(params), 3))
    move[:, 1] = -points[..., 1].min(axis=1)
    points += move[:, None]
    touching = points[..., 1] < _TOUCHES_M
    for i in range(1, len(params)):
        stays = touching[i - 1] & touching[i]
        slip = (points[i, stays] - points[i - 1, stays]).mean(axis=0) if stays.any() else np.zeros(3)
        move[i, [0, 2]] = move[i - 1, [0, 2]] - slip[[0, 2]]
    if jump_m:
        time_s = (np.arange(len(params)) - len(params) / 2) / FPS
        centre = height_m(params, move)
        move[:, 1] += np.maximum(jump_m - GRAVITY_M_S2 / 2 * time_s**2 - (centre - centre[len(params) // 2]), 0.0)
    return params.replace(transl=move.astype(np.float32))


def height_m(params: BodyParams, move: np.ndarray) -> np.ndarray:
    """Height of the centre of mass over the frames."""
    return centre_of_mass_m(surface_of(load_body()).posed(params.replace(transl=move.astype(np.float32)))[1])[:, 1]


def in_place(params: BodyParams) -> BodyParams:
    """The clip without the path of its root."""
    return params.replace(transl=np.zeros_like(params.transl))


def _angles(kind: Kind, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    place, time_s = np.linspace(0, len(kind.keys) - 1, FRAMES), np.arange(FRAMES) / FPS
    names = sorted(set().union(*kind.keys))
    angles = {n: np.interp(place, np.arange(len(kind.keys)), [key.get(n, 0.0) for key in kind.keys]) for n in names}
    pitch, roll = (angles.pop(name, np.zeros(FRAMES)) for name in ("pitch", "roll"))
    for name in LIMITS if kind.alive else ():
        sway = np.sin(2 * np.pi * (rng.uniform(0.2, 0.6) * time_s + rng.uniform()))
        angles[name] = angles.get(name, np.zeros(FRAMES)) + rng.uniform(0.3, 1.0) * kind.alive * sway
    beat = np.sin(2 * np.pi * time_s / kind.period_s)
    for name, degrees in kind.swing.items():
        for side, sign in (("left", 1.0), ("right", -1.0)):
            sign = -sign if name == "arm_forward" else sign
            angles[f"{side}_{name}"] = angles.get(f"{side}_{name}", np.zeros(FRAMES)) + sign * degrees * beat
    if "hip_flex" in kind.swing and "knee_flex" not in kind.swing and not kind.fours:
        lift = np.cos(2 * np.pi * time_s / kind.period_s)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            knee = angles.get(f"{side}_knee_flex", np.zeros(FRAMES)) + 50 * np.maximum(sign * lift, 0.0)
            angles |= {f"{side}_knee_flex": knee}
            angles[f"{side}_ankle_flex"] = knee - angles[f"{side}_hip_flex"]
    return angles, np.stack([np.zeros(FRAMES), pitch, roll], axis=1)


def _leaning(angles: dict[str, np.ndarray]) -> tuple[BodyParams, np.ndarray]:
    """Poses and pitches with flat feet under the centre of mass."""
    leans, made, off = np.arange(-35, 36, 2), [], []
    for lean in leans:
        ankles = {f"{s}_ankle_flex": angles.get(f"{s}_ankle_flex", np.zeros(FRAMES)) + lean for s in ("left", "right")}
        full = full_poses(angles | ankles, FRAMES).astype(np.float32)
        turn = np.tile(np.array([0.0, float(lean), 0.0]), (FRAMES, 1))
        params = BodyParams.zeros(FRAMES).replace(
            body_pose=full[:, 1:22], left_hand_pose=full[:, 25:40], right_hand_pose=full[:, 40:55]
        )
        joints = surface_of(load_body()).posed(params.replace(global_orient=_rotvec(turn)))[1]
        feet = joints[:, [JOINT_INDEX[f"{s}_{p}"] for s in ("left", "right") for p in ("ankle", "foot")]].mean(axis=1)
        made.append(params)
        off.append(np.abs(centre_of_mass_m(joints)[:, 2] - feet[:, 2]))
    best = np.argmin(off, axis=0)
    pose = np.stack([made[k].body_pose[i] for i, k in enumerate(best)])
    return made[0].replace(body_pose=pose), leans[best].astype(float)


def _rotvec(turn_deg: np.ndarray) -> np.ndarray:
    return Rotation.from_euler("YXZ", turn_deg, degrees=True).as_rotvec().astype(np.float32)


def _level(params: BodyParams, pitch_deg: np.ndarray) -> np.ndarray:
    """For each frame the pitch nearby at which hands and feet (or knees) are equally low."""
    surface = surface_of(load_body())
    owner = load_body().dominant_joint[surface.vertices]
    hand, foot = (owner >= 25) | np.isin(owner, [20, 21]), np.isin(owner, [4, 5, 7, 8, 10, 11])
    shifts = np.arange(-40, 41, 2)
    gaps = []
    for shift in shifts:
        turn = np.stack([np.zeros(FRAMES), pitch_deg + shift, np.zeros(FRAMES)], axis=1)
        height = surface.posed(params.replace(global_orient=_rotvec(turn)))[0][..., 1]
        gaps.append(np.abs(height[:, hand].min(axis=1) - height[:, foot].min(axis=1)))
    return pitch_deg + shifts[np.argmin(gaps, axis=0)]

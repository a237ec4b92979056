"""Short clips of people standing, walking and on the floor, made from anatomical angles; and other up axes for them."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.anatomy import full_poses
from posedreamer_assets.body.joints import LANDMARK_VERTICES
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.poses.floor import surface_of
from posedreamer_assets.poses.procedural import stand_on_ground
from posedreamer_assets.poses.upright import to_y_up

FRAMES = 48


def _both(**angles: float) -> dict[str, float]:
    return {f"{side}_{name}": value for side in ("left", "right") for name, value in angles.items()}


# Keyframes; "pitch" tilts the root forwards; on "fours" the root is tilted until hands and feet are level.
KEYS: dict[str, Sequence[Mapping[str, float]]] = {
    "stand": [_both(arm_raise=14, arm_forward=10, elbow_flex=15), _both(arm_raise=60, arm_forward=60, elbow_flex=40)],
    "squat": [
        _both(arm_raise=14),
        _both(hip_flex=70, knee_flex=85, ankle_flex=25, arm_raise=75, arm_forward=85) | {"spine_flex": 20},
    ],
    "push-up": [
        _both(arm_raise=78, arm_forward=88, elbow_flex=5, ankle_flex=25, knee_flex=4) | {"pitch": 75},
        _both(arm_raise=50, arm_forward=60, elbow_flex=100, ankle_flex=25, knee_flex=4) | {"pitch": 85},
    ],
    "dog": [
        _both(hip_flex=85, knee_flex=8, arm_raise=172, arm_forward=20, ankle_flex=20) | {"pitch": 100},
        _both(hip_flex=75, knee_flex=12, arm_raise=165, arm_forward=20) | {"pitch": 95},
    ],
    "sit": [
        _both(hip_flex=110, knee_flex=130, hip_abd=35, arm_raise=45, arm_forward=80, elbow_flex=40)
        | {"spine_flex": 18},
        _both(hip_flex=100, knee_flex=100, hip_abd=30, arm_raise=45, arm_forward=60, elbow_flex=20) | {"spine_flex": 5},
    ],
    "get up": [
        _both(arm_raise=20) | {"pitch": -90},
        _both(hip_flex=60, knee_flex=90, arm_raise=30, arm_forward=-20) | {"pitch": -40},
        _both(hip_flex=105, knee_flex=125, ankle_flex=25, arm_raise=60, arm_forward=80) | {"spine_flex": 25},
        _both(arm_raise=14, elbow_flex=15),
    ],
    "lie": [
        _both(arm_raise=20, elbow_flex=20, ankle_flex=-30) | {"pitch": -90},
        _both(arm_raise=40, elbow_flex=60, ankle_flex=-30) | {"pitch": -90, "left_hip_flex": 30, "left_knee_flex": 50},
    ],
    "handstand": [_both(arm_raise=175) | {"pitch": 180}, _both(arm_raise=175, hip_flex=8) | {"pitch": 176}],
}
_ON_FOURS = ("push-up", "dog")


def clip(name: str, yaw_deg: float = 0.0) -> BodyParams:
    """Keyframes blended over 48 frames, y up, on the ground."""
    keys = KEYS[name]
    place = np.linspace(0, len(keys) - 1, FRAMES)
    names = sorted(set().union(*keys))
    angles = {k: np.interp(place, np.arange(len(keys)), [key.get(k, 0.0) for key in keys]) for k in names}
    pitch = angles.pop("pitch", np.zeros(FRAMES))
    full = full_poses(angles, FRAMES).astype(np.float32)
    params = BodyParams.zeros(FRAMES).replace(body_pose=full[:, 1:22])
    if name in _ON_FOURS:
        pitch = _level_fours(params, pitch)
    return stand_on_ground(load_body(), _oriented(params, yaw_deg, pitch))


def walk(speed_m_s: float = 1.2, yaw_deg: float = 0.0) -> BodyParams:
    """A stiff walk at 30 frames a second; the planted foot moves back as fast as the body moves on."""
    rate, leg_m = 2 * np.pi * 0.9, 0.85
    phase = np.arange(FRAMES) / 30 * rate
    swing = np.rad2deg(speed_m_s / (rate * leg_m)) * np.sin(phase)
    angles = {"left_hip_flex": swing, "right_hip_flex": -swing}
    angles |= {
        "left_knee_flex": 30 * np.maximum(np.cos(phase), 0),
        "right_knee_flex": 30 * np.maximum(-np.cos(phase), 0),
    }
    angles |= {
        "left_ankle_flex": angles["left_knee_flex"] - swing,
        "right_ankle_flex": angles["right_knee_flex"] + swing,
    }
    full = full_poses(angles, FRAMES).astype(np.float32)
    params = _oriented(BodyParams.zeros(FRAMES).replace(body_pose=full[:, 1:22]), yaw_deg, np.zeros(FRAMES))
    params = stand_on_ground(load_body(), params)
    yaw = np.deg2rad(yaw_deg)
    path = np.outer(np.arange(FRAMES) / 30 * speed_m_s, [np.sin(yaw), 0.0, np.cos(yaw)])
    return params.replace(transl=(params.transl + path).astype(np.float32))


def in_axes(params: BodyParams, axis: str) -> BodyParams:
    """The clip as a file writes it in which `axis` points up."""
    turn, pelvis = to_y_up(axis).T, surface_of(load_body()).joints[0]
    orient = Rotation.from_matrix(turn) * Rotation.from_rotvec(params.global_orient)
    transl = (pelvis + params.transl) @ turn.T - pelvis
    return params.replace(global_orient=orient.as_rotvec().astype(np.float32), transl=transl.astype(np.float32))


def _oriented(params: BodyParams, yaw_deg: float, pitch_deg: np.ndarray) -> BodyParams:
    turns = np.stack([np.full(len(params), yaw_deg), pitch_deg], axis=1)
    orient = Rotation.from_euler("YX", turns, degrees=True).as_rotvec()
    return params.replace(global_orient=orient.astype(np.float32))


def _level_fours(params: BodyParams, pitch_deg: np.ndarray) -> np.ndarray:
    """For each frame the pitch nearby at which hands and feet are equally low."""
    surface = surface_of(load_body())
    owner = load_body().dominant_joint[surface.vertices]
    hand = (owner >= 25) | np.isin(owner, [20, 21])
    foot = np.isin(owner, [7, 8, 10, 11])
    shifts = np.arange(-40, 41, 2)
    gaps = []
    for shift in shifts:
        height = surface.posed(_oriented(params, 0.0, pitch_deg + shift))[0][..., 1]
        gaps.append(np.abs(height[:, hand].min(axis=1) - height[:, foot].min(axis=1)))
    return pitch_deg + shifts[np.argmin(gaps, axis=0)]


def sole_heights_m(params: BodyParams) -> np.ndarray:
    """World height of toes and heels (n, 6), from the whole mesh."""
    names = [f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
    return load_body().forward(params).vertices[:, [LANDMARK_VERTICES[name] for name in names], 1]

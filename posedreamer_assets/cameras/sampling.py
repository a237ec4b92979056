"""Cameras sampled around bodies: focal length, pitch, roll, and a distance that frames the body."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.rotations import rotation_x, rotation_z
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import CameraConfig, ImageConfig
from posedreamer_assets.seeds import sample_rng

# World (y up, camera on +z looking along -z) to OpenCV axes.
_LEVEL = np.diag([1.0, -1.0, -1.0])
_FRAMING_STEPS, _MOST_FRAMING_STEPS = 6, 200  # one body in some thousands, long and pointing at the camera, needs more

# Every so many vertices are enough to frame a body.
FRAMING_STRIDE = 20


def sample_cameras(
    points: Float[np.ndarray, "n k 3"],
    sample_ids: Sequence[str],
    run_seed: int,
    cfg: CameraConfig,
    image: ImageConfig,
) -> tuple[Cameras, np.ndarray]:
    """One camera for each body, given points of its surface (world, metres); and which are truncated on purpose.

    The camera stands on the +z side and looks down by the pitch; bodies bring their own yaw. Its distance is solved so
    that the body's larger side fills a sampled share of the frame; the body lies wholly inside unless truncated.
    """
    made = [
        _sample_one(points[i], sample_rng(run_seed, sample_id, "camera"), cfg, image)
        for i, sample_id in enumerate(sample_ids)
    ]
    return Cameras.concat([camera for camera, _ in made]), np.array([truncated for _, truncated in made], bool)


def _sample_one(
    points: np.ndarray, rng: np.random.Generator, cfg: CameraConfig, image: ImageConfig
) -> tuple[Cameras, bool]:
    focal = rng.uniform(cfg.focal_min, cfg.focal_max) * image.height
    pitch = rng.uniform(cfg.pitch_min_deg, cfg.pitch_max_deg)
    roll = rng.normal(0, cfg.roll_std_deg)
    truncated = bool(rng.random() < cfg.truncated_share)
    fill = rng.uniform(1.15, 1.6) if truncated else rng.uniform(cfg.fill_min, cfg.fill_max)
    place = rng.uniform(-1, 1, 2)
    rotation = rotation_z(np.deg2rad(roll)) @ rotation_x(np.deg2rad(pitch)) @ _LEVEL
    translation = _frame(points, rotation, focal, fill, place, image)
    camera = Cameras(
        rotation[None].astype(np.float32),
        translation[None].astype(np.float32),
        np.array([focal], np.float32),
        np.array([[image.width / 2, image.height / 2]], np.float32),
        image.width,
        image.height,
        np.array([pitch], np.float32),
        np.array([roll], np.float32),
    )
    return camera, truncated


def _frame(
    points: np.ndarray, rotation: np.ndarray, focal: float, fill: float, place: np.ndarray, image: ImageConfig
) -> np.ndarray:
    """The translation that makes the body fill the share `fill` of the frame, at `place` in the room that is left.

    `place` is in [-1, 1] for each axis; for a truncated body the room is negative, which moves it out of the frame.
    """
    size = np.array([image.width, image.height], float)
    turned = points @ rotation.T
    centre = (turned.max(0) + turned.min(0)) / 2
    translation = -centre + np.array([0, 0, 2.0 * np.ptp(turned, axis=0).max()])
    for step in range(_MOST_FRAMING_STEPS):
        camera_points = turned + translation
        pixels = focal * camera_points[:, :2] / camera_points[:, 2:] + size / 2
        low, high = pixels.min(0), pixels.max(0)
        if step >= _FRAMING_STEPS and (fill > 1 or ((low >= 0) & (high < size)).all()):
            break
        share = ((high - low) / size).max()
        room = np.maximum(np.abs(size - (high - low)), 0) / 2 * 0.9
        target = size / 2 + place * room
        depth = translation[2] + centre[2]
        translation[:2] += (target - (low + high) / 2) * depth / focal
        # The nearest point must stay in front of the camera however large the body should appear.
        nearest = turned[:, 2].min() + translation[2]
        translation[2] += max(depth * (share / fill - 1), 0.3 - nearest)
    return translation


def resize_camera(camera: Cameras, image: ImageConfig) -> Cameras:
    """The camera of a photograph scaled to the profile's image size; the photograph is centred and fits wholly."""
    scale = min(image.width / camera.width, image.height / camera.height)
    margin = (np.array([image.width, image.height]) - scale * np.array([camera.width, camera.height])) / 2
    return Cameras(
        camera.rotation,
        camera.translation,
        (camera.focal_px * scale).astype(np.float32),
        (camera.principal_px * scale + margin).astype(np.float32),
        image.width,
        image.height,
        camera.pitch_deg,
        camera.roll_deg,
    )

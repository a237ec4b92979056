"""A camera above a level ground, and places on that ground that it sees."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.rotations import rotation_x
from posedreamer_assets.cameras.pinhole import Cameras

# World (y up, camera looks along -z) to OpenCV axes.
_LEVEL = np.diag([1.0, -1.0, -1.0])
_AT_ONCE, _MOST = 64, 64


@dataclass(frozen=True)
class GroundView:
    """A camera at x = z = 0 that looks along -z, and the stretch of ground before it that people stand on.

    Attributes:
        camera: one.
        near_m: least distance along the ground.
        far_m: largest distance along the ground.
    """

    camera: Cameras
    near_m: float
    far_m: float

    def place(
        self, rng: np.random.Generator, seen_heights_m: tuple[float, ...] = (0.0, 1.2)
    ) -> Float[np.ndarray, "3"] | None:
        """A place on the ground, all of the seen stretch equally likely; None where nothing of it is in the frame.

        Args:
            rng: draws it.
            seen_heights_m: points so high above the place are in the frame.
        """
        camera = self.camera
        across = self.far_m * max(camera.width, camera.height) / float(camera.focal_px[0])
        for _ in range(_MOST):
            x, d = rng.uniform(-across, across, _AT_ONCE), rng.uniform(self.near_m, self.far_m, _AT_ONCE)
            ground = np.stack([x, np.zeros(_AT_ONCE), -d], axis=1)
            inside = np.ones(_AT_ONCE, bool)
            for height in seen_heights_m:
                pixels = camera.project((ground + np.array([0.0, height, 0.0]))[None])[0]
                inside &= ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(axis=1)
            if inside.any():
                return ground[int(np.argmax(inside))]
        return None


def ground_camera(
    *,
    pitch_rad: float,
    height_m: float,
    focal_px: float,
    width: int,
    height: int,
) -> Cameras:
    """A camera at x = z = 0, `height_m` above the ground, that looks along -z and down by the pitch."""
    rotation = rotation_x(pitch_rad) @ _LEVEL
    return Cameras(
        rotation[None].astype(np.float32),
        (-rotation @ np.array([0.0, height_m, 0.0]))[None].astype(np.float32),
        np.array([focal_px], np.float32),
        np.array([[width / 2, height / 2]], np.float32),
        width,
        height,
        np.array([np.rad2deg(pitch_rad)], np.float32),
        np.zeros(1, np.float32),
    )


def sample_ground_view(
    rng: np.random.Generator,
    *,
    pitch_rad: float,
    size: int,
    distance_m: tuple[float, float],
    focal: tuple[float, float],
) -> GroundView:
    """A square view of the ground.

    Args:
        rng: draws it.
        pitch_rad: of the camera; 0 looks level, positive looks down.
        size: width and height, pixels.
        distance_m: range of the distance from the camera to the middle of the stretch, in a straight line.
        focal: range of the focal length, in multiples of the image's size.
    """
    distance = rng.uniform(*distance_m)
    aim_m = rng.uniform(0.8, 1.3)
    along, height_m = distance * np.cos(pitch_rad), aim_m + distance * np.sin(pitch_rad)
    camera = ground_camera(
        pitch_rad=pitch_rad, height_m=height_m, focal_px=rng.uniform(*focal) * size, width=size, height=size
    )
    return GroundView(camera, max(1.2, along - 0.65 * distance), along + 0.65 * distance)

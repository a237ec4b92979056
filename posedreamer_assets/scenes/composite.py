"""Rendered light over a picture of what is behind it, mixed as light is and not as values of a picture are."""

import numpy as np
from jaxtyping import Float, UInt8

from posedreamer_assets.render.shading import Light

_GAMMA = 2.2  # as of the rasteriser's colours
_BRIGHTEST_GROUND = 0.8


def over(light: Float[np.ndarray, "h w 4"], behind: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Light over a picture, which stays as it is where there is none.

    Args:
        light: linear, multiplied by alpha, which is how much of what is behind is hidden or shaded.
        behind: the picture.
    """
    colour, alpha = light[..., :3].astype(float), np.clip(light[..., 3:].astype(float), 0, 1)
    mixed = linear(behind) * (1 - alpha) + colour
    return np.rint(255 * np.clip(mixed, 0, 1) ** (1 / _GAMMA)).astype(np.uint8)


def linear(picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """How much light the values of a picture stand for, in [0, 1]."""
    return (picture / 255.0) ** _GAMMA


def on_ground(light: Light) -> float:
    """How much light a white level ground sends back, where nothing shades it; the direction is the world's."""
    slope = -float(light.direction[1] / np.linalg.norm(light.direction))
    return light.intensity * slope / np.pi + light.ambient


def ground_colour(behind: UInt8[np.ndarray, "h w 3"], light: Light) -> Float[np.ndarray, "3"]:
    """The linear colour of a ground that looks in this light as the lowest quarter of the picture does."""
    shown = linear(behind[3 * len(behind) // 4 :]).mean(axis=(0, 1))
    return np.clip(shown / on_ground(light), 0, _BRIGHTEST_GROUND)

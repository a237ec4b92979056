"""Pictures of a kind that neither renders nor generated images have, for a test that favours neither."""

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from posedreamer_assets.students.augment import as_jpeg, with_colours

_LEAVES = 220
_ROUND_TRIP = 0.75  # of the side: detail that is lost
_SOFT_EDGE_PX = 0.7


def dead_leaves(rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """Discs of random places, sizes and colours that hide each other: edges at all scales, as photographs have, and no scene."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rng.integers(0, 256, 3)
    y, x = np.mgrid[:height, :width]
    # Radii follow r^-3 between bounds, which makes the picture look alike at all scales.
    least, most = 0.02 * width, 0.35 * width
    radii = least / np.sqrt(1 - rng.random(_LEAVES) * (1 - (least / most) ** 2))
    for radius in radii:
        centre = rng.random(2) * (width, height)
        picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = rng.integers(0, 256, 3)
    return picture


def other_look(
    picture: UInt8[np.ndarray, "h w 3"], body: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The person before dead leaves, under a colour cast and another gamma, with detail lost and a JPEG of low quality."""
    height, width = body.shape
    leaves = dead_leaves(rng, width, height)
    soft = Image.fromarray(body.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(_SOFT_EDGE_PX))
    share = np.asarray(soft, np.float32)[..., None] / 255
    mixed = (picture * share + leaves * (1 - share)) / 255
    gains, gamma = rng.uniform(0.75, 1.25, 3), np.exp(rng.uniform(-0.4, 0.4))
    cast = Image.fromarray(with_colours(mixed, gamma, gains))
    small = cast.resize((max(1, round(width * _ROUND_TRIP)), max(1, round(height * _ROUND_TRIP))))
    return as_jpeg(np.asarray(small.resize((width, height))), int(rng.integers(30, 71)))

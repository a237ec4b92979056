"""Fitting images into a network's input without changing their aspect, and mapping points back."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image


@dataclass(frozen=True)
class Letterbox:
    """A map from image pixels to input pixels: input = image * scale + offset."""

    scale: float
    offset_x: float
    offset_y: float

    def to_image(self, points: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Input pixels to image pixels."""
        return (points - np.array([self.offset_x, self.offset_y], points.dtype)) / self.scale

    def plane_of_image(self, plane: Float[np.ndarray, "h2 w2"], height: int, width: int) -> Float[np.ndarray, "h w"]:
        """What a plane of input pixels says of an image of that many pixels."""
        if plane.shape == (height, width) and self.scale == 1.0:
            return plane
        right, below = self.offset_x + width * self.scale, self.offset_y + height * self.scale
        box = self.offset_x, self.offset_y, min(right, plane.shape[1]), min(below, plane.shape[0])
        return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR, box=box))


def letterbox(
    images: UInt8[np.ndarray, "n h w 3"], height: int, width: int, fill: int = 114
) -> tuple[UInt8[np.ndarray, "n height width 3"], Letterbox]:
    """Scale images to fit, centre them, and fill the rest with grey; images that fit exactly are left alone."""
    n, h, w = images.shape[:3]
    if (h, w) == (height, width):
        return images, Letterbox(1.0, 0.0, 0.0)
    scale = min(height / h, width / w)
    inner_h, inner_w = max(1, round(h * scale)), max(1, round(w * scale))
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    out = np.full((n, height, width, 3), fill, np.uint8)
    for i, image in enumerate(images):
        scaled = Image.fromarray(image).resize((inner_w, inner_h), Image.Resampling.BILINEAR)
        out[i, top : top + inner_h, left : left + inner_w] = np.asarray(scaled)
    return out, Letterbox(scale, float(left), float(top))

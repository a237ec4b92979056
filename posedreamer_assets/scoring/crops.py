"""Cutting the labelled person out of an image at a network's aspect ratio, and mapping points back exactly.

Top-down networks (ViTPose, RTMPose) learnt from such crops: the person's box, grown to the input's aspect ratio and by a
margin of a quarter. Coordinates are continuous, with (0, 0) the corner of the first pixel, so that the map of each image is
one scale and one offset, without rounding.
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from posedreamer_assets.scoring.letterbox import Letterbox

MARGIN = 1.25
"""Sides of the crop over those of the person's box, as ViTPose and RTMPose were trained."""
LEAST_PX = 2.0  # sides of a box below it hold nothing to look at


def crop_windows(
    boxes: Float[np.ndarray, "n 4"], image_hw: tuple[int, int], input_hw: tuple[int, int], margin: float = MARGIN
) -> Float[np.ndarray, "n 4"]:
    """The part of each image that a network looks at: x, y, width, height, pixels; it may reach beyond the frame.

    Args:
        boxes: x, y, width, height, pixels. A box of no size, or that is not finite, stands for the whole image.
        image_hw: height and width of the images.
        input_hw: of the network's input, whose aspect ratio the windows get.
        margin: of the windows' sides over the boxes'.
    """
    boxes = boxes.astype(np.float64)
    empty = ~np.isfinite(boxes).all(1) | (boxes[:, 2:].min(1) < LEAST_PX)
    height, width = image_hw
    sides = np.where(empty[:, None], [[width, height]], boxes[:, 2:] * margin)
    middle = np.where(empty[:, None], [[width / 2, height / 2]], boxes[:, :2] + boxes[:, 2:] / 2)
    aspect = input_hw[1] / input_hw[0]
    wide = np.maximum(sides[:, 0], sides[:, 1] * aspect)
    sides = np.stack([wide, wide / aspect], 1)
    return np.concatenate([middle - sides / 2, sides], 1)


def cut(
    images: UInt8[np.ndarray, "n h w 3"], windows: Float[np.ndarray, "n 4"], input_hw: tuple[int, int], fill: int
) -> tuple[UInt8[np.ndarray, "n height width 3"], list[Letterbox]]:
    """The windows of images, scaled to a network's input; beyond the frame lies the grey `fill`.

    Args:
        images: RGB.
        windows: as `crop_windows` gives them.
        input_hw: height and width of the crops.
        fill: 0..255.

    Returns:
        the crops, and the map from each image to its crop.
    """
    height, width = input_hw
    out = np.empty((len(images), height, width, 3), np.uint8)
    for i, (image, window) in enumerate(zip(images, windows, strict=True)):
        out[i] = _cut_one(image, window, height, width, fill)
    scales = (width / windows[:, 2]).tolist()
    return out, [Letterbox(s, -s * x, -s * y) for s, (x, y) in zip(scales, windows[:, :2].tolist(), strict=True)]


def _cut_one(image: np.ndarray, window: np.ndarray, height: int, width: int, fill: int) -> np.ndarray:
    """Only the part about the window is padded and resized: with a little more around it, for the filter's support."""
    h, w = image.shape[:2]
    support = int(np.ceil(max(window[2] / width, window[3] / height, 1.0))) + 1
    low = np.floor(window[:2]).astype(int) - support
    high = np.ceil(window[:2] + window[2:]).astype(int) + support
    inner_low, inner_high = np.clip(low, 0, [w, h]), np.clip(high, 0, [w, h])
    part = np.full((high[1] - low[1], high[0] - low[0], 3), fill, np.uint8)
    if (inner_high > inner_low).all():
        x, y = inner_low - low
        seen = image[inner_low[1] : inner_high[1], inner_low[0] : inner_high[0]]
        part[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
    left, top = window[:2] - low
    box = (float(left), float(top), float(left + window[2]), float(top + window[3]))
    return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR, box=box))

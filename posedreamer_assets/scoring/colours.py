"""Whether garments have the colours that the caption names."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.errors import CaptionError
from posedreamer_assets.render.captions import NAMED_COLOURS, garment_colour, parse_caption

TOP_PARTS = ("spine1", "spine2", "spine3", "left_collar", "right_collar")
BOTTOM_PARTS = ("pelvis", "left_hip", "right_hip")
MIN_PIXELS = 12  # fewer tell more about the mask's edge than about the garment


def garment_colour_errors(
    images: UInt8[np.ndarray, "n h w 3"],
    parts: UInt8[np.ndarray, "n h w"],
    captions: Sequence[str],
    garment: str = "top",
) -> Float[np.ndarray, " n"]:
    """Distance between the garment's median colour and the one that the caption names, CIE 1976 delta E.

    0 is the same colour, below about 25 the same name, 100 black and white. Light and shade in the picture count too.

    Args:
        images: RGB.
        parts: SMPL-X joint index + 1 of each pixel, 0 for background, as in `control_maps.parts`.
        captions: any text; NaN where it names no colour of the garment.
        garment: `top` or `bottom`.

    Returns:
        float32; NaN where the caption names no colour or fewer than `MIN_PIXELS` pixels of the garment are seen.
    """
    medians = garment_colours(images, parts, garment)
    named = np.full((len(images), 3), np.nan)
    for i, caption in enumerate(captions):
        colour = named_colour(caption, garment)
        if colour is not None:
            named[i] = NAMED_COLOURS[colour]
    return np.linalg.norm(srgb_to_lab(medians) - srgb_to_lab(named), axis=-1).astype(np.float32)


def garment_colour_hits(
    images: UInt8[np.ndarray, "n h w 3"],
    parts: UInt8[np.ndarray, "n h w"],
    captions: Sequence[str],
    garment: str = "top",
) -> Float[np.ndarray, " n"]:
    """1 where the named colour nearest to the garment's median colour is the caption's, 0 where it is another one.

    NaN where the caption names no colour or too little of the garment is seen. Guessing hits one time in
    `len(NAMED_COLOURS)`.
    """
    medians = garment_colours(images, parts, garment)
    hits = np.full(len(images), np.nan, np.float32)
    for i, caption in enumerate(captions):
        colour = named_colour(caption, garment)
        if colour is not None and np.isfinite(medians[i]).all():
            hits[i] = nearest_name(medians[i]) == colour
    return hits


def garment_colours(
    images: UInt8[np.ndarray, "n h w 3"], parts: UInt8[np.ndarray, "n h w"], garment: str = "top"
) -> Float[np.ndarray, "n 3"]:
    """Median sRGB (0..255) over the garment's parts; NaN where too little of it is seen."""
    names = {"top": TOP_PARTS, "bottom": BOTTOM_PARTS}[garment]
    mask = np.isin(parts, [JOINT_INDEX[name] + 1 for name in names])
    out = np.full((len(images), 3), np.nan)
    for i in np.flatnonzero(mask.sum((1, 2)) >= MIN_PIXELS):
        out[i] = np.median(images[i][mask[i]], axis=0)
    return out


def named_colour(caption: str, garment: str = "top") -> str | None:
    """The colour's name; None where the caption names none, or one that has no value."""
    try:
        description = parse_caption(caption)
    except CaptionError:
        return garment_colour(caption, garment)
    name = description.top_colour if garment == "top" else description.bottom_colour
    return name if name in NAMED_COLOURS else None


def nearest_name(srgb: Float[np.ndarray, "3"]) -> str:
    """The named colour that is nearest in CIE Lab."""
    names = list(NAMED_COLOURS)
    palette = srgb_to_lab(np.array([NAMED_COLOURS[name] for name in names], np.float64))
    return names[int(np.linalg.norm(palette - srgb_to_lab(srgb.astype(np.float64)), axis=-1).argmin())]


def srgb_to_lab(srgb: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """sRGB in 0..255 to CIE L*a*b* under D65 (IEC 61966-2-1, CIE 15)."""
    share = srgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness = 116 * f[..., 1] - 16
    return np.stack([lightness, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)

"""Synthetic people made like the people of a photograph: colours, fine detail, and nothing outside of them.

Closed form, without a network: the linear map of least transport between the colours of the two regions (two Gaussians),
detail bands scaled to the photograph's, and a guided filter that keeps the content's edges (He, Sun and Tang 2013).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.linalg import sqrtm
from scipy.ndimage import uniform_filter

STYLISED, TOO_SMALL, NO_STYLE = "stylised", "mask_too_small", "no_style_region"
_RIDGE = 1e-4  # on both covariances: a region of one colour has a singular one
_MOST_RATIO = 100.0  # of the two regions' sizes; beyond, colours of one pixel would rule the other region
_LEVELS = 3
_GAINS = (0.4, 2.0)
_GUIDE_RADIUS, _GUIDE_EPSILON = 2, 1e-3


@dataclass(frozen=True)
class Styled:
    """A stylised picture.

    Attributes:
        picture: RGB; outside of the content region that of the original, bit for bit.
        status: `stylised`, or why it is the original.
        colour_shift: mean distance that colours moved, RGB in [0, 1].
        detail_gain: mean factor of the detail bands; 1 where a network stylises.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    status: str
    colour_shift: float = 0.0
    detail_gain: float = 1.0


def stylise(
    picture: UInt8[np.ndarray, "h w 3"],
    content: Bool[np.ndarray, "h w"],
    style: Bool[np.ndarray, "h w"],
    min_pixels: int,
) -> Styled:
    """Make one region of a picture look like another one.

    Args:
        picture: RGB.
        content: what is changed.
        style: what it is made like; pixels that are in both are content alone.
        min_pixels: of either region; with less the picture stays.
    """
    style = style & ~content
    if why := why_not(content, style, min_pixels):
        return Styled(picture, why)
    original = picture.astype(np.float64) / 255
    moved = np.clip(transported(original, original[content], original[style]), 0, 1)
    # What is filtered is the change: colours that change alike stay as sharp as they were.
    smooth = original + _guided(moved - original, original, content)
    detailed, gain = _with_detail(smooth, content, original, style)
    result = np.where(content[..., None], np.rint(np.clip(detailed, 0, 1) * 255), picture).astype(np.uint8)
    shift = float(np.linalg.norm(result[content] / 255 - original[content], axis=1).mean())
    return Styled(result, STYLISED, shift, gain)


def why_not(content: Bool[np.ndarray, "h w"], style: Bool[np.ndarray, "h w"], min_pixels: int) -> str | None:
    """Why a region cannot be made like another one: TOO_SMALL, NO_STYLE, or None where it can."""
    if content.sum() < min_pixels:
        return TOO_SMALL
    ratio = content.sum() / max(style.sum(), 1)
    return None if style.sum() >= min_pixels and 1 / _MOST_RATIO <= ratio <= _MOST_RATIO else NO_STYLE


def transported(
    values: Float[np.ndarray, "*n 3"], content: Float[np.ndarray, "a 3"], style: Float[np.ndarray, "b 3"]
) -> Float[np.ndarray, "*n 3"]:
    """Colours moved by the Monge-Kantorovich map that takes the Gaussian of `content` to that of `style`."""
    ridge = _RIDGE * np.eye(3)
    of_content, of_style = np.cov(content.T) + ridge, np.cov(style.T) + ridge
    root = np.real(sqrtm(of_content))
    inverse = np.linalg.inv(root)
    matrix = inverse @ np.real(sqrtm(root @ of_style @ root)) @ inverse
    return (values - content.mean(axis=0)) @ matrix.T + style.mean(axis=0)


def _with_detail(
    values: np.ndarray, content: np.ndarray, original: np.ndarray, style: np.ndarray
) -> tuple[Float[np.ndarray, "h w 3"], float]:
    """Bands of detail (differences of box means, which are Haar's at every place) as strong as those of the style region."""
    result, gains = values, []
    smooth, smooth_style = values, original
    for level in range(_LEVELS):
        width = 2 ** (level + 1)
        next_smooth, next_style = _box(values, width), _box(original, width)
        band, band_style = smooth - next_smooth, smooth_style - next_style
        own, wanted = np.median(np.abs(band[content])), np.median(np.abs(band_style[style]))
        gain = float(np.clip(wanted / own, *_GAINS)) if own > 1e-6 else 1.0
        result = result + (gain - 1) * band
        gains.append(gain)
        smooth, smooth_style = next_smooth, next_style
    return result, float(np.mean(gains))


def _box(values: np.ndarray, width: int) -> np.ndarray:
    channels = [uniform_filter(channel, width, mode="nearest") for channel in np.moveaxis(values, -1, 0)]
    return np.stack(channels, axis=-1)


def _guided(values: np.ndarray, guide: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Each channel filtered with the grey of the guide, over pixels of the region alone."""
    grey = guide.mean(axis=-1)
    weight = inside.astype(float)
    width = 2 * _GUIDE_RADIUS + 1
    share = np.maximum(uniform_filter(weight, width, mode="constant"), 1e-9)

    def mean(channel: np.ndarray) -> np.ndarray:
        return uniform_filter(channel * weight, width, mode="constant") / share

    mean_grey = mean(grey)
    variance = mean(grey * grey) - mean_grey**2
    result = np.empty_like(values)
    for k in range(values.shape[-1]):
        channel = values[..., k]
        mean_channel = mean(channel)
        slope = (mean(grey * channel) - mean_grey * mean_channel) / (variance + _GUIDE_EPSILON)
        offset = mean_channel - slope * mean_grey
        result[..., k] = mean(slope) * grey + mean(offset)
    return result

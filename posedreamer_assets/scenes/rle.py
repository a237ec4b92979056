"""Masks as COCO's uncompressed run lengths: columns first, zeros before ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from posedreamer_assets.errors import PhotoError

_LARGER = 5


def encode_rle(mask: Bool[np.ndarray, "h w"]) -> dict[str, list[int]]:
    """`{"size": [h, w], "counts": [...]}`, which pycocotools reads."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], edges, [len(flat)]])
    counts = np.diff(bounds).tolist()
    if len(flat) and flat[0]:
        counts = [0, *counts]
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": counts}


def decode_rle(rle: Mapping[str, Any]) -> Bool[np.ndarray, "h w"]:
    """The inverse of `encode_rle`.

    Raises:
        PhotoError: counts that do not fill the size, or are compressed.
    """
    (height, width), counts = rle["size"], rle["counts"]
    if isinstance(counts, (str, bytes)):
        raise PhotoError("a mask has compressed run lengths; expected a list of counts, as COCO's files have")
    if sum(counts) != height * width:
        raise PhotoError(f"a mask's run lengths add up to {sum(counts)}, expected {height} x {width}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def segment_mask(
    segmentation: Sequence[Sequence[float]] | Mapping[str, Any], width: int, height: int
) -> Bool[np.ndarray, "h w"]:
    """The mask of a COCO segmentation: polygons of x, y, or run lengths.

    Raises:
        PhotoError: see `decode_rle`; or run lengths of another size.
    """
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) != [height, width]:  # before anything of that size is made
            raise PhotoError(f"a mask of size {segmentation['size']}, its image has [{height}, {width}]")
        return decode_rle(segmentation)
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        points = np.array(polygon[: len(polygon) // 2 * 2], float).reshape(-1, 2)
        if len(points) >= 3:
            _fill(mask, points)
    return mask


def _fill(mask: Bool[np.ndarray, "h w"], points: Float[np.ndarray, "k 2"]) -> None:
    """Set the pixels whose centre lies in a polygon, in place; drawn larger, because lines are a pixel wide."""
    size = np.array(mask.shape[::-1])
    low, high = (np.clip(edge, 0, size).astype(int) for edge in (np.floor(points.min(0)), np.ceil(points.max(0))))
    if (high <= low).any():
        return
    (left, top), (right, bottom) = low, high
    width, height = ((high - low) * _LARGER).tolist()
    large = Image.new("L", (width, height))
    corners = [(float(x), float(y)) for x, y in (points - low) * _LARGER - 0.5]
    ImageDraw.Draw(large).polygon(corners, fill=255)
    mask[top:bottom, left:right] |= np.asarray(large)[_LARGER // 2 :: _LARGER, _LARGER // 2 :: _LARGER] > 0

"""What of each person in a crowd can be seen, and who hides the rest: read from the maps of people and parts.

A joint lies inside a body, so the depth in front of it says little where another person stands close by. It counts as seen
when, within a quarter of the head's diagonal, a pixel shows the same person and a part of it that lies next to the joint.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from posedreamer_assets.render.control import in_frame

ITSELF = -1
_OF_HEAD = 0.25


def joints_seen(
    points_px: Float[np.ndarray, "k 2"],
    parts_beside: Bool[np.ndarray, "k 55"],
    person: int,
    head_px: float,
    instances: UInt8[np.ndarray, "h w"],
    parts: UInt8[np.ndarray, "h w"],
) -> tuple[Bool[np.ndarray, "k"], Int[np.ndarray, "k"]]:
    """Which points of a person can be seen, and who hides the others.

    Args:
        points_px: pixels; NaN behind the camera.
        parts_beside: which parts lie next to each point.
        person: the person's id in `instances`.
        head_px: diagonal of the box of its head.
        instances: ids of people, 0 where nobody is.
        parts: SMPL-X joint + 1.

    Returns:
        Flags; and for points in the frame that are hidden, the id of the person who is at their pixel, or -1 where it is the
        person itself, 0 where nobody is; 0 for all other points.
    """
    height, width = instances.shape
    inside = in_frame(points_px, width, height)
    reach = max(1, round(_OF_HEAD * head_px)) if np.isfinite(head_px) else 1
    seen, hidden_by = np.zeros(len(points_px), bool), np.zeros(len(points_px), np.int32)
    for k in np.flatnonzero(inside):
        column, row = (int(v) for v in points_px[k])
        window = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        own = parts[window][instances[window] == person]
        seen[k] = parts_beside[k, own[own > 0] - 1].any()
        if not seen[k]:
            there = int(instances[row, column])
            hidden_by[k] = ITSELF if there == person else there
    return seen, hidden_by


def smallest_distances_px(places: Sequence[Float[np.ndarray, "2"]]) -> list[float | None]:
    """How far each place is from the nearest other one, pixels.

    None where there is no other, or where a place is not known (NaN), which is no neighbour to others either.
    """
    points = np.array(places, float).reshape(-1, 2)
    apart = np.hypot(*np.moveaxis(points[:, None] - points[None], -1, 0))
    apart[~np.isfinite(apart) | np.eye(len(points), dtype=bool)] = np.inf
    return [float(v) if np.isfinite(v) else None for v in apart.min(axis=1, initial=np.inf)]


def centre_of(joints_px: Float[np.ndarray, "16 2"], known: Bool[np.ndarray, "16"]) -> Float[np.ndarray, "2"]:
    """MPII's `objpos`, the middle of a person: the mean of its labelled joints; NaN where none is."""
    return joints_px[known].mean(axis=0) if known.any() else np.full(2, np.nan)

"""Gaussian targets and sub-pixel decoding of keypoint heatmaps."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def gaussian_targets(
    keypoints_px: Float[Tensor, "n k 2"], height: int, width: int, stride: float, sigma: float
) -> Float[Tensor, "n k h w"]:
    """A Gaussian about every keypoint, normalised to sum one over the cells.

    Args:
        keypoints_px: in pixels of the image, whose first pixel's centre is (0.5, 0.5).
        height: cells. width: cells.
        stride: pixels per cell; the centre of cell i is at (i + 0.5) * stride.
        sigma: cells.
    """
    cells = keypoints_px / stride - 0.5
    x = torch.arange(width, dtype=cells.dtype, device=cells.device)
    y = torch.arange(height, dtype=cells.dtype, device=cells.device)
    log_x = -((x - cells[..., :1]) ** 2) / (2 * sigma**2)
    log_y = -((y - cells[..., 1:]) ** 2) / (2 * sigma**2)
    return log_x.softmax(-1)[..., None, :] * log_y.softmax(-1)[..., :, None]


def decode(
    logits: Float[np.ndarray, "n k h w"], stride_x: float, stride_y: float, radius: int = 1
) -> Float[np.ndarray, "n k 3"]:
    """Keypoints in pixels, with confidence, from the logarithm (plus any constant) of heatmaps.

    The peak cell is refined by one Newton step on the log heatmap, which is exact for a Gaussian (DARK, Zhang et al.,
    2020, equation 7: mu = m - D''(m)^-1 D'(m)); the step is at most 0.75 cells. Confidence is the share of the
    map's mass within `radius` cells of the peak, in 0..1.
    """
    n, k, h, w = logits.shape
    flat = logits.reshape(n * k, h, w).astype(np.float64)
    peak = flat.reshape(n * k, -1).argmax(-1)
    row, column = np.divmod(peak, w)
    mass = np.exp(flat - flat.max((1, 2), keepdims=True))
    padded = np.pad(mass, ((0, 0), (radius, radius), (radius, radius)))
    window = np.arange(2 * radius + 1)
    each = np.arange(n * k)[:, None, None]
    near = padded[each, row[:, None, None] + window[:, None], column[:, None, None] + window]
    confidence = near.sum((1, 2)) / mass.sum((1, 2))
    step = _newton_step(flat, row, column)
    x = (column + step[:, 0] + 0.5) * stride_x
    y = (row + step[:, 1] + 0.5) * stride_y
    return np.stack([x, y, confidence], -1).reshape(n, k, 3).astype(np.float32)


def _newton_step(maps: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """-H^-1 g of each map at its peak, in cells (x, y); zero at the border or where the peak is no strict maximum."""
    h, w = maps.shape[1:]
    r, c = row.clip(1, h - 2), column.clip(1, w - 2)
    each = np.arange(len(maps))

    def at(dy: int, dx: int) -> np.ndarray:
        return maps[each, r + dy, c + dx]

    gx, gy = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
    hxx, hyy = at(0, 1) - 2 * at(0, 0) + at(0, -1), at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    hxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    det = hxx * hyy - hxy**2
    fine = (r == row) & (c == column) & (det > 1e-9) & (hxx < 0)
    safe = np.where(fine, det, 1.0)
    step = np.stack([-(hyy * gx - hxy * gy) / safe, -(hxx * gy - hxy * gx) / safe], -1)
    return np.where(fine[:, None], step.clip(-0.75, 0.75), 0.0)

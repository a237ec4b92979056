"""Counting the peaks of a centre heatmap."""

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import maximum_filter


def count_peaks(
    logits: Float[np.ndarray, "n 1 h w"], threshold: float
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Cells that are the largest of their 3 x 3 neighbourhood and whose probability exceeds `threshold`.

    Returns:
        counts, and the probability of the highest peak of each map (0..1).
    """
    share = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
    peaks = (share == maximum_filter(share, size=(1, 3, 3), mode="constant")) & (share > threshold)
    return peaks.sum((1, 2)).astype(np.int64), share.max((1, 2)).astype(np.float32)

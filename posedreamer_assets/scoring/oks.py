"""Object keypoint similarity, the score that ranks candidates and filters samples."""

import numpy as np
from jaxtyping import Bool, Float, Num

from posedreamer_assets.body.joints import COCO_SIGMAS


def object_keypoint_similarity(
    detected: Float[np.ndarray, "n 17 2"],
    truth: Float[np.ndarray, "n 17 2"],
    visible: Bool[np.ndarray, "n 17"],
    area: Num[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """COCO's OKS: the mean over labelled keypoints of exp(-d^2 / (2 s^2 k^2)).

    d is the distance in pixels, s^2 the person's area and k twice the keypoint's sigma, as in COCOeval.computeOks.

    Args:
        detected: pixels. truth: pixels.
        visible: the keypoints that count.
        area: of the person's silhouette, pixels.

    Returns:
        float32 in 0..1; 0 for a sample without a visible keypoint, because nothing shows that it fits.
    """
    distance2 = ((detected.astype(np.float64) - truth) ** 2).sum(-1)
    variance = (2 * COCO_SIGMAS.astype(np.float64)) ** 2
    scale2 = area.astype(np.float64)[:, None] + np.spacing(1)
    similarity = np.exp(-distance2 / variance / scale2 / 2)
    counted = visible.sum(1)
    return (np.where(visible, similarity, 0.0).sum(1) / np.maximum(counted, 1)).astype(np.float32)

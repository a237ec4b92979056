"""Held-out figures of detectors while they are trained."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from posedreamer_assets.pocket.augment import Augmentation, degrade
from posedreamer_assets.pocket.composites import compose
from posedreamer_assets.pocket.detector_learning import STRIDE, forward_logits, to_tensor
from posedreamer_assets.pocket.shards import KeypointRows
from posedreamer_assets.scoring.heatmaps import decode
from posedreamer_assets.scoring.oks import object_keypoint_similarity
from posedreamer_assets.scoring.peaks import count_peaks
from posedreamer_assets.scoring.segmenter import silhouette_iou

COUNT_TRIALS = (
    192  # composites that the counter is measured on, as many again to choose its threshold; of silhouettes, too
)


@torch.no_grad()
def predict_logits(network: nn.Module, images: Float[Tensor, "n 3 h w"], batch: int = 32) -> np.ndarray:
    """Heatmap logits (n, k, h, w) float32, in full precision."""
    device = next(network.parameters()).device
    return torch.cat([forward_logits(network, part.to(device)).float().cpu() for part in images.split(batch)]).numpy()


def evaluate_keypoints(network: nn.Module, rows: KeypointRows) -> dict[str, float]:
    """OKS and PCK over visible keypoints of clean and of degraded held-out images."""
    clean = to_tensor(rows.images)
    area = rows.silhouettes.sum((1, 2)).astype(np.float32)
    visible = rows.visible & rows.in_frame
    figures: dict[str, float] = {}
    for prefix, images in (("", clean), ("soft_", _softened(clean))):
        found = decode(predict_logits(network, images), STRIDE, STRIDE)
        oks = object_keypoint_similarity(found[..., :2], rows.keypoints, visible, area)
        distance = np.linalg.norm(found[..., :2] - rows.keypoints, axis=-1)
        near = distance < 0.1 * np.sqrt(area)[:, None]
        figures[f"{prefix}oks"] = float(oks.mean())
        figures[f"{prefix}oks_median"] = float(np.median(oks))
        figures[f"{prefix}oks_above_0.8"] = float((oks > 0.8).mean())
        figures[f"{prefix}pck10"] = float(near[visible].mean())
        figures[f"{prefix}error_px"] = float(distance[visible].mean())
        figures[f"{prefix}confidence"] = float(found[..., 2][visible].mean())
    return figures


def evaluate_silhouettes(network: nn.Module, rows: KeypointRows, trials: int = COUNT_TRIALS) -> dict[str, float]:
    """IoU on clean and degraded held-out images and on composites of them; what is drawn where composites show nobody."""
    rng = np.random.default_rng(2)
    made = [compose(rows, rng) for _ in range(trials)]
    composites, seen = to_tensor(np.stack([m.image for m in made])), np.stack([m.silhouette for m in made])
    empty = ~seen.any((1, 2))
    clean = to_tensor(rows.images)
    drawn = predict_logits(network, composites)[:, 0] > 0
    return {
        "iou": _mean_iou(predict_logits(network, clean), rows.silhouettes),
        "soft_iou": _mean_iou(predict_logits(network, _softened(clean)), rows.silhouettes),
        "composite_iou": float(np.nanmean(silhouette_iou(drawn, seen))),
        "empty_drawn": float(drawn[empty].mean()) if empty.any() else 0.0,
    }


def _mean_iou(logits: Float[np.ndarray, "n 1 h w"], truth: Bool[np.ndarray, "n h w"]) -> float:
    return float(np.nanmean(silhouette_iou(logits[:, 0] > 0, truth)))


def _softened(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Blurred, noisy copies, the same at every look."""
    options = Augmentation(colour=0.15, blur_share=1.0, blocks_share=0.5)
    return degrade(images, options, torch.Generator().manual_seed(7))


def evaluate_counter(
    network: nn.Module, rows: KeypointRows, trials: int = COUNT_TRIALS
) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy of counts on composites of held-out rows, at the threshold that is best on other composites of them."""
    thresholds = np.arange(0.15, 0.7, 0.05)
    counts, maps = [], []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        made = [compose(rows, rng) for _ in range(trials)]
        counts.append(np.array([len(m.boxes) for m in made]))
        maps.append(predict_logits(network, to_tensor(np.stack([m.image for m in made]))))
    tuned = [(count_peaks(maps[0], float(t))[0] == counts[0]).mean() for t in thresholds]
    threshold = float(thresholds[int(np.argmax(tuned))])
    found, _ = count_peaks(maps[1], threshold)
    truth = counts[1]

    def recall(found_so: np.ndarray, true_so: np.ndarray) -> float:
        return float((found_so & true_so).sum() / max(true_so.sum(), 1))

    figures = {
        "accuracy": float((found == truth).mean()),
        "absolute_error": float(np.abs(found - truth).mean()),
        "none_recall": recall(found == 0, truth == 0),
        "one_recall": recall(found == 1, truth == 1),
        "crowd_recall": recall(found > 1, truth > 1),
        "threshold": threshold,
    }
    return figures, {"threshold": threshold}

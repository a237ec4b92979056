"""What pocket detectors learn from: networks, batches with targets, losses, optimizers."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from posedreamer_assets.errors import DetectorError
from posedreamer_assets.pocket.augment import MILD, STRONG, Augmentation, augment, augment_silhouettes, degrade
from posedreamer_assets.pocket.composites import Composite, centre_targets, compose
from posedreamer_assets.pocket.shards import KeypointRows
from posedreamer_assets.scoring.heatmaps import gaussian_targets
from posedreamer_assets.scoring.networks import CentreNet, HeatmapNet, SilhouetteNet, make_vitpose, normalise

KINDS = ("vitpose", "heatmap", "silhouette", "counter")
AUGMENTATIONS = {"mild": MILD, "strong": STRONG}
STRIDE = 4
SIGMA_CELLS = 1.0
HIDDEN_WEIGHT = 0.3  # of in-frame keypoints that the body itself hides


class Batch(NamedTuple):
    """Images 0..1, target maps, and weights of the keypoints (ones for counter and silhouettes)."""

    images: Float[Tensor, "n 3 h w"]
    targets: Float[Tensor, "n k h2 w2"]
    weights: Tensor


def make_network(kind: str, size: int = 128, width: int = 48) -> nn.Module:
    """A fresh network of the kind.

    Raises:
        DetectorError: an unknown kind.
    """
    if kind == "vitpose":
        return make_vitpose(size)
    if kind == "heatmap":
        return _channels_last(HeatmapNet(width))
    if kind == "silhouette":
        return _channels_last(SilhouetteNet(width))
    if kind == "counter":
        return _channels_last(CentreNet())
    raise DetectorError(f"unknown detector kind {kind!r}; known: {', '.join(KINDS)}")


def _channels_last(network: nn.Module) -> nn.Module:
    """Weights in the layout in which CPU convolutions are about a fifth faster."""
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def forward_logits(network: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h2 w2"]:
    """Heatmap logits of images in 0..1."""
    output = network(normalise(images))
    return output if isinstance(output, Tensor) else output.heatmaps


def to_tensor(images: np.ndarray) -> Float[Tensor, "n 3 h w"]:
    """uint8 (n, h, w, 3) to float 0..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)


def draw_batch(kind: str, rows: KeypointRows, n: int, options: Augmentation, rng: torch.Generator) -> Batch:
    """A random batch of `n`: composites for counter and silhouettes, single people for the others."""
    if kind in ("counter", "silhouette"):
        made = _composites(rows, n, int(torch.randint(2**31, (1,), generator=rng)))
        images = to_tensor(np.stack([m.image for m in made]))
        if kind == "silhouette":
            seen = torch.from_numpy(np.stack([m.silhouette for m in made])).float()[:, None]
            return Batch(*augment_silhouettes(images, seen, options, rng), torch.ones(n))
        h, w = rows.images.shape[1:3]
        targets = torch.from_numpy(np.stack([centre_targets(m.boxes, h // 8, w // 8) for m in made]))[:, None]
        return Batch(degrade(images, options, rng), targets, torch.ones(n))
    chosen = torch.randint(len(rows), (n,), generator=rng).numpy()
    return _keypoint_batch(rows.take(chosen), options, rng)


def detector_loss(kind: str, logits: Tensor, batch: Batch) -> Float[Tensor, ""]:
    """The kind's loss."""
    if kind == "counter":
        return centre_loss(logits, batch.targets)
    if kind == "silhouette":
        return silhouette_loss(logits, batch.targets)
    return keypoint_loss(logits, batch.targets, batch.weights)


def keypoint_loss(
    logits: Float[Tensor, "n 17 h w"], targets: Float[Tensor, "n 17 h w"], weights: Float[Tensor, "n 17"]
) -> Float[Tensor, ""]:
    """Cross-entropy between the Gaussian about each keypoint and the softmax over cells, averaged by weight."""
    log_share = logits.float().flatten(2).log_softmax(-1)
    each = -(targets.flatten(2) * log_share).sum(-1)
    return (each * weights).sum() / weights.sum().clamp_min(1e-6)


def centre_loss(logits: Float[Tensor, "n 1 h w"], targets: Float[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    """Penalty-reduced focal loss of CenterNet (Zhou et al., 2019, equation 1; alpha 2, beta 4), per person."""
    logits = logits.float()
    share = logits.sigmoid()
    log_on, log_off = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
    centre = targets >= 0.999
    on = (1 - share) ** 2 * log_on * centre
    off = (1 - targets) ** 4 * share**2 * log_off * ~centre
    return -(on.sum() + off.sum()) / centre.sum().clamp_min(len(logits) / 2)


def silhouette_loss(logits: Float[Tensor, "n 1 h w"], targets: Float[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    """Cross-entropy of the pixels, and one minus the batch's overlap (Dice, as in V-Net, 2016), which minds small people, too."""
    logits = logits.float()
    share = logits.sigmoid()
    overlap = 2 * (share * targets).sum() / (share.square().sum() + targets.square().sum()).clamp_min(1e-6)
    return nn.functional.binary_cross_entropy_with_logits(logits, targets) + 1 - overlap


def make_optimizers(network: nn.Module, rate: float, decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of transformer blocks, at twice the rate, and AdamW for the rest.

    Muon (Jordan et al., 2024) needs about half of AdamW's steps for the same loss here.
    """
    named = list(network.named_parameters())
    blocks = [p for name, p in named if p.ndim == 2 and ".encoder.layer." in name]
    rest = [p for name, p in named if not (p.ndim == 2 and ".encoder.layer." in name)]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate)]
    if blocks:
        matrices = [{"params": blocks}]
        optimizers.append(torch.optim.Muon(matrices, lr=2 * rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def _keypoint_batch(rows: KeypointRows, options: Augmentation, rng: torch.Generator) -> Batch:
    images, keypoints, visible = augment(
        to_tensor(rows.images),
        torch.from_numpy(rows.keypoints),
        torch.from_numpy(rows.visible),
        torch.from_numpy(rows.silhouettes).float()[:, None],
        options,
        rng,
    )
    h, w = images.shape[-2:]
    inside = (keypoints >= 0).all(-1) & (keypoints[..., 0] < w) & (keypoints[..., 1] < h)
    weights = inside * torch.where(visible, 1.0, HIDDEN_WEIGHT)
    return Batch(images, gaussian_targets(keypoints, h // STRIDE, w // STRIDE, STRIDE, SIGMA_CELLS), weights)


def _composites(rows: KeypointRows, n: int, seed: int) -> list[Composite]:
    rng = np.random.default_rng(seed)
    return [compose(rows, rng) for _ in range(n)]

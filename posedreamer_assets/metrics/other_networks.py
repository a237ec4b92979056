"""Image features of DINOv2 and CLIP, and what they say of generated images against reference images.

Inception learnt ImageNet's thousand classes, none of which is a person; DINOv2 learnt without labels and CLIP from captions,
and distances by their features agree better with what people see (Stein et al. 2023; Jayasumana et al. 2024). Figures are
labelled by the network: those of two networks are on different scales.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection, Dinov2Model

from posedreamer_assets import progress
from posedreamer_assets.config import NetworkConfig, QualityConfig
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.hub import model_folder
from posedreamer_assets.metrics.distances import (
    covered,
    density,
    fid_estimate,
    inside_manifold,
    kid_estimate,
    mean_estimate,
    mmd_estimate,
    share_estimate,
)
from posedreamer_assets.seeds import derive_seed

BATCH_SIZE = 8
DINOV2_PX = 224  # what its features are compared at; the checkpoints' own 518 cost five times as much
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class NetworkFeatures:
    """Features of one network: DINOv2's class token, or CLIP's image embedding.

    Images are resized to the network's square, bicubic with antialiasing, whole, as FID tools do.

    Args:
        cfg: kind and place of the checkpoint.

    Raises:
        MetricsError: no such checkpoint, or one of another network.
    """

    def __init__(self, cfg: NetworkConfig) -> None:
        folder = model_folder(cfg.path, cfg.revision, MetricsError)
        self.name = f"{cfg.kind} {Path(cfg.path).name}"
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = _loaded(Dinov2Model if cfg.kind == "dinov2" else CLIPVisionModelWithProjection, folder)
        self._network: Any = network.eval().to(self.device)
        self._of_clip = cfg.kind == "clip"
        self._side = self._network.config.image_size if self._of_clip else DINOV2_PX
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (CLIP if self._of_clip else IMAGENET))
        self._mean, self._std = mean, std

    @torch.inference_mode()
    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """One row for each image; one unit of progress for each."""
        found = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE]
            shown = self._shown(torch.tensor(batch, device=self.device))
            output = self._network(pixel_values=shown)
            found.append(
                (output.image_embeds if self._of_clip else output.last_hidden_state[:, 0]).float().cpu().numpy()
            )
            progress.advance(len(batch))
        return np.concatenate(found)

    def _shown(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float() / 255
        size = (self._side, self._side)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return (x - self._mean) / self._std


def compare_by(
    network: str,
    generated: Float32[np.ndarray, "n d"],
    reference: Float32[np.ndarray, "m d"],
    cfg: QualityConfig,
    seed: int,
) -> dict[str, Any]:
    """Figures by one network's features, as plain values with 95 % intervals over images.

    `frechet`: the distance of two Gaussians, as FID. `kd`: squared MMD with KID's kernel. `cmmd`: squared MMD with a
    Gaussian kernel of unit vectors, times 1000. `precision`, `recall`, `density`, `coverage`: of nearest neighbours.

    Raises:
        MetricsError: as `fid_estimate` and `inside_manifold`.
    """

    def rng(figure: str) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, f"{network} {figure}", "quality"))

    draws, k = cfg.bootstrap, cfg.neighbours
    found = {
        "frechet": fid_estimate(generated, reference, draws, rng("frechet")),
        "kd": kid_estimate(generated, reference, draws, rng("kd")),
        "cmmd": mmd_estimate(generated, reference, draws, rng("cmmd")),
        "precision": share_estimate(inside_manifold(generated, reference, k), draws, rng("precision")),
        "recall": share_estimate(inside_manifold(reference, generated, k), draws, rng("recall")),
        "density": mean_estimate(density(generated, reference, k), draws, rng("density")),
        "coverage": share_estimate(covered(generated, reference, k), draws, rng("coverage")),
    }
    return {name: dataclasses.asdict(estimate) for name, estimate in found.items()}


def _loaded(kind: Any, folder: Path) -> nn.Module:
    try:
        network, info = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise MetricsError(f"{folder}: not a checkpoint of {kind.__name__}: {str(error).splitlines()[0]}") from error
    # transformers fills missing weights with random ones and only warns.
    if unfit := sorted(str(key) for name in ("missing_keys", "mismatched_keys") for key in info[name]):
        raise MetricsError(f"{folder}: not a checkpoint of {kind.__name__}: no fitting weight for {unfit[0]}")
    return network

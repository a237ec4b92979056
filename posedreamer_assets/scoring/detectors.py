"""Keypoint detectors behind one protocol: ViTPose, the pocket heatmap network, and ONNX files.

A detector sees a whole image, or the labelled person's part of it (`crop: label`), finds the most prominent person there and
returns COCO's 17 keypoints in the image's pixels. Batches are padded to a fixed size, so that an image's keypoints do not
depend on its neighbours.
"""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from posedreamer_assets.config import DetectorConfig, ImageConfig, local_path
from posedreamer_assets.cores import cores_of, map_on_cores
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.hub import is_hub_name
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.fitting import GREY, Fitting, named
from posedreamer_assets.scoring.heatmaps import decode
from posedreamer_assets.scoring.networks import normalise
from posedreamer_assets.scoring.weights import (
    block_size,
    default_device,
    describe,
    folder_digest,
    folder_of,
    load_network,
)

KINDS = ("vitpose", "heatmap", "onnx")


@runtime_checkable
class KeypointDetector(Protocol):
    """Finds COCO's 17 keypoints of the most prominent person of each image."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    @property
    def digest(self) -> str:
        """Of everything that its results depend on."""
        ...

    def detect(
        self, images: UInt8[np.ndarray, "n h w 3"], boxes: Float[np.ndarray, "n 4"] | None = None
    ) -> Float[np.ndarray, "n 17 3"]:
        """Keypoints as x, y in pixels of the images, and confidence in 0..1.

        Args:
            images: RGB.
            boxes: of the labelled people: x, y, width, height, pixels. A detector of whole images ignores them.

        Raises:
            DetectorError: no boxes for a detector that is shown the labelled people alone.
        """
        ...


def load_detector(cfg: DetectorConfig, image: ImageConfig | None = None) -> KeypointDetector:
    """The configured detector; `image` is taken for symmetry with generators, any image size is accepted.

    Raises:
        DetectorError: an unknown kind, missing or damaged weights, or an ONNX file of an unknown layout.
    """
    del image
    if cfg.batch_size < 1:
        raise DetectorError(f"detector.batch_size must be at least 1, found {cfg.batch_size}")
    if cfg.kind == "vitpose":
        return _load_vitpose(cfg)
    if cfg.kind == "heatmap":
        return _load_heatmap(cfg)
    if cfg.kind == "onnx":
        # Imported here: onnxruntime is only needed by those who bring such a file.
        from posedreamer_assets.scoring.onnx_detector import OnnxDetector

        path = local_path(cfg.path)
        return OnnxDetector(path, batch_size=cfg.batch_size, providers=cfg.providers, crop=cfg.crop)
    raise DetectorError(f"unknown detector kind {cfg.kind!r}; known: {', '.join(KINDS)}")


class TorchDetector:
    """A heatmap network with fitted inputs (`fitting.py`), fixed batches and sub-pixel decoding.

    Args:
        network: images normalised by ImageNet's statistics to heatmaps (n, 17 or more, h, w); COCO's 17 come first.
        height: of the network's input, pixels. width: likewise.
        maps: `log-share`: softmax over cells gives the distribution of the keypoint; `peak`: Gaussian bumps whose
            height is the confidence, as published ViTPose models give.
        crop: see `DetectorConfig`.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        digest: str,
        *,
        height: int,
        width: int,
        maps: str,
        batch_size: int,
        crop: str = "whole",
    ) -> None:
        self.name, self.digest = named(name, digest, crop)
        self._fit = Fitting(crop, height, width, beyond=0 if maps == "peak" else GREY)
        self._network = network.eval().to(default_device())
        self._height, self._width, self._maps, self._batch_size = height, width, maps, block_size(batch_size)

    def detect(
        self, images: UInt8[np.ndarray, "n h w 3"], boxes: Float[np.ndarray, "n 4"] | None = None
    ) -> Float[np.ndarray, "n 17 3"]:
        """See `KeypointDetector.detect`."""
        fitted, maps = self._fit(images, boxes)
        found = np.zeros((len(images), 17, 3), np.float32)
        start = 0
        for maps_of_block in blocks(self._network, fitted, self._batch_size):
            points = self._decode(maps_of_block[:, :17])
            found[start : start + len(points)] = points
            start += len(points)
        for person, to_input in zip(found, maps, strict=True):
            person[:, :2] = to_input.to_image(person[:, :2])
        return found

    def _decode(self, maps: np.ndarray) -> np.ndarray:
        stride_x, stride_y = self._width / maps.shape[-1], self._height / maps.shape[-2]
        if self._maps == "log-share":
            return decode(maps, stride_x, stride_y)
        # DARK smooths the map with the training Gaussian before its logarithm is expanded; sigma 2 cells, half here.
        smooth = np.asarray(gaussian_filter(maps, sigma=(0, 0, 1.0, 1.0)), np.float32)
        found = decode(np.log(np.maximum(smooth, 1e-6)), stride_x, stride_y)
        found[..., 2] = maps.max((-2, -1)).clip(0, 1)
        return found


def blocks(
    network: nn.Module, images: UInt8[np.ndarray, "n h w 3"], batch_size: int
) -> Iterator[Float[np.ndarray, "n k h2 w2"]]:
    """Maps of `batch_size` images after the other, each block on one core of a CPU."""
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    cores = min(cores_of(next(network.parameters()).device), max(1, len(parts)))
    for maps in map_on_cores(lambda part: run_padded(network, part, batch_size), parts, cores):
        yield maps
        advance(len(maps))


@torch.no_grad()
def run_padded(
    network: nn.Module, images: UInt8[np.ndarray, "n h w 3"], batch_size: int
) -> Float[np.ndarray, "n k h2 w2"]:
    """Maps of at most `batch_size` images, computed in a batch of exactly that size."""
    device = next(network.parameters()).device
    padded = np.zeros((batch_size, *images.shape[1:]), np.uint8)
    padded[: len(images)] = images
    tensor = torch.from_numpy(padded).to(device).permute(0, 3, 1, 2).float().div_(255).contiguous()
    output = network(normalise(tensor))
    maps = output if isinstance(output, Tensor) else output.heatmaps
    return maps[: len(images)].float().cpu().numpy()


def _load_vitpose(cfg: DetectorConfig) -> TorchDetector:
    # Imported here: it takes seconds, which those who bring no ViTPose need not wait.
    from transformers import VitPoseForPoseEstimation

    folder = folder_of("vitpose", cfg.path, cfg.revision)
    try:
        loaded: Any = VitPoseForPoseEstimation.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        network, info = loaded
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DetectorError(f"{folder}: not a ViTPose checkpoint: {str(error).splitlines()[0]}") from error
    # transformers fills missing weights with random ones and only warns.
    unfit = sorted(str(k) for name in ("missing_keys", "mismatched_keys") for k in info[name])
    if unfit:
        raise DetectorError(f"{folder}: not a ViTPose checkpoint: no fitting weight for {unfit[0]}")
    keypoints = network.config.num_labels or 0
    if keypoints < 17:
        raise DetectorError(f"{folder}: gives {keypoints} keypoints, expected COCO's 17 first")
    height, width = network.backbone.config.image_size
    digest = folder_digest(folder / "config.json", folder / "detector.json", folder / "model.safetensors")
    return TorchDetector(
        _CocoExpert(network) if network.backbone.config.num_experts > 1 else network,
        f"vitpose {cfg.path if is_hub_name(cfg.path) else folder.name}",
        digest,
        height=height,
        width=width,
        maps=describe(folder).get("maps", "peak"),
        batch_size=cfg.batch_size,
        crop=cfg.crop,
    )


class _CocoExpert(nn.Module):
    """ViTPose++: one network with an expert for each data set that it learnt from, COCO's first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h2 w2"]:
        coco = torch.zeros(len(images), dtype=torch.long, device=images.device)
        return self.network(images, dataset_index=coco).heatmaps


def _load_heatmap(cfg: DetectorConfig) -> TorchDetector:
    folder = folder_of("heatmap", cfg.path)
    size = describe(folder).get("size", 128)
    if not isinstance(size, int) or size < 32 or size % 32:
        raise DetectorError(f"{folder / 'detector.json'}: size must be a multiple of 32, found {size!r}")
    return TorchDetector(
        load_network("heatmap", folder),
        f"heatmap {folder.name}",
        folder_digest(folder / "detector.json", folder / "model.safetensors"),
        height=size,
        width=size,
        maps="log-share",
        batch_size=cfg.batch_size,
        crop=cfg.crop,
    )

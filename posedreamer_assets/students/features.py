"""The frozen backbone: features of images, computed once and cached, so that many students are trained in seconds each."""

import threading
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from posedreamer_assets.cores import cores_of, map_on_cores
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.letterbox import letterbox
from posedreamer_assets.scoring.networks import HeatmapNet, normalise
from posedreamer_assets.scoring.weights import CPU_BLOCK, folder_digest, folder_of, load_network

SIDE = 128  # pixels of the network's input
CHANNELS, CELLS = 128, 8
KEYPOINTS = 17
WIDTH = CHANNELS * CELLS * CELLS + 3 * KEYPOINTS
"""Numbers per image: the map, then x, y (shares of the image) and peak share of each keypoint."""


class Backbone:
    """A detector's weights, of which a map of 8 x 8 cells and the keypoints are taken; on the CPU, whatever else there is.

    Args:
        init: a folder of weights of a heatmap network, `shipped:NAME`.
    """

    def __init__(self, init: str) -> None:
        folder = folder_of("heatmap", init)
        self.digest = folder_digest(folder / "detector.json", folder / "model.safetensors")
        self._network = cast(HeatmapNet, load_network("heatmap", folder))
        self._seen = threading.local()  # each core has a block of its own
        self._network.join3.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, given: object, out: Tensor) -> None:
        self._seen.map = out

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float16[np.ndarray, "n width"]:
        """Features of images; an image's are the same whatever images are beside it, and however many cores there are."""
        fitted, _ = letterbox(images, SIDE, SIDE)
        parts = [fitted[start : start + CPU_BLOCK] for start in range(0, len(images), CPU_BLOCK)]
        found = [np.empty((0, WIDTH), np.float16)]
        for features in map_on_cores(self._of, parts, cores_of(torch.device("cpu"))):
            found.append(features)
            advance(len(features))
        return np.concatenate(found)

    def _of(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float16[np.ndarray, "n width"]:
        padded = np.concatenate([images, np.zeros((CPU_BLOCK - len(images), *images.shape[1:]), np.uint8)])
        pixels = torch.from_numpy(padded).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            points = soft_argmax(self._network(normalise(pixels)))
            features = torch.cat([self._seen.map.flatten(1), points.flatten(1)], 1)
        return features.half().numpy()[: len(images)]


def soft_argmax(logits: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k 3"]:
    """Mean place of each map's mass, x and y as shares of its sides, and the share of its largest cell."""
    n, k, h, w = logits.shape
    share = logits.flatten(2).softmax(-1).view(n, k, h, w)
    x = (torch.arange(w, dtype=logits.dtype) + 0.5) / w
    y = (torch.arange(h, dtype=logits.dtype) + 0.5) / h
    return torch.stack([(share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1), share.flatten(2).amax(-1)], -1)

"""Silhouettes of people by the pocket network that `posedreamer train-pocket` trains on renders."""

import numpy as np
from jaxtyping import Bool, UInt8
from torch import nn

from posedreamer_assets.config import SegmenterConfig
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.scoring.detectors import blocks
from posedreamer_assets.scoring.letterbox import letterbox
from posedreamer_assets.scoring.weights import (
    block_size,
    default_device,
    describe,
    folder_digest,
    folder_of,
    load_network,
)

KIND = "silhouette"


class PocketSegmenter:
    """Draws the people of images.

    Args:
        network: pixels to logits. name: for people. digest: of everything that its results depend on.
        size: side of the pictures that it learnt from, to which others are fitted.
        batch_size: images that go through the network together.
    """

    def __init__(self, network: nn.Module, name: str, digest: str, *, size: int, batch_size: int) -> None:
        self.name, self.digest = name, digest
        self._network = network.eval().to(default_device())
        self._size, self._batch_size = size, block_size(batch_size)

    def draw(self, images: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n h w"]:
        """Where any person is seen."""
        drawn = np.zeros(images.shape[:3], bool)
        fitted, place = letterbox(images, self._size, self._size)
        first = 0
        for logits in blocks(self._network, fitted, self._batch_size):
            for i, plane in enumerate(logits[:, 0], start=first):
                drawn[i] = place.plane_of_image(plane, *images.shape[1:3]) > 0
            first += len(logits)
        return drawn


def load_pocket_segmenter(cfg: SegmenterConfig) -> PocketSegmenter:
    """The one in a folder, or the shipped one.

    Raises:
        DetectorError: missing or damaged weights, or those of another network.
    """
    folder = folder_of("segmenter", cfg.path)
    described = describe(folder)
    kind, size = described.get("kind"), described.get("size", 128)
    if kind != KIND or not isinstance(size, int) or size % 32:
        raise DetectorError(f"{folder / 'detector.json'}: kind {kind!r} and size {size!r} are no segmenter's")
    return PocketSegmenter(
        load_network(KIND, folder),
        f"pocket {folder.name}",
        folder_digest(folder / "detector.json", folder / "model.safetensors"),
        size=size,
        batch_size=cfg.batch_size,
    )

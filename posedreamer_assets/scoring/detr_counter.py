"""Counting people in photographs by an object detector of transformers: RT-DETR and others of its kind.

Such networks predict a set in which no object comes twice, so that nothing overlapping is dropped. Each image goes through
the checkpoint's own preprocessing.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import nn
from transformers import AutoModelForObjectDetection

from posedreamer_assets.config import CounterConfig
from posedreamer_assets.hub import is_hub_name
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.published import load_published, person_class
from posedreamer_assets.scoring.weights import block_size, default_device, folder_digest, folder_of

MIN_SCORE = 0.5


class DetrCounter:
    """Counts the boxes of class `person` whose score exceeds a threshold.

    Args:
        network: `AutoModelForObjectDetection`. processor: its preprocessing.
        name, digest: see `PersonCounter`.
        person: the class's index.
        threshold: 0..1.
        batch_size: images that go through the network together; the last block is filled up.
    """

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        name: str,
        digest: str,
        *,
        person: int,
        threshold: float,
        batch_size: int,
    ) -> None:
        self.name, self.digest, self.threshold = name, digest, threshold
        self._network, self._processor = network.eval().to(default_device()), processor
        self._person, self._batch_size = person, block_size(batch_size)

    @torch.no_grad()
    def count(self, images: UInt8[np.ndarray, "n h w 3"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """See `PersonCounter.count`."""
        counts, scores = np.zeros(len(images), np.int64), np.zeros(len(images), np.float32)
        for start in range(0, len(images), self._batch_size):
            part = images[start : start + self._batch_size]
            block = [*part, *[np.zeros_like(images[0])] * (self._batch_size - len(part))]
            shown = self._processor(images=block, return_tensors="pt", input_data_format="channels_last")
            found = self._network(**shown.to(default_device()))
            sizes = [images.shape[1:3]] * self._batch_size
            boxes = self._processor.post_process_object_detection(found, threshold=0.0, target_sizes=sizes)
            for i, one in enumerate(boxes[: len(part)], start=start):
                people = one["scores"][one["labels"] == self._person].float().cpu().numpy()
                counts[i], scores[i] = int((people > self.threshold).sum()), people.max(initial=0.0)
            advance(len(part))
        return counts, scores


def load_detr_counter(cfg: CounterConfig) -> DetrCounter:
    """From a folder, or from a name on the model hub.

    Raises:
        DetectorError: no such model, missing or damaged weights, or a model without the class `person`.
    """
    folder = folder_of("detr", cfg.path, cfg.revision)
    network, processor = load_published(AutoModelForObjectDetection, folder, "an object detector")
    person = person_class(network.config.id2label, folder, "count people")
    return DetrCounter(
        network,
        processor,
        f"{network.config.model_type} {cfg.path if is_hub_name(cfg.path) else folder.name}",
        folder_digest(*(folder / name for name in ("config.json", "preprocessor_config.json", "model.safetensors"))),
        person=person,
        threshold=MIN_SCORE if cfg.threshold is None else cfg.threshold,
        batch_size=cfg.batch_size,
    )

"""Counting people in photographs by an object detector of transformers: RT-DETR and others of its kind.

Such networks predict a set in which no object comes twice, so that nothing overlapping is dropped. Each image goes through
the checkpoint's own preprocessing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from torch import nn
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from posedreamer_assets.config import CounterConfig
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.hub import is_hub_name
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.weights import block_size, default_device, folder_digest, folder_of

MIN_SCORE = 0.5
PERSON = "person"


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
    try:
        loaded: Any = AutoModelForObjectDetection.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        network, info = loaded
        processor = AutoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise DetectorError(
            f"{folder}: not an object detector of transformers: {str(error).splitlines()[0]}"
        ) from error
    # transformers fills missing weights with random ones and only warns.
    unfit = sorted(str(k) for kind in ("missing_keys", "mismatched_keys") for k in info[kind])
    if unfit:
        raise DetectorError(f"{folder}: not an object detector of transformers: no fitting weight for {unfit[0]}")
    person = _person_class(network.config.id2label, folder)
    return DetrCounter(
        network,
        processor,
        f"{network.config.model_type} {cfg.path if is_hub_name(cfg.path) else folder.name}",
        folder_digest(*(folder / name for name in ("config.json", "preprocessor_config.json", "model.safetensors"))),
        person=person,
        threshold=MIN_SCORE if cfg.threshold is None else cfg.threshold,
        batch_size=cfg.batch_size,
    )


def _person_class(names: dict[int, str], folder: Path) -> int:
    for index, name in names.items():
        if name.lower() == PERSON:
            return int(index)
    raise DetectorError(f"{folder}: knows no class {PERSON!r}, so that it cannot count people")

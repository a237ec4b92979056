"""Silhouettes of people by a segmenter of transformers.

Networks that say for each pixel what it shows (SegFormer, BEiT, UperNet, DPT), and those that predict a set of masks with
classes (Mask2Former, MaskFormer), of whatever they learnt from, as long as it has a class `person`.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import nn
from transformers import AutoConfig, AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

from posedreamer_assets.config import SegmenterConfig
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.hub import is_hub_name
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.published import load_published, person_class
from posedreamer_assets.scoring.weights import block_size, default_device, folder_digest, folder_of

OF_MASKS = ("mask2former", "maskformer")
MIN_SCORE = 0.5  # of a mask: networks of things alone have no class for what is behind people


class PersonSegmenter:
    """Draws the people of images.

    Args:
        network: for semantic or universal segmentation. processor: its preprocessing.
        name: for people. digest: of everything that its results depend on.
        person: the class's index.
        batch_size: images that go through the network together; the last block is filled up.
    """

    def __init__(
        self, network: nn.Module, processor: Any, name: str, digest: str, *, person: int, batch_size: int
    ) -> None:
        self.name, self.digest = name, digest
        self._network, self._processor = network.eval().to(default_device()), processor
        self._person, self._batch_size = person, block_size(batch_size)

    @torch.no_grad()
    def draw(self, images: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n h w"]:
        """Where any person is seen."""
        drawn = np.zeros(images.shape[:3], bool)
        for start in range(0, len(images), self._batch_size):
            part = images[start : start + self._batch_size]
            block = [*part, *[np.zeros_like(images[0])] * (self._batch_size - len(part))]
            shown = self._processor(images=block, return_tensors="pt", input_data_format="channels_last")
            shown = {name: value.to(default_device()) for name, value in shown.items() if name != "pixel_mask"}
            found = self._network(**shown)
            sizes = [tuple(images.shape[1:3])] * self._batch_size
            maps = self._processor.post_process_semantic_segmentation(
                found, target_sizes=sizes, return_segmentation_scores=True
            )
            of_masks = hasattr(found, "masks_queries_logits")
            for i, one in enumerate(maps[: len(part)], start=start):
                person = one.segmentation == self._person
                if of_masks:
                    person = person & (one.segmentation_scores[self._person] > MIN_SCORE)
                drawn[i] = person.cpu().numpy()
            advance(len(part))
        return drawn


def load_published_segmenter(cfg: SegmenterConfig) -> PersonSegmenter:
    """From a folder, or from a name on the model hub.

    Raises:
        DetectorError: see `load_segmenter`.
    """
    folder = folder_of("segmenter", cfg.path, cfg.revision)
    try:
        kind = AutoConfig.from_pretrained(folder).model_type
    except (OSError, ValueError, KeyError) as error:
        raise DetectorError(f"{folder}: not a segmenter of transformers: {str(error).splitlines()[0]}") from error
    auto = AutoModelForUniversalSegmentation if kind in OF_MASKS else AutoModelForSemanticSegmentation
    network, processor = load_published(auto, folder, "a segmenter")
    return PersonSegmenter(
        network,
        processor,
        f"{kind} {cfg.path if is_hub_name(cfg.path) else folder.name}",
        folder_digest(*(folder / name for name in ("config.json", "preprocessor_config.json", "model.safetensors"))),
        person=person_class(network.config.id2label, folder, "draw people"),
        batch_size=cfg.batch_size,
    )

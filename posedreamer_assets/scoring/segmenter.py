"""Silhouettes of people in images, and how well they cover the body's own."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from posedreamer_assets.config import SegmenterConfig, local_path
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.hub import is_hub_name


@runtime_checkable
class Segmenter(Protocol):
    """Draws the people of images. `name`: for people; `digest`: of everything that its results depend on."""

    name: str
    digest: str

    def draw(self, images: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n h w"]:
        """Where any person is seen."""
        ...


def load_segmenter(cfg: SegmenterConfig) -> Segmenter:
    """The shipped one or one of such weights, one of transformers from a folder or the model hub, or an ONNX file.

    Raises:
        DetectorError: no such model, missing or damaged weights, no segmenter, one without the class `person`, or a batch size
            below 1.
    """
    if cfg.batch_size < 1:
        raise DetectorError(f"segmenter.batch_size must be at least 1, found {cfg.batch_size}")
    # Each is imported where it is meant: those of transformers take seconds.
    if cfg.path.endswith(".onnx"):
        from posedreamer_assets.scoring.onnx_segmenter import OnnxSegmenter

        return OnnxSegmenter(Path(cfg.path).expanduser())
    if not is_hub_name(cfg.path) and (local_path(cfg.path) / "detector.json").is_file():
        from posedreamer_assets.scoring.pocket_segmenter import load_pocket_segmenter

        return load_pocket_segmenter(cfg)
    from posedreamer_assets.scoring.published_segmenter import load_published_segmenter

    return load_published_segmenter(cfg)


def silhouette_iou(found: Bool[np.ndarray, "n h w"], truth: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, " n"]:
    """Intersection over union of each image's silhouettes; NaN where the true one is empty."""
    shared, either = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
    return np.where(truth.any((1, 2)), shared / np.maximum(either, 1), np.nan)

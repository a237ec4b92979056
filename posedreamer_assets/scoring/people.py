"""Counting people, so that crowded and empty images can be rejected."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import nn

from posedreamer_assets.config import CounterConfig, local_path
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.scoring.detectors import blocks
from posedreamer_assets.scoring.letterbox import letterbox
from posedreamer_assets.scoring.peaks import count_peaks
from posedreamer_assets.scoring.weights import (
    block_size,
    default_device,
    describe,
    folder_digest,
    folder_of,
    load_network,
)

MIN_SCORE = 0.3  # of a candidate of an ONNX file


@runtime_checkable
class PersonCounter(Protocol):
    """Counts the people of each image."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    @property
    def digest(self) -> str:
        """Of everything that its results depend on."""
        ...

    def count(self, images: UInt8[np.ndarray, "n h w 3"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Number of people, and the confidence (0..1) that there is at least one."""
        ...


class CentreCounter:
    """Counts peaks of a person-centre heatmap."""

    def __init__(
        self, network: nn.Module, name: str, digest: str, *, size: int, threshold: float, batch_size: int
    ) -> None:
        self.name, self.digest, self.threshold = name, digest, threshold
        self._network = network.eval().to(default_device())
        self._size, self._batch_size = size, block_size(batch_size)

    def count(self, images: UInt8[np.ndarray, "n h w 3"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """See `PersonCounter.count`."""
        fitted, _ = letterbox(images, self._size, self._size)
        found = [count_peaks(maps, self.threshold) for maps in blocks(self._network, fitted, self._batch_size)]
        counts = np.concatenate([np.zeros(0, np.int64), *(count for count, _ in found)])
        return counts, np.concatenate([np.zeros(0, np.float32), *(score for _, score in found)])


class OnnxCounter:
    """Counts the candidates of a multi-person ONNX pose detector whose score exceeds a threshold.

    Candidates of YOLO-pose files overlap: one of a pair whose boxes share more than half of their union is dropped.
    """

    def __init__(
        self, path: Path, threshold: float = MIN_SCORE, *, batch_size: int = 1, providers: Sequence[str] = ()
    ) -> None:
        from posedreamer_assets.scoring.onnx_detector import OnnxDetector

        self._detector = OnnxDetector(path, batch_size=batch_size, providers=providers)
        if self._detector.layout in ("movenet-single", "simcc"):
            raise DetectorError(f"{path}: a {self._detector.layout} model sees one person; it cannot count")
        self.name, self.digest, self.threshold = self._detector.name, self._detector.digest, threshold

    def count(self, images: UInt8[np.ndarray, "n h w 3"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """See `PersonCounter.count`."""
        people = self._detector.detect_people(images)
        counts = [_distinct(p[p[:, 17, 2] > self.threshold]) for p in people]
        scores = [p[:, 17, 2].max(initial=0.0) for p in people]
        return np.array(counts, np.int64), np.array(scores, np.float32)


def _distinct(people: Float[np.ndarray, "people 18 3"]) -> int:
    """How many are left when overlapping candidates are dropped, best first."""
    kept: list[np.ndarray] = []
    for i in np.argsort(-people[:, 17, 2], kind="stable"):
        points = people[i, :17, :2]
        box = np.concatenate([points.min(0), points.max(0)])
        if all(_overlap(box, other) <= 0.5 for other in kept):
            kept.append(box)
    return len(kept)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    side = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    shared = side.prod()
    return float(shared / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared, 1e-9))


def load_counter(cfg: CounterConfig) -> PersonCounter:
    """The shipped counter, the one in a folder, a multi-person ONNX pose detector, or an object detector of transformers.

    Raises:
        DetectorError: missing or damaged weights, a file that cannot count, or a batch size below 1.
    """
    if cfg.batch_size < 1:
        raise DetectorError(f"counter.batch_size must be at least 1, found {cfg.batch_size}")
    if cfg.kind == "detr":
        # Imported here: it takes seconds, which those who bring none need not wait.
        from posedreamer_assets.scoring.detr_counter import load_detr_counter

        return load_detr_counter(cfg)
    if cfg.kind == "onnx" or (cfg.kind == "auto" and cfg.path.endswith(".onnx")):
        threshold = MIN_SCORE if cfg.threshold is None else cfg.threshold
        return OnnxCounter(local_path(cfg.path), threshold, batch_size=cfg.batch_size, providers=cfg.providers)
    folder = folder_of("counter", cfg.path)
    described = describe(folder)
    size, threshold = described.get("size", 128), described.get("threshold", 0.35)
    if not isinstance(size, int) or size % 32 or not isinstance(threshold, float):
        raise DetectorError(f"{folder / 'detector.json'}: bad size {size!r} or threshold {threshold!r}")
    return CentreCounter(
        load_network("counter", folder),
        f"centre network {folder.name}",
        folder_digest(folder / "detector.json", folder / "model.safetensors"),
        size=size,
        threshold=threshold if cfg.threshold is None else cfg.threshold,
        batch_size=cfg.batch_size,
    )

"""A generator that needs neither weights nor PyTorch, writes down what it does, and fails in the ways that captions ask for.

`model_path` is a folder; its file `log.md`, which like a model's card is no part of the weights, has a line for each load and
each row painted, whoever did it. `refuses.md` and `slow.md` beside it do as these words do in captions.
"""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.errors import BackendError
from posedreamer_assets.progress import advance

BACKEND = "counting"
LOG = "log.md"
ADAPTER = "pytorch_lora_weights.safetensors"
IMAGE = ImageConfig(width=8, height=8)
SLOW_S = 0.2
LARGEST_BATCH = 3  # of what has the caption "large"


class CountingGenerator:
    """Each pixel of an image is a sum of the control's, the seed and the caption's length."""

    name = "counting:test"
    digest = "0123456789abcdef"

    def __init__(self, cfg: GeneratorConfig) -> None:
        self.folder, self.batch_size = Path(str(cfg.model_path)), cfg.batch_size
        if not self.folder.is_dir():
            raise BackendError(f"{self.folder}: no such weights")
        self._write("load", 0)

    @classmethod
    def load(cls, cfg: GeneratorConfig, image: ImageConfig) -> "CountingGenerator":
        return cls(cfg)

    def generate(
        self,
        controls: np.ndarray,
        captions: list[str],
        seeds: list[int],
        *,
        adapter_path: Path | None = None,
        control_strength: float = 1.0,
    ) -> np.ndarray:
        extra = 0
        if adapter_path is not None:
            file = adapter_path / ADAPTER if adapter_path.is_dir() else adapter_path
            extra = len(file.read_bytes())
        images = np.empty_like(controls)
        for row, (caption, seed) in enumerate(zip(captions, seeds, strict=True)):
            self._misbehave(caption, seed)
            amount = seed + 7 * len(caption) + extra + round(100 * control_strength)
            images[row] = (controls[row].astype(np.int64) + amount) % 256
            self._write("row", seed)
            advance()
        return images

    def _misbehave(self, caption: str, seed: int) -> None:
        caption += "".join(word for word in ("refuses", "slow") if (self.folder / f"{word}.md").exists())
        if "slow" in caption:
            time.sleep(SLOW_S)
        if "refuses" in caption:
            raise BackendError("this caption is refused")
        if "bug" in caption:
            raise ValueError("a number that is none")
        if "large" in caption and int(self.batch_size) > LARGEST_BATCH:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory.\nMore of it.")
        if "CUDA" in caption and self._first("cuda"):
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nMore of it.")
        if "killed always" in caption or ("killed once" in caption and self._first(f"killed-{seed}")):
            os.kill(os.getpid(), signal.SIGKILL)

    def _first(self, name: str) -> bool:
        """Whether nobody has been here before, in any process."""
        try:
            (self.folder / f"{name}.md").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _write(self, what: str, seed: int) -> None:
        place = os.environ.get("CUDA_VISIBLE_DEVICES", "none") or "empty"
        with (self.folder / LOG).open("a") as file:
            file.write(f"{what} {os.getpid()} {seed} {os.environ.get('OMP_NUM_THREADS')} {place}\n")


def register(patch: pytest.MonkeyPatch) -> None:
    """Make `generator.backend` `counting` known to this process; workers are told by it."""
    from posedreamer_assets.diffusion.generator import BACKENDS

    patch.setitem(BACKENDS, BACKEND, (__name__, CountingGenerator.__name__))


def config(folder: Path, **changes: object) -> GeneratorConfig:
    """A generator that logs in this folder."""
    return GeneratorConfig(**{"backend": BACKEND, "model_path": str(folder), "device": "cpu", **changes})  # type: ignore[arg-type]


def adapter(folder: Path) -> Path:
    """A folder with what stands for an adapter."""
    (folder / ADAPTER).write_bytes(b"adapter")
    return folder


def forget(folder: Path) -> None:
    """Remove everything that was logged, so that a test counts its own alone."""
    for file in folder.iterdir():
        if file.is_file():
            file.unlink()


def log(folder: Path, what: str) -> list[list[str]]:
    """What was logged, in order: process, seed, threads and visible GPUs of each."""
    file = folder / LOG
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [line[1:] for line in lines if line[0] == what]


def loads(folder: Path) -> int:
    """How often a generator was loaded."""
    return len(log(folder, "load"))


def painted(folder: Path) -> Counter[int]:
    """How often the row of each seed was painted to its end."""
    return Counter(int(line[1]) for line in log(folder, "row"))


def rows(count: int, caption: str = "a person", first_seed: int = 0) -> tuple[np.ndarray, list[str], list[int]]:
    """Arguments of `generate`."""
    shape = (count, IMAGE.height, IMAGE.width, 3)
    controls = np.random.default_rng(first_seed).integers(0, 256, shape, dtype=np.uint8)
    return controls, [caption] * count, list(range(first_seed, first_seed + count))

"""What all backends on diffusers' pipelines share: blocks of rows, per-row noise, devices, adapters."""

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_log
from jaxtyping import UInt8
from safetensors import SafetensorError
from transformers.utils import logging as transformers_log

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.cores import cores_of, map_on_cores
from posedreamer_assets.diffusion.adapters import AdapterSlot
from posedreamer_assets.digests import digest, file_digest, folder_digest
from posedreamer_assets.errors import BackendError
from posedreamer_assets.progress import advance
from posedreamer_assets.training.precision import cpu_multiplies_bfloat16

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PipelineGenerator(ABC):
    """A diffusers pipeline as a `Generator`.

    Rows are run in blocks of one size, the last one filled up with copies of its last row, so that every row meets the
    same matrix shapes whatever the number of rows. On a CPU the block is a single row: larger ones are not faster, and
    a row's bits then depend on that row alone. Where a backend allows it, each core of a CPU paints rows of its own:
    two cores are then 1.8 times as fast as one, and 1.3 times where both work on the same row.
    """

    rows_in_parallel: ClassVar[bool] = False  # whether several threads may use the pipeline's networks at a time

    def __init__(self, pipeline: DiffusionPipeline, cfg: GeneratorConfig, image: ImageConfig, weights: str) -> None:
        self.pipeline: Any = pipeline
        self.cfg, self.image = cfg, image
        self.device = resolve_device(cfg.device)
        self._digest = weights
        self.pipeline.set_progress_bar_config(disable=True)
        self.adapter = AdapterSlot(self.pipeline, self.network_name)

    @property
    @abstractmethod
    def network_name(self) -> str:
        """The pipeline's denoising network: `transformer` or `unet`."""

    @property
    def name(self) -> str:
        """Backend and model, for people."""
        return f"{self.cfg.backend}:{Path(self.cfg.model_path).name if self.cfg.model_path else 'shipped'}"

    @property
    def digest(self) -> str:
        """Digest of the weights."""
        return self._digest

    @property
    def block_size(self) -> int:
        """Rows that go through the pipeline together."""
        return 1 if self.device.type == "cpu" else self.cfg.batch_size

    @property
    def network(self) -> torch.nn.Module:
        """The denoising network."""
        return getattr(self.pipeline, self.network_name)

    @abstractmethod
    def run_block(
        self,
        pipeline: Any,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        noise: list[torch.Generator],
        control_strength: float,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Images of one block of rows, by this pipeline or a copy of it."""

    def generate(
        self,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        seeds: list[int],
        *,
        adapter_path: Path | None = None,
        control_strength: float = 1.0,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """See `Generator.generate`."""
        self._check(controls, captions, seeds)
        self.adapter.use(adapter_path)
        images = np.empty_like(controls)
        blocks = range(0, len(controls), self.block_size)

        own = threading.local()

        def take_pipeline() -> None:
            # The networks are shared; the scheduler counts steps, which two threads may not do with one.
            own.pipeline = copy.copy(self.pipeline)
            own.pipeline.scheduler = copy.deepcopy(self.pipeline.scheduler)

        @torch.no_grad()
        def paint(first: int) -> np.ndarray:
            rows = [min(first + i, len(controls) - 1) for i in range(self.block_size)]
            noise = [torch.Generator().manual_seed(seeds[r]) for r in rows]
            return self.run_block(own.pipeline, controls[rows], [captions[r] for r in rows], noise, control_strength)

        cores = cores_of(self.device) if self.rows_in_parallel else 1
        for first, painted in zip(blocks, map_on_cores(paint, blocks, cores, take_pipeline), strict=True):
            kept = min(self.block_size, len(controls) - first)
            images[first : first + kept] = painted[:kept]
            advance(kept)
        return images

    def _check(self, controls: np.ndarray, captions: list[str], seeds: list[int]) -> None:
        if not len(controls) == len(captions) == len(seeds):
            raise BackendError(f"{len(controls)} control images, {len(captions)} captions and {len(seeds)} seeds")
        size = (self.image.height, self.image.width, 3)
        if controls.dtype != np.uint8 or controls.shape[1:] != size:
            raise BackendError(
                f"control images: expected uint8 (n, {str(size)[1:]}, found {controls.dtype} {controls.shape}"
            )


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU.

    Raises:
        BackendError: a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"generator.device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype of a configured name; `auto` is bfloat16 where the device multiplies in it, else float32.

    Raises:
        BackendError: another name than auto, float32, bfloat16 or float16.
    """
    if name == "auto":
        return torch.bfloat16 if device.type != "cpu" or cpu_multiplies_bfloat16() else torch.float32
    if name not in DTYPES:
        raise BackendError(f"generator.dtype: expected one of auto, {', '.join(DTYPES)}, found {name!r}")
    return DTYPES[name]


def weights_digest(*sources: str | Path | None) -> str:
    """Digest of local files and folders by content, and of names and revisions on a model hub as they are."""
    return digest([None if source is None else _source_digest(str(source)) for source in sources])


def _source_digest(source: str) -> str:
    path = Path(source).expanduser()
    if path.is_dir():
        return folder_digest(path)
    return file_digest(path) if path.is_file() else source


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn what diffusers, transformers and safetensors raise about bad weights into a BackendError naming them.

    Their own progress bars are off meanwhile: progress is shown by the sink of `progress.watching` alone.
    """
    try:
        diffusers_log.disable_progress_bar()
        transformers_log.disable_progress_bar()
        yield
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, NotImplementedError, SafetensorError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise BackendError(f"{what} could not be loaded: {type(error).__name__}: {first_line}") from error
    finally:
        diffusers_log.enable_progress_bar()
        transformers_log.enable_progress_bar()

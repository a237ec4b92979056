"""A generator and the rows that it is given, in the process that paints: loading, and running out of memory.

A worker imports PyTorch with its generator and not before.
"""

import gc
import importlib
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.engine.protocol import About, Job
from posedreamer_assets.errors import BackendError

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.generator import Generator


@dataclass(frozen=True)
class Model:
    """A generator to be loaded.

    Attributes:
        cfg: the generator's section.
        image: the size of its images.
        backend: module and class behind `cfg.backend` where the job comes from, which may have registered one of its own.
    """

    cfg: GeneratorConfig
    image: ImageConfig
    backend: tuple[str, str]

    @classmethod
    def of(cls, cfg: GeneratorConfig, image: ImageConfig) -> "Model":
        """As this process knows it.

        Raises:
            BackendError: an unknown backend.
        """
        from posedreamer_assets.diffusion.generator import backend_of

        return cls(cfg, image, backend_of(cfg))

    def load(self) -> "Generator":
        """Load it here.

        Raises:
            BackendError: weights that are missing or do not fit.
        """
        module, name = self.backend
        return getattr(importlib.import_module(module), name).load(self.cfg, self.image)


class Painter:
    """Paints jobs with one generator, which is loaded when it is first needed and kept."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._generator: "Generator | None" = None

    @property
    def generator(self) -> "Generator":
        """The loaded generator.

        Raises:
            BackendError: it cannot be loaded.
        """
        if self._generator is None:
            self._generator = self._model.load()
        return self._generator

    def about(self) -> About:
        """What the generator is."""
        return About(self.generator.name, self.generator.digest)

    def paint(self, job: Job) -> np.ndarray:
        """The images of a job; where the GPU's memory is too small, again with half of the batch, until one row is left.

        Backends on diffusers' pipelines do so by themselves, without being loaded again.

        Raises:
            BackendError: as `Generator.generate`, or a GPU whose memory is too small for a single image.
        """
        while True:
            try:
                return self._generate(job)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)

    def _generate(self, job: Job) -> np.ndarray:
        strength = job.control_strength
        return self.generator.generate(
            job.controls, job.captions, job.seeds, adapter_path=job.adapter_path, control_strength=strength
        )

    def _halve(self, error: RuntimeError) -> None:
        loaded = getattr(self._generator, "cfg", None)
        cfg = (
            loaded if isinstance(loaded, GeneratorConfig) else self._model.cfg
        )  # of precision auto, the one that was chosen
        batch = self._model.cfg.block
        if batch <= 1 or self._generator is None:
            first = str(error).partition("\n")[0]
            what = "a single image" if self._generator else "the generator, see posedreamer doctor"
            raise BackendError(f"the GPU's memory is too small for {what}: {first}") from error
        error.__traceback__ = None  # its frames hold the generator
        self.unload()
        self._model = replace(self._model, cfg=replace(cfg, batch_size=batch // 2))

    def unload(self) -> None:
        """Give the generator's memory back, also that which torch keeps for later."""
        self._generator = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the GPU's memory was too small."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def breaks_the_process(error: BaseException) -> bool:
    """Whether CUDA is of no more use to this process after such an error."""
    return isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "CUDA driver error"))

"""The protocol behind which every image generator stands, and the choice among them."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.flux import FluxGenerator
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.diffusion.sdxl import SdxlGenerator
from posedreamer_assets.errors import BackendError


@runtime_checkable
class Generator(Protocol):
    """Paints an image over each control image."""

    @property
    def name(self) -> str:
        """Backend and model, for people."""
        ...

    @property
    def digest(self) -> str:
        """Digest of all weights but those of a DPO adapter."""
        ...

    def generate(
        self,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        seeds: list[int],
        *,
        adapter_path: Path | None = None,
        control_strength: float = 1.0,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """One image per control image, which depends on that row's control, caption and seed alone.

        Args:
            controls: control images.
            captions: one per control image.
            seeds: one per control image; the row's noise is drawn from a generator with this seed.
            adapter_path: a DPO adapter (LoRA safetensors file, or a folder with one) to add to the model.
            control_strength: how much the control image says; 0 is the same as a black one.

        Raises:
            BackendError: inputs of different lengths or of the wrong size, or an adapter that does not fit.
        """
        ...


def load_generator(cfg: GeneratorConfig, image: ImageConfig) -> Generator:
    """Load the configured backend.

    Raises:
        BackendError: an unknown backend, or weights that are missing or do not fit.
    """
    if cfg.backend == "pocket":
        return PocketGenerator.load(cfg, image)
    if cfg.backend == "flux":
        return FluxGenerator.load(cfg, image)
    if cfg.backend == "sdxl":
        return SdxlGenerator.load(cfg, image)
    raise BackendError(f"generator.backend: expected pocket, flux or sdxl, found {cfg.backend!r}")

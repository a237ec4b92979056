"""The protocols behind which image generators stand, and the choice among them.

A new backend is one file with a class that fulfils `Generator` and has a classmethod `load(cfg, image)`, and one line in
`BACKENDS`. If it also fulfils `FlowModel`, Flow-DPO aligns it.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.errors import BackendError

if TYPE_CHECKING:  # peft and diffusers take seconds to import
    from posedreamer_assets.diffusion.adapters import AdapterSlot
    from posedreamer_assets.diffusion.flux import FluxGenerator
    from posedreamer_assets.diffusion.zimage import ZImageGenerator

# Module and class of each value of `generator.backend`, imported when it is chosen.
BACKENDS = {
    "pocket": ("posedreamer_assets.diffusion.pocket", "PocketGenerator"),
    "flux": ("posedreamer_assets.diffusion.flux", "FluxGenerator"),
    "sdxl": ("posedreamer_assets.diffusion.sdxl", "SdxlGenerator"),
    "zimage": ("posedreamer_assets.diffusion.zimage", "ZImageGenerator"),
    "klein": ("posedreamer_assets.diffusion.klein", "KleinGenerator"),
    "qwenimage": ("posedreamer_assets.diffusion.qwenimage", "QwenImageGenerator"),
}


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
            control_strength: how much the control image says, times the profile's `generator.control_strength`; 0 is the
                same as a black one, or, with a ControlNet, as none.

        Raises:
            BackendError: inputs of different lengths or of the wrong size, or an adapter that does not fit.
        """
        ...


@runtime_checkable
class FlowModel(Generator, Protocol):
    """A `Generator` that predicts the velocities of a rectified flow and takes LoRA: what Flow-DPO needs.

    An image is `tokens` vectors of `c` numbers (its latents, packed and normalised to about unit variance). At noise level
    sigma in [0, 1] the model sees `(1 - sigma) image + sigma noise` and predicts `noise - image`, with noise from a standard
    normal distribution.
    """

    @property
    def adapter(self) -> "AdapterSlot":
        """Where LoRA is put into `network`, taken out, and written to a file that `generate` reads."""
        ...

    @property
    def network(self) -> nn.Module:
        """The network that predicts velocities, in evaluation mode and without gradients but for LoRA's."""
        ...

    @property
    def lora_targets(self) -> Sequence[str]:
        """Ends of the names of the layers of `network` that a fresh LoRA changes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where `network` computes."""
        ...

    @property
    def block_size(self) -> int:
        """Images that fit through `network` together."""
        ...

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of an image; token i shows row i // columns, column i % columns."""
        ...

    def encode_image(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "tokens c"]:
        """An image as the network sees it without noise, the same bits at every call."""
        ...

    def encode_controls(
        self, controls: UInt8[np.ndarray, "n h w 3"], strength: float = 1.0
    ) -> Float[Tensor, "n tokens d"]:
        """Control images as the network sees them, at that strength."""
        ...

    def encode_captions(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n ..."], ...]:
        """Everything that the network is told about captions, one row per caption in each tensor."""
        ...

    def velocity(
        self,
        tokens: Float[Tensor, "n shown c"],
        controls: Float[Tensor, "n shown d"],
        captions: tuple[Float[Tensor, "n ..."], ...],
        sigma: Float[Tensor, " n"],
        shown: Int[np.ndarray, " shown"] | None = None,
    ) -> Float[Tensor, "n shown c"]:
        """The velocity of noisy tokens at noise level sigma.

        `shown`: the indices of the tokens where they are of a part of the image only.
        """
        ...


def load_generator(cfg: GeneratorConfig, image: ImageConfig) -> Generator:
    """Load the configured backend.

    Raises:
        BackendError: an unknown backend, or weights that are missing or do not fit.
    """
    module, name = backend_of(cfg)
    return getattr(importlib.import_module(module), name).load(cfg, image)


def load_base(cfg: GeneratorConfig, image: ImageConfig) -> "FluxGenerator | ZImageGenerator":
    """Load a generator for control training: one that sees no control image yet, or one with a ControlNet that learns on.

    Raises:
        BackendError: another backend than flux, pocket and zimage, or as `load_base` of theirs.
    """
    module, name = backend_of(cfg)
    kind = getattr(importlib.import_module(module), name)
    if not hasattr(kind, "load_base"):
        raise BackendError(f"generator.backend {cfg.backend}: control is trained for flux, pocket and zimage alone")
    return kind.load_base(cfg, image)


def backend_of(cfg: GeneratorConfig) -> tuple[str, str]:
    """Module and class of the configured backend.

    Raises:
        BackendError: an unknown one.
    """
    if cfg.backend not in BACKENDS:
        raise BackendError(f"generator.backend: expected one of {', '.join(BACKENDS)}, found {cfg.backend!r}")
    return BACKENDS[cfg.backend]

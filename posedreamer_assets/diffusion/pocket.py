"""The pocket generator: FLUX's own classes with the small weights that this project trains on its renders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxControlPipeline, FluxTransformer2DModel
from jaxtyping import Float
from torch import Tensor

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.backend import loading, resolve_device, resolve_dtype, weights_digest
from posedreamer_assets.diffusion.fast_gelu import use_fast_gelu
from posedreamer_assets.diffusion.flux import FluxGenerator, freeze
from posedreamer_assets.diffusion.pocket_files import pocket_digest, pocket_folder
from posedreamer_assets.diffusion.text import CaptionEncoder
from posedreamer_assets.errors import BackendError

Kind = TypeVar("Kind", bound="PocketGenerator")


class PocketGenerator(FluxGenerator):
    """`FluxControlPipeline` with a caption encoder of its own in place of CLIP and T5."""

    rows_in_parallel = True
    captions: CaptionEncoder

    @property
    def vae(self) -> AutoencoderTiny:
        """The deterministic autoencoder of images and control images."""
        return self.pipeline.vae

    @classmethod
    def read(cls, cfg: GeneratorConfig, image: ImageConfig) -> FluxControlPipeline:
        """The shipped networks, or those in the folder `model_path`.

        Raises:
            BackendError: a part is missing or does not fit, an image size that cannot be packed into tokens, or a
                guidance other than 1: these weights are not distilled for guidance.
        """
        folder = pocket_folder(cfg, image)
        device = resolve_device(cfg.device)
        dtype = resolve_dtype(cfg.dtype, device)
        with loading(str(folder / "scheduler")):
            scheduler: Any = FlowMatchEulerDiscreteScheduler.from_pretrained(str(folder / "scheduler"))
        return FluxControlPipeline(
            scheduler=scheduler,
            vae=_load_part(AutoencoderTiny, folder / "vae", dtype),
            transformer=_load_part(FluxTransformer2DModel, folder / "transformer", dtype),
            text_encoder=None,  # type: ignore[arg-type]  # captions come as embeddings
            tokenizer=None,  # type: ignore[arg-type]
            text_encoder_2=None,  # type: ignore[arg-type]
            tokenizer_2=None,  # type: ignore[arg-type]
        )

    @classmethod
    def ready(cls: type[Kind], pipeline: FluxControlPipeline, cfg: GeneratorConfig, image: ImageConfig) -> Kind:
        """These networks on their device, for painting."""
        folder, device = pocket_folder(cfg, image), resolve_device(cfg.device)
        with loading(str(folder / "text_encoder")):
            captions = CaptionEncoder.load(folder)
        pipeline.to(device)
        freeze(pipeline)
        use_fast_gelu(pipeline.transformer)
        weights = pocket_digest(folder)
        if cfg.control_lora_path is not None:
            weights = weights_digest(weights, cfg.control_lora_path)
        generator = cls(pipeline, cfg, image, weights)
        generator.captions = captions.to(device, resolve_dtype(cfg.dtype, device)).requires_grad_(False)
        return generator

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n tokens d"], Float[Tensor, "n e"]]:
        ids, mask = self.captions.tokenize(captions)
        return self.captions(ids.to(self.device), mask.to(self.device))


def _load_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers model with every weight present and none too many."""
    with loading(str(folder)):
        model, info = kind.from_pretrained(
            str(folder), dtype=dtype, output_loading_info=True, use_safetensors=True, low_cpu_mem_usage=False
        )
    for trouble in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[trouble]:
            raise BackendError(f"{folder}: {trouble.replace('_', ' ')}: {sorted(map(str, info[trouble]))[0]}")
    return model

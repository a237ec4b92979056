"""FLUX.2 [klein] with the control image as a reference, through diffusers' `Flux2KleinPipeline`: open weights, four steps."""

from typing import Any

import numpy as np
import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.backend import (
    loading,
    resolve_device,
    resolve_dtype,
    settled,
)
from posedreamer_assets.diffusion.embedded import EmbedsEachCaption
from posedreamer_assets.diffusion.loras import merge_loras
from posedreamer_assets.errors import BackendError

LEAST_SIDE = 64  # of a reference, in pixels


class OwnReferencePipeline(Flux2KleinPipeline):
    """`Flux2KleinPipeline` whose rows have a reference image each; diffusers' own shows all of them to every row."""

    def prepare_image_latents(
        self, images: list[Tensor], batch_size: int, generator: Any, device: Any, dtype: Any
    ) -> tuple[Float[Tensor, "n tokens c"], Int[Tensor, "n tokens 4"]]:
        """Tokens of the references and their places, a row each."""
        assert len(images) == batch_size
        one = Flux2KleinPipeline.prepare_image_latents
        tokens, places = zip(*(one(self, [image], 1, generator, device, dtype) for image in images), strict=True)
        return torch.cat(tokens), torch.cat(places)


class KleinGenerator(EmbedsEachCaption):
    """FLUX.2 [klein], which sees the control image as tokens of a reference beside those of the image.

    `model_path` names FLUX.2 [klein] 4B. It was trained to edit references; a LoRA that lets it follow depth maps or
    normals goes to `generator.loras`. The distilled model ignores `guidance`. Flow-DPO does not apply: `FlowModel` has no place
    for references.
    """

    painting_parts = ("transformer",)

    @property
    def away_from(self) -> str | None:
        return "" if self.cfg.guidance > 1 and not self.pipeline.config.is_distilled else None

    @classmethod
    def load(cls, cfg: GeneratorConfig, image: ImageConfig) -> "KleinGenerator":
        """Load the model.

        Raises:
            BackendError: no `model_path`, a `control_lora_path`, weights that cannot be read or are of another architecture, or
                an image size that cannot be cut into tokens or be a reference.
        """
        cfg = settled(cfg, image)
        if cfg.model_path is None:
            raise BackendError(
                "generator.model_path: the klein backend needs a model, e.g. black-forest-labs/FLUX.2-klein-4B"
            )
        if cfg.control_lora_path is not None:
            raise BackendError(
                "generator.control_lora_path: klein sees the control image as a reference; LoRAs for that go to generator.loras"
            )
        with loading(cfg.model_path):
            pipeline: Any = OwnReferencePipeline.from_pretrained(
                cfg.model_path,
                revision=cfg.revision,
                dtype=resolve_dtype(cfg.dtype, resolve_device(cfg.device)),
                use_safetensors=True,
            )
        if not isinstance(pipeline.transformer, Flux2Transformer2DModel):
            raise BackendError(
                f"{cfg.model_path}: no FLUX.2: its transformer is a {type(pipeline.transformer).__name__}"
            )
        side = 2 * pipeline.vae_scale_factor
        if image.width % side or image.height % side or min(image.width, image.height) < LEAST_SIDE:
            raise BackendError(
                f"image: {image.width} x {image.height} pixels; klein paints multiples of {side}, from {LEAST_SIDE} on"
            )
        merge_loras(pipeline, "transformer", cfg.loras)
        return cls.ready(pipeline, cfg, image)

    def _embed(self, caption: str) -> Float[Tensor, "_ d"]:
        (embedded,), _ = self.pipeline.encode_prompt([caption], self.device)
        return embedded

    def run_block(
        self,
        pipeline: Any,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        noise: list[torch.Generator],
        control_strength: float,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        strength = control_strength * self.cfg.control_strength
        shown = np.clip(np.round(controls * strength), 0, 255).astype(np.uint8)  # a weaker reference is a darker one
        away = self.encode_away(len(captions))
        return self.run_pipeline(
            pipeline,
            noise,
            image=[Image.fromarray(one) for one in shown],
            prompt_embeds=torch.stack(self.embeddings(captions)),
            negative_prompt_embeds=None if away is None else torch.stack(away),
            guidance_scale=self.cfg.guidance if away else 1.0,  # more is not said to a distilled model
        )

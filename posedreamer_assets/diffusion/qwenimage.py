"""Qwen-Image with a union ControlNet, through diffusers' `QwenImageControlNetPipeline`: open weights, 20 billion of them."""

from typing import Any

import numpy as np
import torch
from diffusers import QwenImageControlNetModel, QwenImageControlNetPipeline, QwenImageTransformer2DModel
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.backend import (
    loading,
    resolve_device,
    resolve_dtype,
    settled,
)
from posedreamer_assets.diffusion.embedded import EmbedsEachCaption
from posedreamer_assets.diffusion.loras import merge_loras
from posedreamer_assets.diffusion.pixels import to_signed
from posedreamer_assets.errors import BackendError

Embedded = tuple[Float[Tensor, "n tokens d"], Int[Tensor, "n tokens"]]


class QwenImageGenerator(EmbedsEachCaption):
    """Qwen-Image and a ControlNet of its transformer.

    `model_path` names Qwen-Image, `control_lora_path` the ControlNet, both folders in diffusers' layout or names on the hub.
    `guidance` above 1 takes a second pass, away from an empty caption. Flow-DPO does not apply: captions have a length each,
    which `FlowModel` has no place for.
    """

    painting_parts = ("transformer", "controlnet")

    @property
    def away_from(self) -> str | None:
        return " " if self.cfg.guidance > 1 else None  # as Qwen-Image's own examples have it

    @classmethod
    def load(cls, cfg: GeneratorConfig, image: ImageConfig) -> "QwenImageGenerator":
        """Load both models.

        Raises:
            BackendError: a path that is not given, weights that cannot be read or are of another architecture, or an image size
                that cannot be cut into tokens.
        """
        cfg = settled(cfg, image)
        if cfg.model_path is None or cfg.control_lora_path is None:
            raise BackendError(
                "the qwenimage backend needs generator.model_path (Qwen-Image) and generator.control_lora_path (a ControlNet)"
            )
        dtype = resolve_dtype(cfg.dtype, resolve_device(cfg.device))
        with loading(cfg.control_lora_path):
            control: Any = QwenImageControlNetModel.from_pretrained(
                cfg.control_lora_path, dtype=dtype, use_safetensors=True
            )
        with loading(cfg.model_path):
            pipeline: Any = QwenImageControlNetPipeline.from_pretrained(
                cfg.model_path, controlnet=control, revision=cfg.revision, dtype=dtype, use_safetensors=True
            )
        if not isinstance(pipeline.transformer, QwenImageTransformer2DModel):
            raise BackendError(
                f"{cfg.model_path}: no Qwen-Image: its transformer is a {type(pipeline.transformer).__name__}"
            )
        if (seen := control.inner_dim) != (needed := pipeline.transformer.inner_dim):
            raise BackendError(f"{cfg.control_lora_path}: a ControlNet of width {seen}; {cfg.model_path} has {needed}")
        side = 2 * pipeline.vae_scale_factor
        if image.width % side or image.height % side:
            raise BackendError(f"image: {image.width} x {image.height} pixels; qwenimage paints multiples of {side}")
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
        hidden, mask = padded(self.embeddings(captions))
        away, away_mask = padded(self.encode_away(len(captions)) or [])
        return self.run_pipeline(
            pipeline,
            noise,
            prompt_embeds=hidden,
            prompt_embeds_mask=mask,
            negative_prompt_embeds=away,
            negative_prompt_embeds_mask=away_mask,
            true_cfg_scale=self.cfg.guidance,
            control_image=to_signed(controls),  # tensors pass through the pipeline as they are
            controlnet_conditioning_scale=control_strength * self.cfg.control_strength,
        )


def padded(embedded: list[Float[Tensor, "_ d"]]) -> Embedded | tuple[None, None]:
    """Embeddings of captions filled up with zeros to the length of the longest, and which tokens are of the caption; of none
    nothing."""
    if not embedded:
        return None, None
    masks = [torch.ones(len(one), dtype=torch.long, device=one.device) for one in embedded]
    return pad_sequence(embedded, batch_first=True), pad_sequence(masks, batch_first=True)

"""Stable Diffusion XL with a ControlNet, through diffusers' own pipeline."""

from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline
from jaxtyping import UInt8

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.backend import (
    PipelineGenerator,
    loading,
    resolve_device,
    resolve_dtype,
    settled,
)
from posedreamer_assets.diffusion.loras import merge_loras
from posedreamer_assets.errors import BackendError

NEGATIVE_PROMPT = "drawing, cartoon, deformed body, extra limbs, several people"


class SdxlGenerator(PipelineGenerator):
    """SDXL and a ControlNet with public weights.

    `model_path` names SDXL, `control_lora_path` the ControlNet. Control images are of the kind that the ControlNet was
    trained on: `generator.control` of the profile says which. Flow-DPO does not apply to SDXL, which predicts noise; a LoRA
    of its UNet can be added all the same.
    """

    painting_parts = ("unet", "controlnet")

    @property
    def network_name(self) -> str:
        return "unet"

    @classmethod
    def load(cls, cfg: GeneratorConfig, image: ImageConfig) -> "SdxlGenerator":
        """Load both models.

        Raises:
            BackendError: a path that is not given, or weights that cannot be read or do not fit.
        """
        cfg = settled(cfg, image)
        if cfg.model_path is None or cfg.control_lora_path is None:
            raise BackendError(
                "the sdxl backend needs generator.model_path (SDXL) and generator.control_lora_path (a ControlNet)"
            )
        dtype = resolve_dtype(cfg.dtype, resolve_device(cfg.device))
        with loading(cfg.control_lora_path):
            control = ControlNetModel.from_pretrained(cfg.control_lora_path, dtype=dtype, use_safetensors=True)
        with loading(cfg.model_path):
            pipeline = StableDiffusionXLControlNetPipeline.from_pretrained(
                cfg.model_path,
                controlnet=control,
                revision=cfg.revision,
                dtype=dtype,
                use_safetensors=True,
                add_watermarker=False,
            )
        merge_loras(pipeline, "unet", cfg.loras)
        return cls.ready(pipeline, cfg, image)

    def run_block(
        self,
        pipeline: Any,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        noise: list[torch.Generator],
        control_strength: float,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        control = torch.from_numpy(np.ascontiguousarray(controls)).permute(0, 3, 1, 2).float().div(255)
        return self.run_pipeline(
            pipeline,
            noise,
            prompt=captions,
            negative_prompt=[NEGATIVE_PROMPT] * len(captions),
            image=control,
            guidance_scale=self.cfg.guidance,
            controlnet_conditioning_scale=control_strength * self.cfg.control_strength,
        )

"""Checkpoints with the architectures of FLUX.2 [klein] and Qwen-Image and a few thousand random weights, in diffusers' layout."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    QwenImageControlNetModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM

from posedreamer_assets_tests.diffusion.production import WIDTH, word_tokenizer
from posedreamer_assets_tests.diffusion.production_zimage import TEMPLATE, fill

TEXT: dict[str, Any] = {
    "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_attention_heads": 2, "num_key_value_heads": 1,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip
TRANSFORMER: dict[str, Any] = {"attention_head_dim": 16, "num_attention_heads": 2, "in_channels": 16}


def save_tiny_klein(folder: Path, distilled: bool = True) -> None:
    """klein: FLUX.2's transformer and autoencoder, and Qwen3 of the 27 layers that its captions are read off."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.padding_side = "right"
    transformer = Flux2Transformer2DModel(
        **TRANSFORMER, num_layers=1, num_single_layers=1, joint_attention_dim=3 * WIDTH, guidance_embeds=False,
        axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 8),
        latent_channels=4, norm_num_groups=4,
    )  # fmt: skip
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(
            Qwen3Config(vocab_size=len(tokenizer), num_hidden_layers=28, head_dim=16, tie_word_embeddings=True, **TEXT)
        ),
        tokenizer=tokenizer,  # type: ignore[arg-type]
        transformer=transformer,
        is_distilled=distilled,
    ).save_pretrained(str(folder))


def save_tiny_qwenimage(folder: Path, control_folder: Path) -> None:
    """Qwen-Image with Qwen2.5-VL and its autoencoder of videos, and a ControlNet of its transformer."""
    torch.manual_seed(0)
    sizes = TRANSFORMER | {"joint_attention_dim": WIDTH, "axes_dims_rope": (4, 4, 8), "out_channels": 4}
    tokenizer = word_tokenizer()
    text: Any = TEXT | {
        "vocab_size": len(tokenizer), "num_hidden_layers": 1, "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 4]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    control = QwenImageControlNetModel(**sizes, num_layers=1)
    fill(control)
    control.save_pretrained(str(control_folder))
    QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False], latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=tokenizer,  # type: ignore[arg-type]
        transformer=QwenImageTransformer2DModel(**sizes, num_layers=2),
    ).save_pretrained(str(folder))  # fmt: skip

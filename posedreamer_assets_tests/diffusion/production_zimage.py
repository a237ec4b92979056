"""A checkpoint with the architecture of Z-Image-Turbo and a few thousand random weights, in the layouts that are published."""

from pathlib import Path

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    ZImageControlNetModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3Model

from posedreamer_assets_tests.diffusion.production import WIDTH, tiny_vae, word_tokenizer

TEMPLATE = (
    "{% for message in messages %}user {{ message.content }} {% endfor %}{% if add_generation_prompt %}a{% endif %}"
)


def save_tiny_zimage(folder: Path) -> None:
    """Z-Image: a single-stream transformer, Qwen3 with a chat template, FLUX's autoencoder."""
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=WIDTH, n_layers=3, n_refiner_layers=2, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[4, 4, 8], axes_lens=[600, 32, 32],
    )  # fmt: skip
    fill(transformer)
    tokenizer = word_tokenizer()
    tokenizer.chat_template = TEMPLATE
    text = Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, pad_token_id=0, eos_token_id=1, bos_token_id=None,
        )
    )  # fmt: skip
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=tiny_vae(scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text,
        tokenizer=tokenizer,  # type: ignore[arg-type]
        transformer=transformer,
    ).save_pretrained(str(folder))


def tiny_controlnet() -> ZImageControlNetModel:
    """The layers of release 2.1, narrow."""
    torch.manual_seed(1)
    network = ZImageControlNetModel(
        control_layers_places=list(range(0, 30, 2)), control_refiner_layers_places=[0, 1], control_in_dim=6,
        add_control_noise_refiner="control_noise_refiner", dim=WIDTH, n_heads=2, n_kv_heads=2,
    )  # fmt: skip
    fill(network)
    return network


def save_tiny_controlnet(folder: Path) -> Path:
    """A ControlNet as diffusers writes it, in `folder`, and as it is published: the file that is returned."""
    network = tiny_controlnet()
    network.save_pretrained(str(folder))
    file = folder.with_suffix(".safetensors")
    save_file(network.state_dict(), file)
    return file


def fill(network: torch.nn.Module) -> None:
    """Random numbers in the place of zeros, so that everything has an effect."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.3)

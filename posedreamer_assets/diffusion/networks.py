"""The pocket generator's networks: the architectures of FLUX.1 with small sizes.

Latents of a 128 x 128 image are 16 x 32 x 32; the transformer sees them packed into 256 tokens of 64 numbers, with the
control image's 64 numbers beside them, exactly as `FluxControlPipeline` concatenates them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from jaxtyping import Float
from torch import Tensor, nn

DOWNSAMPLING = 4  # image pixels per latent pixel, along one side
LOG_VARIANCE = -30.0  # the encoder's constant output: latents are deterministic


@dataclass(frozen=True)
class PocketSizes:
    """Sizes of the pocket networks."""

    vae_channels: tuple[int, ...] = (32, 64, 64)
    latent_channels: int = 16
    heads: int = 4
    head_dim: int = 64
    double_layers: int = 2
    single_layers: int = 4
    text_dim: int = 128
    text_layers: int = 2
    max_tokens: int = 32


def build_vae(sizes: PocketSizes) -> AutoencoderKL:
    """An untrained autoencoder that halves the image twice; its posterior's variance is constant and negligible."""
    blocks = len(sizes.vae_channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,  # type: ignore[arg-type]  # diffusers says tuple[str]
        up_block_types=("UpDecoderBlock2D",) * blocks,  # type: ignore[arg-type]
        block_out_channels=sizes.vae_channels,  # type: ignore[arg-type]
        layers_per_block=1,
        latent_channels=sizes.latent_channels,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )
    freeze_log_variance(vae)
    return vae


@torch.no_grad()
def freeze_log_variance(vae: AutoencoderKL) -> None:
    """Make `encode(x).latent_dist` a point: half of the last layer gives the constant `LOG_VARIANCE`."""
    last = vae.encoder.conv_out
    half = last.out_channels // 2
    last.weight[half:] = 0.0
    assert last.bias is not None
    last.bias[half:] = LOG_VARIANCE


def build_transformer(sizes: PocketSizes) -> FluxTransformer2DModel:
    """An untrained FLUX transformer whose blocks start as the identity (adaLN-Zero) and whose output starts at zero."""
    third = sizes.head_dim // 8 * 3
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=sizes.latent_channels * 8,
        out_channels=sizes.latent_channels * 4,
        num_layers=sizes.double_layers,
        num_single_layers=sizes.single_layers,
        attention_head_dim=sizes.head_dim,
        num_attention_heads=sizes.heads,
        joint_attention_dim=sizes.text_dim,
        pooled_projection_dim=sizes.text_dim,
        guidance_embeds=False,
        axes_dims_rope=(sizes.head_dim - 2 * third, third, third),
    )
    for name, module in transformer.named_modules():
        if name == "proj_out" or name.endswith(
            ("norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear")
        ):
            assert isinstance(module, nn.Linear)
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return transformer


def encode_mode(vae: AutoencoderKL, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
    """Latents of images in [-1, 1]: the mode of the posterior, not normalised."""
    posterior: Any = vae.encode(images, return_dict=False)[0]
    return posterior.mode()


def decode(vae: AutoencoderKL, latents: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]:
    """Images, about in [-1, 1], of latents that are not normalised."""
    return vae.decode(latents, return_dict=False)[0]  # type: ignore[return-value]  # a tuple of one tensor


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Rectified flow with an unshifted, uniform grid of sigmas."""
    return FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)


def pack_latents(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n hw/4 c*4"]:
    """2 x 2 latent pixels become one token, in the channel order of `FluxControlPipeline`."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)


def unpack_latents(tokens: Float[Tensor, "n hw/4 c*4"], height: int, width: int) -> Float[Tensor, "n c h w"]:
    """Undo `pack_latents`; height and width are those of the latents."""
    n, _, c = tokens.shape
    tokens = tokens.view(n, height // 2, width // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return tokens.reshape(n, c // 4, height, width)


def image_ids(height: int, width: int) -> Float[Tensor, "hw/4 3"]:
    """Positions (0, row, column) of the packed tokens of height x width latents."""
    ids = torch.zeros(height // 2, width // 2, 3)
    ids[..., 1] = torch.arange(height // 2)[:, None]
    ids[..., 2] = torch.arange(width // 2)[None, :]
    return ids.reshape(-1, 3)


def parameter_count(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())

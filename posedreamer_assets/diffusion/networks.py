"""The pocket generator's networks: the architectures of FLUX.1 with small sizes.

Latents of a 128 x 128 image are 16 x 32 x 32; the transformer sees them packed into 256 tokens of 64 numbers, with the
control image's 64 numbers beside them, exactly as `FluxControlPipeline` concatenates them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

DOWNSAMPLING = 4  # image pixels per latent pixel, along one side


@dataclass(frozen=True)
class PocketSizes:
    """Sizes of the pocket networks."""

    vae_channels: tuple[int, ...] = (32, 32, 32)
    latent_channels: int = 16
    heads: int = 4
    head_dim: int = 64
    double_layers: int = 2
    single_layers: int = 4
    text_dim: int = 128
    text_layers: int = 2
    max_tokens: int = 32


class PlainAttention(TorchFunctionMode):
    """Within this context attention without a mask is two matrix products and a softmax.

    On a CPU and a few hundred tokens that takes less than half the time of torch's fused kernel, forwards and backwards.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is F.scaled_dot_product_attention and is_plain(*args, **given):
            query, key, value = (*args, *(given[name] for name in ("query", "key", "value")[len(args) :]))[:3]
            return plain_attention(query, key, value)
        return func(*args, **given)


def is_plain(
    *args: Any, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False, **_: Any
) -> bool:
    """Whether arguments of `scaled_dot_product_attention` ask for nothing that `plain_attention` lacks."""
    return len(args) <= 3 and attn_mask is None and not dropout_p and not is_causal


def plain_attention(
    query: Float[Tensor, "n h t d"], key: Float[Tensor, "n h s d"], value: Float[Tensor, "n h s d"]
) -> Float[Tensor, "n h t d"]:
    """softmax(Q K^T / sqrt(d)) V."""
    return ((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)).softmax(-1) @ value


def build_vae(sizes: PocketSizes) -> AutoencoderTiny:
    """An untrained deterministic autoencoder that halves the image twice.

    The architecture of TAESD: it has no normalisation layers, so that flat colours, which fill most of a render, survive
    from the first steps on. Weights start so that every residual block is nearly the identity.
    """
    blocks = len(sizes.vae_channels)
    vae = AutoencoderTiny(
        encoder_block_out_channels=sizes.vae_channels,
        decoder_block_out_channels=sizes.vae_channels,
        num_encoder_blocks=(1,) * (blocks - 1) + (2,),
        num_decoder_blocks=(2,) + (1,) * (blocks - 1),
        latent_channels=sizes.latent_channels,
        act_fn="relu",
    )
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, AutoencoderTinyBlock):
            nn.init.normal_(module.conv[-1].weight, std=0.01)  # pyright: ignore[reportArgumentType]
    return vae


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


def encode_mode(vae: AutoencoderKL | AutoencoderTiny, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hl wl"]:
    """Latents of images in -1..1: the mode of a variational encoder, the output of a deterministic one."""
    encoded: Any = vae.encode(images)
    return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents


def image_tokens(vae: AutoencoderKL | AutoencoderTiny, pixels: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "tokens tc"]:
    """Packed, normalised latents of one image in -1..1, as the transformers of FLUX and Z-Image see them."""
    latents = encode_mode(vae, pixels)
    return pack_latents((latents - vae.config["shift_factor"]) * vae.config["scaling_factor"])[0]


def decode(vae: AutoencoderKL | AutoencoderTiny, latents: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 3 h w"]:
    """Images, about in [-1, 1], of latents that are not normalised."""
    return vae.decode(latents, return_dict=False)[0]  # type: ignore[return-value]  # a tuple of one tensor


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Rectified flow with an unshifted, uniform grid of sigmas."""
    return FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)


def pack_latents(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n tokens tc"]:
    """2 x 2 latent pixels become one token, in the channel order of `FluxControlPipeline`."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)


def unpack_latents(tokens: Float[Tensor, "n tokens tc"], height: int, width: int) -> Float[Tensor, "n c h w"]:
    """Undo `pack_latents`; height and width are those of the latents."""
    n, _, c = tokens.shape
    tokens = tokens.view(n, height // 2, width // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return tokens.reshape(n, c // 4, height, width)


def image_ids(height: int, width: int) -> Float[Tensor, "tokens 3"]:
    """Positions (0, row, column) of the packed tokens of height x width latents."""
    ids = torch.zeros(height // 2, width // 2, 3)
    ids[..., 1] = torch.arange(height // 2)[:, None]
    ids[..., 2] = torch.arange(width // 2)[None, :]
    return ids.reshape(-1, 3)


def parameter_count(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())

"""Pocket networks: they lay tokens out as diffusers does, and start as they should."""

import pytest
import torch
from diffusers import AutoencoderKL, FluxControlPipeline

from posedreamer_assets.diffusion.networks import (
    DOWNSAMPLING,
    PlainAttention,
    build_transformer,
    build_vae,
    decode,
    encode_mode,
    image_ids,
    pack_latents,
    unpack_latents,
)
from posedreamer_assets_tests.diffusion.conftest import SIZES

attention = torch.nn.functional.scaled_dot_product_attention


def test_packing_is_that_of_the_pipeline() -> None:
    latents = torch.randn(2, 4, 8, 12)
    assert torch.equal(pack_latents(latents), FluxControlPipeline._pack_latents(latents, 2, 4, 8, 12))


def test_unpacking_inverts_packing() -> None:
    latents = torch.randn(3, 4, 6, 10)
    assert torch.equal(unpack_latents(pack_latents(latents), 6, 10), latents)


def test_positions_are_those_of_the_pipeline() -> None:
    expected = FluxControlPipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    assert torch.equal(image_ids(6, 10), expected)


@torch.no_grad()
def test_latents_are_a_quarter_of_the_image_and_decode_to_its_size() -> None:
    vae = build_vae(SIZES)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = encode_mode(vae, images)
    assert latents.shape == (2, SIZES.latent_channels, 32 // DOWNSAMPLING, 48 // DOWNSAMPLING)
    assert decode(vae, latents).shape == images.shape


@torch.no_grad()
def test_a_variational_encoder_gives_its_mode() -> None:
    vae = AutoencoderKL(block_out_channels=(32,), latent_channels=2)
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(encode_mode(vae, images), vae.encode(images).latent_dist.mode())  # type: ignore[union-attr]


def test_an_untrained_transformer_predicts_zero_and_can_learn() -> None:
    transformer = build_transformer(SIZES)
    velocity = transformer(
        hidden_states=torch.randn(1, 16, 32),
        timestep=torch.tensor([0.5]),
        pooled_projections=torch.randn(1, 32),
        encoder_hidden_states=torch.randn(1, 12, 32),
        txt_ids=torch.zeros(12, 3),
        img_ids=image_ids(8, 8),
    ).sample
    assert velocity.shape == (1, 16, 16) and not velocity.any()
    (velocity - 1.0).square().mean().backward()
    gradient = transformer.proj_out.bias.grad
    assert gradient is not None and gradient.any()


def attend(**options: object) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Attention of fixed random inputs, and the gradients of its sum of squares."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 5, 4, generator=generator, requires_grad=True) for _ in range(3)]
    out = attention(*inputs[:2], value=inputs[2], **options)  # type: ignore[arg-type]
    out.square().sum().backward()
    return out.detach(), [x.grad for x in inputs if x.grad is not None]


def test_plain_attention_is_torchs_with_its_gradients() -> None:
    expected, gradients = attend()
    with PlainAttention():
        found, own = attend()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own, gradients)


@pytest.mark.parametrize("options", [{"is_causal": True}, {"attn_mask": torch.eye(5, dtype=torch.bool)}])
def test_masked_attention_is_left_to_torch(options: dict[str, object]) -> None:
    expected, _ = attend(**options)
    with PlainAttention():
        found, _ = attend(**options)
    assert torch.equal(found, expected)

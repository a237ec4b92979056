"""Augmentations of labelled images, drawn per row from one seeded generator, on whole batches of tensors.

Detectors are trained on renders and used on what a diffusion model painted; colour, blur, noise and block artefacts
close the gap.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from posedreamer_assets.body.joints import COCO17_MIRROR

_MIRROR = torch.from_numpy(COCO17_MIRROR.copy())


@dataclass(frozen=True)
class Augmentation:
    """Strengths; shares are probabilities per row."""

    scale: float = 0.2  # log-uniform in 1/(1 + scale) .. 1 + scale
    shift: float = 0.08  # of the image's side
    rotation_deg: float = 20.0
    colour: float = 0.25
    blur_share: float = 0.3
    noise: float = 0.04
    blocks_share: float = 0.3
    erase_share: float = 0.0
    background_share: float = 0.0  # rows whose background becomes smooth coloured noise


MILD = Augmentation()
STRONG = Augmentation(
    scale=0.3, shift=0.12, rotation_deg=30.0, colour=0.35, noise=0.06, erase_share=0.3, background_share=0.25
)


def augment(
    images: Float[Tensor, "n 3 h w"],
    keypoints_px: Float[Tensor, "n 17 2"],
    visible: Bool[Tensor, "n 17"],
    silhouettes: Float[Tensor, "n 1 h w"],
    options: Augmentation,
    rng: torch.Generator,
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 17 2"], Bool[Tensor, "n 17"]]:
    """Augmented images (0..1), keypoints in their pixels, and visibility (flipped rows swap left and right)."""
    if options.background_share:
        images = _new_background(images, silhouettes, options.background_share, rng)
    images, keypoints_px, visible = warp(images, keypoints_px, visible, options, rng)
    if options.erase_share:
        images = _erase(images, options.erase_share, rng)
    return degrade(images, options, rng), keypoints_px, visible


def augment_silhouettes(
    images: Float[Tensor, "n 3 h w"],
    silhouettes: Float[Tensor, "n 1 h w"],
    options: Augmentation,
    rng: torch.Generator,
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]:
    """Augmented images (0..1) and the silhouettes of their people, which share a pixel at their borders; nothing is erased."""
    if options.background_share:
        images = _new_background(images, silhouettes, options.background_share, rng)
    nowhere = torch.zeros(len(images), 17, 2)
    warped, _, _ = warp(torch.cat([images, silhouettes], 1), nowhere, nowhere[..., 0] > 0, options, rng)
    return degrade(warped[:, :3], options, rng), warped[:, 3:]


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Float[Tensor, " n"]:
    return torch.rand(n, generator=rng) * (high - low) + low


def warp(
    images: Float[Tensor, "n c h w"],
    keypoints_px: Float[Tensor, "n 17 2"],
    visible: Bool[Tensor, "n 17"],
    options: Augmentation,
    rng: torch.Generator,
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 17 2"], Bool[Tensor, "n 17"]]:
    """Flip, scale, rotate and shift images and their keypoints alike."""
    n, channels, h, w = images.shape
    half = torch.tensor([w / 2, h / 2])
    angle = torch.deg2rad(_uniform(n, -options.rotation_deg, options.rotation_deg, rng))
    limit = float(torch.log1p(torch.tensor(options.scale)))
    scale = torch.exp(_uniform(n, -limit, limit, rng))
    flip = torch.rand(n, generator=rng) < 0.5
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * 2 * options.shift * half
    sign = torch.where(flip, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # out = A (in - centre) + centre + shift, in pixels; x is negated first in flipped rows.
    matrix = torch.stack([torch.stack([cos * sign, -sin], -1), torch.stack([sin * sign, cos], -1)], -2)
    moved = torch.einsum("nij,nkj->nki", matrix, keypoints_px - half) + half + shift[:, None]
    inverse = torch.linalg.inv(matrix)
    # grid_sample takes coordinates in -1..1 over the image's sides, output to input.
    theta = torch.zeros(n, 2, 3)
    theta[:, :, :2] = inverse * half[None, None, :] / half[None, :, None]
    theta[:, :, 2] = -torch.einsum("nij,nj->ni", inverse, shift) / half
    grid = affine_grid(theta, [n, channels, h, w], align_corners=False)
    warped = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    moved = torch.where(flip[:, None, None], moved[:, _MIRROR], moved)
    return warped, moved, torch.where(flip[:, None], visible[:, _MIRROR], visible)


def degrade(images: Float[Tensor, "n 3 h w"], options: Augmentation, rng: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Colour, gamma, blur, lost resolution, block artefacts and noise."""
    n = len(images)
    images = _colour(images, options.colour, rng)
    soft = torch.rand(n, generator=rng) < options.blur_share
    if soft.any():
        images = images.clone()
        images[soft] = _soften(images[soft], rng)
    blocky = torch.rand(n, generator=rng) < options.blocks_share
    if blocky.any():
        images = images.clone()
        images[blocky] = _quantise_blocks(images[blocky], rng)
    amount = _uniform(n, 0, options.noise, rng)[:, None, None, None]
    return (images + amount * torch.randn(images.shape, generator=rng)).clamp(0, 1)


def _colour(images: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    n = len(images)
    gain = 1 + (torch.rand(n, 3, 1, 1, generator=rng) * 2 - 1) * strength
    offset = (torch.rand(n, 1, 1, 1, generator=rng) * 2 - 1) * strength * 0.5
    grey = images.mean(1, keepdim=True)
    saturation = _uniform(n, 1 - 2 * strength, 1 + strength, rng)[:, None, None, None]
    contrast = _uniform(n, 1 - strength, 1 + strength, rng)[:, None, None, None]
    images = (grey + (images - grey) * saturation) * gain
    return ((images - 0.5) * contrast + 0.5 + offset).clamp(0, 1)


def _soften(images: Tensor, rng: torch.Generator) -> Tensor:
    """A box blur of 3 or 5 pixels, or half the resolution and back."""
    h, w = images.shape[-2:]
    kind = int(torch.randint(3, (1,), generator=rng))
    if kind == 2:
        small = avg_pool2d(images, 2)
        return interpolate(small, size=(h, w), mode="bilinear", align_corners=False)
    size = 3 + 2 * kind
    return avg_pool2d(images, size, 1, size // 2, count_include_pad=False)


def _cosines(size: int = 8) -> Tensor:
    k = torch.arange(size, dtype=torch.float32)
    basis = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / (2 * size)) * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis


_DCT = _cosines()


def _quantise_blocks(images: Tensor, rng: torch.Generator) -> Tensor:
    """Round the cosine coefficients of 8 x 8 blocks, higher frequencies coarser, as JPEG does."""
    n, c, h, w = images.shape
    blocks = images.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)
    coefficients = _DCT @ (blocks @ _DCT.T)
    order = torch.arange(8)
    step = _uniform(n, 0.01, 0.06, rng)[:, None, None, None, None, None] * (1 + order[:, None] + order[None])
    rounded = torch.round(coefficients / step) * step
    restored = _DCT.T @ (rounded @ _DCT)
    return restored.permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w).clamp(0, 1)


def smooth_noise(n: int, h: int, w: int, rng: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Coloured noise of a coarse and a finer scale, in 0..1."""
    coarse = torch.rand(n, 3, 4, 4, generator=rng)
    fine = torch.rand(n, 3, 24, 24, generator=rng) - 0.5
    amount = _uniform(n, 0, 0.5, rng)[:, None, None, None]
    mixed = interpolate(coarse, size=(h, w), mode="bilinear") + amount * interpolate(fine, size=(h, w))
    return mixed.clamp(0, 1)


def _new_background(images: Tensor, silhouettes: Tensor, share: float, rng: torch.Generator) -> Tensor:
    n, _, h, w = images.shape
    chosen = (torch.rand(n, generator=rng) < share)[:, None, None, None]
    keep = torch.where(chosen, silhouettes, 1.0)
    return images * keep + smooth_noise(n, h, w, rng) * (1 - keep)


def _erase(images: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Paint one rectangle of up to a quarter of the side over some rows: limbs that are hidden must be inferred."""
    images = images.clone()
    n, _, h, w = images.shape
    for i in torch.nonzero(torch.rand(n, generator=rng) < share).flatten().tolist():
        y, x, dy, dx = torch.rand(4, generator=rng).tolist()
        top, left = int(y * h), int(x * w)
        images[i, :, top : top + int(h * (0.06 + dy * 0.2)), left : left + int(w * (0.06 + dx * 0.2))] = torch.rand(
            3, 1, 1, generator=rng
        )
    return images

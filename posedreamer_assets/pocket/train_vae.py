"""Training of the pocket generator's autoencoder on crops of images and control images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from posedreamer_assets.diffusion.networks import PocketSizes, build_vae, decode, encode_mode, parameter_count
from posedreamer_assets.diffusion.pixels import batches, to_pixels, to_signed
from posedreamer_assets.pocket.shards import read_painted, shard_paths
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.loop import Budget, Progress, descend, processor_seconds, run_loop, set_rates
from posedreamer_assets.training.precision import autocast
from posedreamer_assets.training.schedule import rate_factor

FLOOR = 0.02  # of the peak rate, at the end of the cosine
WARMUP_STEPS = 50


@dataclass(frozen=True)
class VaeTraining:
    """How the autoencoder is trained, until the processor's minutes or the steps are used up.

    `latent_noise`: largest noise added to latents, in their standard deviations; `crop`: pixels.
    """

    minutes: float = 12.0
    max_steps: int = 1_000_000
    batch_size: int = 16
    crop: int = 64  # convolutions need no whole images, and smaller ones make more steps
    learning_rate: float = 2e-3
    latent_noise: float = 0.1
    max_rows: int = 6000
    threads: int = 1
    dtype: str = "auto"
    seed: int = 0
    sizes: PocketSizes = field(default_factory=PocketSizes)


def reconstruction_loss(rebuilt: Float[Tensor, "n 3 h w"], images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """L1, plus L1 of the horizontal and vertical differences (edges), plus a little squared error."""
    difference = rebuilt - images
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 0.5 * edges + 0.2 * difference.square().mean()


def unit_variance_penalty(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Squared distance of every channel's mean from 0 and standard deviation from 1, over the batch."""
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    return (mean.square() + (std - 1.0).square()).mean()


def train_vae(shards: Path, out_dir: Path, cfg: VaeTraining) -> dict[str, float]:
    """Train the autoencoder on images and control images and write `out_dir/vae`.

    Latents are pushed to unit variance while training; `scaling_factor` and `shift_factor` are then measured so that
    latents as the pipeline sees them have mean 0 and variance 1.

    Returns:
        Steps, PSNR in dB of held-out images and of held-out control images, and the measured statistics.

    Raises:
        ShardError: no shards, or damaged ones.
        TrainingDiverged: a loss that is not finite.
    """
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    rng = np.random.default_rng(cfg.seed)
    train, held = _vae_rows(shards, cfg.max_rows)
    vae = build_vae(cfg.sizes)
    log = JsonLog(out_dir / "training" / "vae.jsonl", echo=True)
    log.write(event="start", rows=len(train), parameters=parameter_count(vae))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=cfg.learning_rate, betas=(0.9, 0.95), weight_decay=1e-3)
    progress = Progress()

    def step(share: float) -> float:
        set_rates([optimizer], rate_factor(share, 1.0, (progress.step + 1) / WARMUP_STEPS, FLOOR))
        return descend(_vae_loss(vae, to_signed(_crops(train, rng, cfg)), cfg), vae, [optimizer])

    run_loop(step, Budget(cfg.minutes, cfg.max_steps, processor_seconds), progress, log=log)
    result = _finish_vae(vae, train, held, out_dir)
    log.write(event="end", step=progress.step, **result)
    return {"steps": float(progress.step), **result}


def _vae_loss(vae: AutoencoderTiny, images: Float[Tensor, "n 3 h w"], cfg: VaeTraining) -> Float[Tensor, ""]:
    with autocast(cfg.dtype):
        latents = encode_mode(vae, images)
        sigma = cfg.latent_noise * torch.rand(len(images), 1, 1, 1) * latents.detach().std()
        rebuilt = decode(vae, latents + sigma * torch.randn_like(latents))
    return reconstruction_loss(rebuilt.float(), images) + 0.02 * unit_variance_penalty(latents.float())


def _crops(train: UInt8[np.ndarray, "n h w 3"], rng: np.random.Generator, cfg: VaeTraining) -> np.ndarray:
    """Random rows, all cut at one random place."""
    side = min(cfg.crop, *train.shape[1:3])
    y, x = (int(rng.integers(length - side + 1)) for length in train.shape[1:3])
    return train[rng.integers(len(train), size=cfg.batch_size), y : y + side, x : x + side]


def _vae_rows(folder: Path, max_rows: int) -> tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "m h w 3"]]:
    """At most `max_rows` rows to train on (two images to one control image) and held-out rows, first half images, then
    controls."""
    images, controls, held, room = [], [], [], max_rows
    for path in reversed(shard_paths(folder)):
        shard = read_painted(path)
        kept = np.flatnonzero(~shard.held_out)[:room]
        images.append(shard.images[kept])
        controls.append(shard.controls[kept[::2]])
        held.append((shard.images[shard.held_out], shard.controls[shard.held_out]))
        room -= len(kept)
        if room == 0:
            break
    return np.concatenate(images + controls), np.concatenate(
        [rows for kind in zip(*held, strict=True) for rows in kind]
    )


@torch.no_grad()
def _finish_vae(vae: AutoencoderTiny, train: np.ndarray, held: np.ndarray, out_dir: Path) -> dict[str, float]:
    vae.eval()
    sample = train[:: max(1, len(train) // 256)]
    latents = torch.cat([encode_mode(vae, to_signed(sample[s])) for s in batches(len(sample), 16)])
    shift, scale = latents.mean().item(), 1.0 / latents.std().item()
    vae.register_to_config(shift_factor=shift, scaling_factor=scale)
    signed = to_signed(held)
    rebuilt = torch.cat([decode(vae, encode_mode(vae, signed[s])) for s in batches(len(held), 16)])
    found = psnr(rebuilt, signed)
    half = len(held) // 2
    save_vae(vae, out_dir / "vae")
    rows = [held[:half][:8], to_pixels(rebuilt[:half][:8]), held[half:][:8], to_pixels(rebuilt[half:][:8])]
    save_grid(out_dir / "training" / "vae.png", rows)
    return {
        "psnr_images_db": found[:half].mean().item(),
        "psnr_controls_db": found[half:].mean().item(),
        "shift_factor": shift,
        "scaling_factor": scale,
    }


def psnr(rebuilt: Float[Tensor, "n 3 h w"], images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio of each image, in dB, of pixels in -1..1."""
    error = ((rebuilt.clamp(-1, 1) - images) / 2).square().mean((1, 2, 3))
    return -10.0 * error.clamp(min=1e-10).log10()


def save_vae(vae: AutoencoderTiny, folder: Path) -> None:
    """Write an autoencoder without `block_out_channels`, which diffusers derives anew and warns about when it finds it stored."""
    vae.save_pretrained(str(folder))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("block_out_channels", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_grid(path: Path, columns: Sequence[UInt8[np.ndarray, "n h w 3"]]) -> None:
    """A picture with one column per array and one row per image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(c), 0) for c in columns], 1)).save(path)

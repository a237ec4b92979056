"""A better decoder for a trained generator. The encoder stays, and with it every latent and every weight of the transformer.

The decoder becomes deeper where that is cheap, at the latents' own resolution, and learns from two kinds of latents of the same
renders: their own, and those that the transformer guesses of them through noise, which is what it will decode. A guess is
smoother than the truth, so that a decoder which never saw one paints smoothness where an edge belongs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.networks import DOWNSAMPLING, decode, unpack_latents
from posedreamer_assets.diffusion.pixels import batches, to_signed
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.pocket.latents import LatentCache, LatentShard, decode_latents
from posedreamer_assets.pocket.shards import read_painted
from posedreamer_assets.pocket.train_flow import load_vae
from posedreamer_assets.pocket.train_vae import FLOOR, WARMUP_STEPS, psnr, reconstruction_loss, save_grid, save_vae
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.loop import Budget, Progress, descend, processor_seconds, run_loop, set_rates
from posedreamer_assets.training.precision import autocast
from posedreamer_assets.training.schedule import rate_factor

TOKEN = 2 * DOWNSAMPLING  # pixels along a side
HELD_OUT_ROWS = 64


@dataclass(frozen=True)
class DecoderTraining:
    """How the decoder is trained, until the processor's minutes or the steps are used up.

    `blocks`: residual blocks at a quarter, half and all of the resolution; `max_rows`: renders to learn from; `guessed_rows`: how
    many of them are guessed through noise of level `sigma`; `crop`: tokens along a side; `latent_noise`: largest noise added to
    the latents of renders, in their standard deviations.
    """

    minutes: float = 30.0
    max_steps: int = 1_000_000
    batch_size: int = 16
    blocks: tuple[int, ...] = (4, 2, 1)
    max_rows: int = 12_000
    guessed_rows: int = 1536
    sigma: float = 0.5
    crop: int = 8
    learning_rate: float = 1e-3
    latent_noise: float = 0.1
    ema: float = 0.998
    threads: int = 1
    dtype: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Decodable:
    """What is decoded and what should come of it: latents float16 (n, tokens, c), images uint8 (n, h, w, 3)."""

    latents: np.ndarray
    images: np.ndarray

    @classmethod
    def concat(cls, parts: "Sequence[Decodable]") -> "Decodable":
        """One after the other."""
        return cls(np.concatenate([p.latents for p in parts]), np.concatenate([p.images for p in parts]))

    def crops(self, rng: np.random.Generator, size: int, side: int) -> tuple[Tensor, Tensor]:
        """Latents (size, c, ...) and pixels in -1..1 of random rows, all cut at one random place of `side` tokens."""
        rows = rng.integers(len(self.latents), size=size)
        height, width = self.images.shape[1] // TOKEN, self.images.shape[2] // TOKEN
        side = min(side, height, width)
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        grid = self.latents[rows].reshape(size, height, width, -1)[:, y : y + side, x : x + side]
        tokens = torch.from_numpy(grid.reshape(size, side * side, -1)).float()
        pixels = self.images[rows, TOKEN * y : TOKEN * (y + side), TOKEN * x : TOKEN * (x + side)]
        return unpack_latents(tokens, 2 * side, 2 * side), to_signed(pixels)


def deepen(vae: AutoencoderTiny, blocks: tuple[int, ...]) -> AutoencoderTiny:
    """The same autoencoder with so many blocks at each resolution of its decoder; new blocks hardly change anything yet.

    Raises:
        ValueError: fewer blocks than there are, or another number of resolutions.
    """
    found = tuple(vae.config["num_decoder_blocks"])
    if len(blocks) != len(found) or any(new < old for new, old in zip(blocks, found, strict=True)):
        raise ValueError(f"a decoder of {found} blocks cannot become one of {blocks}")
    left_out = ("block_out_channels", "num_decoder_blocks")
    config = {k: v for k, v in vae.config.items() if not k.startswith("_") and k not in left_out}
    deeper = AutoencoderTiny(**config, num_decoder_blocks=blocks)
    deeper.register_to_config(shift_factor=vae.config["shift_factor"], scaling_factor=vae.config["scaling_factor"])
    deeper.encoder.load_state_dict(vae.encoder.state_dict())
    for old, new in zip(_resolutions(vae.decoder), _resolutions(deeper.decoder), strict=True):
        more = len(new) - len(old)
        last = max(i for i, layer in enumerate(old) if isinstance(layer, AutoencoderTinyBlock)) + 1
        for source, target in zip(old, new[:last] + new[last + more :], strict=True):
            target.load_state_dict(source.state_dict())
        for fresh in new[last : last + more]:
            ending = [layer for layer in fresh.modules() if isinstance(layer, nn.Conv2d)][-1]
            nn.init.normal_(ending.weight, std=0.01)
            nn.init.zeros_(ending.bias)  # type: ignore[arg-type]
    return deeper


def _resolutions(decoder: nn.Module) -> list[list[nn.Module]]:
    """The decoder's layers, those of one resolution together."""
    groups: list[list[nn.Module]] = [[]]
    for layer in decoder.layers:  # type: ignore[union-attr]
        if isinstance(layer, nn.Upsample):
            groups.append([])
        groups[-1].append(layer)
    return groups


def train_decoder(shards: Path, out_dir: Path, cfg: DecoderTraining) -> dict[str, float]:
    """Train the decoder of the generator in `out_dir` and write `out_dir/vae` anew.

    Returns:
        Steps, and PSNR in dB of held-out renders and of guesses of them, before and after.

    Raises:
        BackendError: no trained generator in `out_dir`.
        ShardError: no shards, or damaged ones.
        TrainingDiverged: a loss that is not finite.
    """
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    rng = np.random.default_rng(cfg.seed)
    log = JsonLog(out_dir / "training" / "decoder.jsonl", echo=True)
    own, guessed, held = _rows(shards, out_dir, cfg, log)
    vae = load_vae(out_dir)
    before = _measure(vae, held)
    vae = deepen(vae, cfg.blocks).requires_grad_(False)
    log.write(event="start", rows=len(own.images), guessed=len(guessed.images), **before)
    vae.decoder.requires_grad_(True).train()
    average = AveragedWeights(vae.decoder, cfg.ema)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=cfg.learning_rate, betas=(0.9, 0.95), weight_decay=1e-4)
    progress = Progress()

    def step(share: float) -> float:
        set_rates([optimizer], rate_factor(share, 1.0, (progress.step + 1) / WARMUP_STEPS, FLOOR))
        loss = _loss(vae, own, rng, cfg, cfg.latent_noise) + _loss(vae, guessed, rng, cfg, 0.0)
        value = descend(loss, vae.decoder, [optimizer])
        average.update(progress.step)
        return value

    run_loop(step, Budget(cfg.minutes, cfg.max_steps, processor_seconds), progress, log=log)
    with average.in_place():
        after = _measure(vae, held)
        save_vae(vae, out_dir / "vae")
        _save_pictures(vae, held, out_dir / "training" / "decoder.png")
    result = {**{f"{name}_before": value for name, value in before.items()}, **after}
    log.write(event="end", step=progress.step, **result)
    return {"steps": float(progress.step), **result}


def _rows(
    shards: Path, out_dir: Path, cfg: DecoderTraining, log: JsonLog
) -> tuple[Decodable, Decodable, tuple[Decodable, Decodable]]:
    """Renders with their own latents, some of them with guessed ones, and both of held-out renders.

    Shard by shard, since pixels of all renders and of their control images are gigabytes.
    """
    cache = LatentCache(shards, out_dir / "training" / "latents", load_vae(out_dir), cfg.dtype, log)
    cache.refresh()
    rng, noise = np.random.default_rng(cfg.seed), torch.Generator().manual_seed(cfg.seed)
    side = TOKEN * math.isqrt(next(iter(cache.parts.values())).images.shape[1])
    settings = GeneratorConfig(model_path=str(out_dir), dtype="float32", device="cpu")
    generator = PocketGenerator.load(settings, ImageConfig(width=side, height=side))
    found: list[tuple[Decodable, ...]] = []
    for name, part in sorted(cache.parts.items()):
        pixels = read_painted(shards / f"{name}.npz").images
        train, held = rng.permutation(np.flatnonzero(~part.held_out)), np.flatnonzero(part.held_out)
        train, few, held = (
            rows[: math.ceil(count / len(cache.parts))]
            for rows, count in ((train, cfg.max_rows), (train, cfg.guessed_rows), (held, HELD_OUT_ROWS))
        )
        found.append(
            (
                Decodable(part.images[train], pixels[train]),
                guess(generator, part, few, pixels, cfg.sigma, noise),
                Decodable(part.images[held], pixels[held]),
                guess(generator, part, held, pixels, cfg.sigma, noise),
            )
        )
    own, guessed, held_own, held_guessed = (Decodable.concat(parts) for parts in zip(*found, strict=True))
    return own, guessed, (held_own, held_guessed)


@torch.no_grad()
def guess(
    generator: PocketGenerator,
    part: LatentShard,
    rows: Int[np.ndarray, " n"],
    pixels: UInt8[np.ndarray, "m h w 3"],
    sigma: float,
    noise: torch.Generator,
) -> Decodable:
    """Rows of a shard with the latents that the transformer guesses of them, mixed with noise: x - sigma v(x, sigma)."""
    found = []
    for chunk in batches(len(rows), 8):
        few = rows[chunk]
        images, controls = (torch.from_numpy(latents[few]).float() for latents in (part.images, part.controls))
        noisy = torch.lerp(images, torch.randn(images.shape, generator=noise), sigma)
        captions = generator.encode_captions([part.captions[row] for row in few])
        velocity = generator.velocity(noisy, controls, captions, torch.full((len(few),), sigma))
        found.append((noisy - sigma * velocity).half().numpy())
    return Decodable(np.concatenate(found), pixels[rows])


def _loss(
    vae: AutoencoderTiny, rows: Decodable, rng: np.random.Generator, cfg: DecoderTraining, latent_noise: float
) -> Float[Tensor, ""]:
    """Reconstruction of half a batch of crops."""
    latents, pixels = rows.crops(rng, cfg.batch_size // 2, cfg.crop)
    latents = latents + latent_noise * torch.rand(len(latents), 1, 1, 1) * torch.randn_like(latents)
    with autocast(cfg.dtype):
        rebuilt = decode(vae, latents / vae.config["scaling_factor"] + vae.config["shift_factor"])
    return reconstruction_loss(rebuilt.float(), pixels)


@torch.no_grad()
def _measure(vae: AutoencoderTiny, held: tuple[Decodable, Decodable]) -> dict[str, float]:
    return {
        name: psnr(to_signed(_decoded(vae, rows)), to_signed(rows.images)).mean().item()
        for name, rows in zip(("psnr_renders_db", "psnr_guesses_db"), held, strict=True)
    }


def _decoded(vae: AutoencoderTiny, rows: Decodable) -> UInt8[np.ndarray, "n h w 3"]:
    height, width = rows.images.shape[1:3]
    parts = [
        decode_latents(vae, torch.from_numpy(rows.latents[chunk]).float(), height, width)
        for chunk in batches(len(rows.images), 16)
    ]
    return np.concatenate(parts)


def _save_pictures(vae: AutoencoderTiny, held: tuple[Decodable, Decodable], path: Path) -> None:
    few = [Decodable(rows.latents[:8], rows.images[:8]) for rows in held]
    save_grid(path, [few[0].images, *(_decoded(vae, rows) for rows in few)])

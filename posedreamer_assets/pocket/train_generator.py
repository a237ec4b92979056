"""Training of the pocket generator from rendered shards, on one CPU core.

    python -m posedreamer_assets.pocket.train_generator vae  --shards DIR --out DIR --minutes 12
    python -m posedreamer_assets.pocket.train_generator flux --shards DIR --out DIR --minutes 80

Both write into the same folder, which becomes the generator: `vae/`, `transformer/`, `scheduler/`, `text_encoder/`,
`tokenizer/`. `flux` adds `training/` with the latents, the resumable state, a JSON-lines log and sample grids; it takes
up shards that appear while it runs.
"""

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, FluxTransformer2DModel
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from posedreamer_assets.diffusion.halves import body_window, half_windows
from posedreamer_assets.diffusion.networks import (
    PlainAttention,
    PocketSizes,
    build_scheduler,
    build_transformer,
    build_vae,
    decode,
    encode_mode,
    image_ids,
    pack_latents,
    parameter_count,
    unpack_latents,
)
from posedreamer_assets.diffusion.text import CaptionEncoder, build_text_encoder, build_tokenizer
from posedreamer_assets.errors import BackendError
from posedreamer_assets.pocket.generator_shards import batches, read_shard, shard_paths, to_pixels, to_signed
from posedreamer_assets.render.captions import vocabulary as caption_vocabulary

HELD_OUT_ROWS = 64  # the last rows of the last shard that was there at the start; never trained on


@dataclass(frozen=True)
class VaeTraining:
    """How the autoencoder is trained, until the minutes or the steps are used up.

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
    dtype: str = "bfloat16"
    seed: int = 0
    sizes: PocketSizes = field(default_factory=PocketSizes)


@dataclass(frozen=True)
class FluxTraining:
    """How the transformer and the caption encoder are trained, by flow matching, until minutes or steps are used up.

    `body_weight`: extra weight of the loss where the body is; `ema`: decay of the averaged weights that are kept;
    `half_share`: share of the steps that see half images.
    """

    minutes: float = 80.0
    max_steps: int = 1_000_000
    batch_size: int = 16
    learning_rate: float = 6e-4
    warmup_steps: int = 150
    # Noise levels are logit-normal, mostly high: small images are smooth, so colour and layout are settled above 0.9.
    noise_mean: float = 1.0
    noise_std: float = 1.5
    warm_start: bool = False  # from the transformer in the folder, with a new caption encoder
    body_weight: float = 4.0  # limbs are few of the tokens, and what the labels are about
    # Most steps see half an image, the half with the body: twice as many bodies for the same work.
    half_share: float = 0.75
    whole_after: float = 0.85  # of the training; the rest sees whole images, as sampling does
    ema: float = 0.998
    checkpoint_minutes: float = 5.0
    grid_minutes: float = 10.0
    grid_steps: int = 8
    threads: int = 1
    dtype: str = "bfloat16"
    seed: int = 0
    sizes: PocketSizes = field(default_factory=PocketSizes)


class JsonLog:
    """Appends one JSON object per line and prints it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, **fields: Any) -> None:
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in fields.items()})
        with self.path.open("a") as file:
            file.write(line + "\n")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def cosine_rate(peak: float, progress: float, step: int, warmup_steps: int) -> float:
    """Linear warm-up over steps, then a cosine to 2 % of the peak over `progress` in [0, 1]."""
    decayed = 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return peak * decayed * min(1.0, (step + 1) / warmup_steps)


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
    """
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    rng = np.random.default_rng(cfg.seed)
    train, held = _vae_rows(shards, cfg.max_rows)
    vae = build_vae(cfg.sizes)
    log = JsonLog(out_dir / "training" / "vae.jsonl")
    log.write(event="start", rows=len(train), parameters=parameter_count(vae))
    optimizer = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.95), weight_decay=1e-3)
    start, step, mean_loss = time.monotonic(), 0, 0.0
    while (progress := max((time.monotonic() - start) / (60.0 * cfg.minutes), step / cfg.max_steps)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(cfg.learning_rate, progress, step, 50)
        images = to_signed(_crops(train, rng, cfg))
        with _autocast(cfg.dtype):
            latents = encode_mode(vae, images)
            sigma = cfg.latent_noise * torch.rand(len(images), 1, 1, 1) * latents.detach().std()
            rebuilt = decode(vae, latents + sigma * torch.randn_like(latents))
        loss = reconstruction_loss(rebuilt.float(), images) + 0.02 * unit_variance_penalty(latents.float())
        _update(optimizer, loss, vae)
        step += 1
        mean_loss = loss.item() if step == 1 else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 50 == 0:
            log.write(step=step, loss=mean_loss, it_s=step / (time.monotonic() - start))
    result = _finish_vae(vae, train, held, out_dir)
    log.write(event="end", step=step, **result)
    return {"steps": float(step), **result}


def _crops(train: UInt8[np.ndarray, "n h w 3"], rng: np.random.Generator, cfg: VaeTraining) -> np.ndarray:
    """Random rows, all cut at one random place."""
    side = min(cfg.crop, *train.shape[1:3])
    y, x = (int(rng.integers(length - side + 1)) for length in train.shape[1:3])
    return train[rng.integers(len(train), size=cfg.batch_size), y : y + side, x : x + side]


def _vae_rows(folder: Path, max_rows: int) -> tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "m h w 3"]]:
    """Rows to train on (two images to one control image) and held-out rows (first half images, then controls)."""
    paths = shard_paths(folder)
    images, controls, held, room = [], [], [], max_rows
    for path in reversed(paths):
        shard = read_shard(path)
        rows = len(shard) - _held_out(len(shard)) if path == paths[-1] else len(shard)
        if path == paths[-1]:
            held = [shard.images[rows:], shard.controls[rows:]]
        rows = min(rows, room)
        images.append(shard.images[:rows])
        controls.append(shard.controls[:rows:2])
        room -= rows
        if room == 0:
            break
    return np.concatenate(images + controls), np.concatenate(held)


def _held_out(rows: int) -> int:
    return min(HELD_OUT_ROWS, rows // 4)


@torch.no_grad()
def _finish_vae(vae: AutoencoderTiny, train: np.ndarray, held: np.ndarray, out_dir: Path) -> dict[str, float]:
    vae.eval()
    sample = train[:: max(1, len(train) // 256)]
    latents = torch.cat([encode_mode(vae, to_signed(sample[s])) for s in batches(len(sample), 16)])
    shift, scale = latents.mean().item(), 1.0 / latents.std().item()
    vae.register_to_config(shift_factor=shift, scaling_factor=scale)
    signed = to_signed(held)
    rebuilt = torch.cat([decode(vae, encode_mode(vae, signed[s])) for s in batches(len(held), 16)])
    error = ((rebuilt.clamp(-1, 1) - signed) / 2).square().mean((1, 2, 3))
    psnr = -10.0 * error.clamp(min=1e-10).log10()
    half = len(held) // 2
    _save_vae(vae, out_dir / "vae")
    rows = [held[:8], to_pixels(rebuilt[:8]), held[half : half + 8], to_pixels(rebuilt[half : half + 8])]
    save_grid(out_dir / "training" / "vae.png", rows)
    return {
        "psnr_images_db": psnr[:half].mean().item(),
        "psnr_controls_db": psnr[half:].mean().item(),
        "shift_factor": shift,
        "scaling_factor": scale,
    }


def _save_vae(vae: AutoencoderTiny, folder: Path) -> None:
    """Save without `block_out_channels`, which diffusers derives anew and warns about when it finds it stored."""
    vae.save_pretrained(str(folder))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("block_out_channels", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_grid(path: Path, columns: Sequence[UInt8[np.ndarray, "n h w 3"]]) -> None:
    """A picture with one column per array and one row per image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(c), 0) for c in columns], 1)).save(path)


@torch.no_grad()
def encode_images(
    vae: AutoencoderTiny, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = 16
) -> Float[Tensor, "n tokens tc"]:
    """Packed, normalised latents as the transformer sees them."""
    scale, shift = vae.config["scaling_factor"], vae.config["shift_factor"]
    parts = []
    for rows in batches(len(images), batch_size):
        latents = encode_mode(vae, to_signed(images[rows]).to(vae.dtype))
        parts.append(pack_latents((latents - shift) * scale))
    return torch.cat(parts)


@torch.no_grad()
def decode_latents(
    vae: AutoencoderTiny, tokens: Float[Tensor, "n tokens tc"], height: int, width: int
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pixels of packed, normalised latents; height and width are the image's."""
    latents = unpack_latents(tokens, height // 4, width // 4)
    return to_pixels(decode(vae, latents / vae.config["scaling_factor"] + vae.config["shift_factor"]).float())


@dataclass
class LatentShard:
    """Encoded rows of one shard."""

    name: str
    images: np.ndarray  # float16 (n, tokens, c), memory-mapped
    controls: np.ndarray  # float16 (n, tokens, c), memory-mapped
    captions: list[str]
    body_share: np.ndarray  # float32 (n, tokens)


class LatentCache:
    """Latents of every shard of a folder, encoded once and kept as float16 files."""

    def __init__(self, shards: Path, cache: Path, vae: AutoencoderTiny, dtype: str, log: JsonLog) -> None:
        self.shards, self.cache, self.vae, self.dtype, self.log = shards, cache, vae, dtype, log
        self.parts: dict[str, LatentShard] = {}
        cache.mkdir(parents=True, exist_ok=True)

    def refresh(self) -> bool:
        """Encode shards that are not known yet; a file that is still being written waits for the next call."""
        before = len(self.parts)
        for path in shard_paths(self.shards):
            if path.stem not in self.parts:
                self._add(path)
        return len(self.parts) > before

    def _add(self, path: Path) -> None:
        start = time.monotonic()
        try:
            shard = read_shard(path)
        except BackendError as error:
            self.log.write(event="shard_unreadable", shard=path.name, error=str(error))
            return
        images = self._encoded(f"{path.stem}.images.npy", shard.images)
        controls = self._encoded(f"{path.stem}.controls.npy", shard.controls)
        share = shard.body_share.reshape(len(shard), -1)
        self.parts[path.stem] = LatentShard(path.stem, images, controls, shard.captions, share)
        self.log.write(event="shard", shard=path.stem, rows=len(shard), seconds=time.monotonic() - start)

    def _encoded(self, name: str, images: np.ndarray) -> np.ndarray:
        target = self.cache / name
        if not target.exists():
            part = target.with_suffix(".part.npy")
            with _autocast(self.dtype):
                tokens = encode_images(self.vae, images)
            np.save(part, tokens.half().numpy())
            part.replace(target)
        return np.load(target, mmap_mode="r")


class TrainingRows:
    """Random batches of the cached rows, without the held-out ones."""

    def __init__(self, cache: LatentCache, held_shard: str) -> None:
        self.cache, self.held_shard = cache, held_shard
        self.index: list[tuple[str, int]] = []
        self.update()

    def update(self) -> None:
        """Take up shards that the cache has learnt about."""
        self.index = []
        for name, part in self.cache.parts.items():
            rows = len(part.captions)
            rows -= _held_out(rows) if name == self.held_shard else 0
            self.index += [(name, row) for row in range(rows)]
        share = np.concatenate([part.body_share for part in self.cache.parts.values()])
        offsets = np.cumsum([0] + [len(part.captions) for part in self.cache.parts.values()])
        first = dict(zip(self.cache.parts, offsets, strict=False))
        side = math.isqrt(share.shape[1])
        self.windows = half_windows(side, side)
        self.window = body_window(share, self.windows, np.random.default_rng(0))[
            [first[name] + row for name, row in self.index]
        ]

    def draw(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor, list[str], Tensor]:
        """Images, controls (n, tokens, c), captions and body share (n, tokens) of random rows."""
        return self._gather([self.index[i] for i in rng.integers(len(self.index), size=size)])

    def draw_half(
        self, rng: np.random.Generator, size: int
    ) -> tuple[Int[np.ndarray, " tokens"], tuple[Tensor, Tensor, list[str], Tensor]]:
        """A half image's token indices, and random rows whose bodies it shows, cut to these tokens."""
        window = self.window[rng.integers(len(self.window))]
        mates = np.flatnonzero(self.window == window)
        tokens = self.windows[window]
        images, controls, captions, share = self._gather([self.index[i] for i in rng.choice(mates, size)])
        return tokens, (images[:, tokens], controls[:, tokens], captions, share[:, tokens])

    def held_out(self, size: int) -> tuple[Tensor, Tensor, list[str], Tensor]:
        """The last rows of the held-out shard."""
        rows = len(self.cache.parts[self.held_shard].captions)
        return self._gather([(self.held_shard, row) for row in range(rows - min(size, _held_out(rows)), rows)])

    def _gather(self, picked: list[tuple[str, int]]) -> tuple[Tensor, Tensor, list[str], Tensor]:
        parts = [(self.cache.parts[name], row) for name, row in picked]
        images = torch.from_numpy(np.stack([p.images[r] for p, r in parts])).float()
        controls = torch.from_numpy(np.stack([p.controls[r] for p, r in parts])).float()
        share = torch.from_numpy(np.stack([p.body_share[r] for p, r in parts]))
        return images, controls, [p.captions[r] for p, r in parts], share


def flow_matching_loss(
    velocity: Float[Tensor, "n tokens c"],
    images: Float[Tensor, "n tokens c"],
    noise: Float[Tensor, "n tokens c"],
    weight: Float[Tensor, "n tokens"],
) -> Float[Tensor, ""]:
    """Weighted mean square of the predicted velocity against `noise - images`, the target of rectified flow."""
    error = (velocity - (noise - images)).square().mean(-1)
    return (weight * error).sum() / weight.sum()


class FluxTrainer:
    """Joint training of a FLUX transformer and its caption encoder with averaged weights."""

    def __init__(self, model: nn.ModuleDict, cfg: FluxTraining, side: int) -> None:
        self.model, self.cfg = model, cfg
        self.transformer: Any = model["transformer"]
        self.captions: Any = model["captions"]
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.01, fused=True)
        self.rng = np.random.default_rng(cfg.seed)
        self.noise = torch.Generator().manual_seed(cfg.seed)
        self.ids = image_ids(side, side)
        self.step = 0
        self.seconds = 0.0

    def velocity(
        self, tokens: Tensor, controls: Tensor, captions: Sequence[str], sigma: Tensor, ids: Tensor | None = None
    ) -> Tensor:
        """The predicted velocity of noisy tokens at noise level sigma (n,); `ids` are the positions of half an image."""
        hidden, pooled = self.captions.encode(captions)
        return self.transformer(
            hidden_states=torch.cat([tokens, controls], dim=2),
            timestep=sigma,
            pooled_projections=pooled,
            encoder_hidden_states=hidden,
            txt_ids=torch.zeros(hidden.shape[1], 3),
            img_ids=self.ids if ids is None else ids,
        ).sample

    def train_step(self, rows: TrainingRows, progress: float) -> float:
        """One optimizer step; returns the loss."""
        cfg = self.cfg
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(cfg.learning_rate, progress, self.step, cfg.warmup_steps)
        if progress < cfg.whole_after and self.rng.random() < cfg.half_share:
            tokens, (images, controls, captions, share) = rows.draw_half(self.rng, cfg.batch_size)
            ids = self.ids[tokens]
        else:
            images, controls, captions, share = rows.draw(self.rng, cfg.batch_size)
            ids = self.ids
        logit = cfg.noise_mean + cfg.noise_std * torch.randn(len(images), generator=self.noise)
        sigma = torch.sigmoid(logit)
        noise = torch.randn(images.shape, generator=self.noise)
        noisy = torch.lerp(images, noise, sigma[:, None, None])
        with _autocast(cfg.dtype):
            velocity = self.velocity(noisy, controls, captions, sigma, ids)
        loss = flow_matching_loss(velocity.float(), images, noise, 1.0 + cfg.body_weight * share)
        _update(self.optimizer, loss, self.model)
        self._average_weights()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def _average_weights(self) -> None:
        decay = min(self.cfg.ema, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        for key, value in state.items():
            self.average[key].lerp_(value, 1.0 - decay)

    @torch.no_grad()
    def sample(self, controls: Tensor, captions: Sequence[str], seed: int) -> Tensor:
        """Tokens sampled with the current weights by Euler steps over uniform sigmas."""
        tokens = torch.randn(controls.shape, generator=torch.Generator().manual_seed(seed))
        grid = torch.linspace(1.0, 0.0, self.cfg.grid_steps + 1)
        with _autocast(self.cfg.dtype):
            for now, after in itertools.pairwise(grid):
                velocity = self.velocity(tokens, controls, captions, now.expand(len(tokens)))
                tokens = tokens + (after - now) * velocity.float()
        return tokens

    def save_state(self, path: Path) -> None:
        """Write everything that `load_state` needs, atomically."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "noise": self.noise.get_state(),
            "step": self.step,
            "seconds": self.seconds,
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load_state(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.noise.set_state(state["noise"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rng = np.random.default_rng((self.cfg.seed, self.step))

    def averaged(self) -> "AveragedWeights":
        """A context in which the model has its averaged weights."""
        return AveragedWeights(self)


class AveragedWeights:
    """Swaps a trainer's averaged weights in, and the trained ones back."""

    def __init__(self, trainer: FluxTrainer) -> None:
        self.trainer = trainer
        self.kept: dict[str, Tensor] = {}

    def __enter__(self) -> nn.ModuleDict:
        self.kept = {k: v.detach().clone() for k, v in self.trainer.model.state_dict().items()}
        self.trainer.model.load_state_dict(self.trainer.average)
        return self.trainer.model.eval()

    def __exit__(self, *_: object) -> None:
        self.trainer.model.load_state_dict(self.kept)
        self.trainer.model.train()


def train_flux(shards: Path, out_dir: Path, cfg: FluxTraining, *, resume: bool = False) -> dict[str, float]:
    """Train the transformer and the caption encoder on latents of `out_dir/vae`, and write both beside it.

    Raises:
        BackendError: no shards, or no trained autoencoder in `out_dir`.
    """
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    training = out_dir / "training"
    log = JsonLog(training / "flux.jsonl")
    vae = _load_vae(out_dir)
    cache = LatentCache(shards, training / "latents", vae, cfg.dtype, log)
    cache.refresh()
    rows = TrainingRows(cache, _held_out_name(training, list(cache.parts), resume))
    trainer = _build_trainer(cache, out_dir, cfg, resume)
    state = training / "state.pt"
    if resume and state.exists():
        trainer.load_state(state)
    log.write(event="start", rows=len(rows.index), parameters=parameter_count(trainer.model), step=trainer.step)
    with PlainAttention():
        _flux_loop(trainer, rows, vae, out_dir, log)
    result = {"steps": float(trainer.step), "held_out_loss": held_out_loss(trainer, rows)}
    log.write(event="end", **result)
    return result


def _flux_loop(trainer: FluxTrainer, rows: TrainingRows, vae: AutoencoderTiny, out_dir: Path, log: JsonLog) -> None:
    cfg, state = trainer.cfg, out_dir / "training" / "state.pt"
    limit, begun = 60.0 * cfg.minutes, trainer.seconds
    start = last = next_save = next_grid = time.monotonic()
    next_save += 60.0 * cfg.checkpoint_minutes
    next_grid += 60.0 * min(cfg.grid_minutes, 3.0)
    losses: list[float] = []
    while (progress := max(trainer.seconds / limit, trainer.step / cfg.max_steps)) < 1.0:
        losses.append(trainer.train_step(rows, progress))
        now = time.monotonic()
        trainer.seconds = begun + now - start
        if trainer.step % 50 == 0:
            rate = len(losses) / (now - last)
            log.write(step=trainer.step, loss=float(np.mean(losses)), it_s=rate, minutes=trainer.seconds / 60)
            losses, last = [], now
        if now >= next_grid:
            next_grid = now + 60.0 * cfg.grid_minutes
            _write_grid(trainer, rows, vae, out_dir / "training")
        if now >= next_save:
            next_save = now + 60.0 * cfg.checkpoint_minutes
            trainer.save_state(state)
            save_generator(trainer, out_dir)
            log.write(event="checkpoint", step=trainer.step, held_out_loss=held_out_loss(trainer, rows))
            if rows.cache.refresh():
                rows.update()
    trainer.save_state(state)
    save_generator(trainer, out_dir)
    _write_grid(trainer, rows, vae, out_dir / "training")


def _held_out_name(training: Path, names: list[str], resume: bool) -> str:
    """The shard whose last rows are held out; a resumed run keeps the one it began with."""
    path = training / "held_out.txt"
    if not (resume and path.exists()):
        path.write_text(sorted(names)[-1])
    return path.read_text()


def _build_trainer(cache: LatentCache, out_dir: Path, cfg: FluxTraining, resume: bool) -> FluxTrainer:
    tokens, channels = next(iter(cache.parts.values())).images.shape[1:]
    if channels != cfg.sizes.latent_channels * 4:
        raise BackendError(f"latents have {channels} channels a token, expected {cfg.sizes.latent_channels * 4}")
    if resume and (out_dir / "text_encoder").exists():
        captions = CaptionEncoder.load(out_dir)
    else:
        words = [c for part in cache.parts.values() for c in part.captions] + caption_vocabulary([])
        tokenizer = build_tokenizer(words, cfg.sizes.max_tokens)
        captions = CaptionEncoder(tokenizer, build_text_encoder(len(tokenizer), cfg.sizes))
    transformer = build_transformer(cfg.sizes)
    if cfg.warm_start and not resume:
        transformer = FluxTransformer2DModel.from_pretrained(str(out_dir / "transformer"))
    model = nn.ModuleDict({"transformer": transformer, "captions": captions})
    return FluxTrainer(model.train(), cfg, 2 * math.isqrt(tokens))


@torch.no_grad()
def held_out_loss(trainer: FluxTrainer, rows: TrainingRows) -> float:
    """Flow-matching loss of the averaged weights on held-out rows, with noise and sigmas that never change."""
    images, controls, captions, share = rows.held_out(32)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    sigma = (torch.arange(len(images)) + 0.5) / len(images)
    noisy = torch.lerp(images, noise, sigma[:, None, None])
    with trainer.averaged(), _autocast(trainer.cfg.dtype):
        velocity = trainer.velocity(noisy, controls, captions, sigma)
    return flow_matching_loss(velocity.float(), images, noise, 1.0 + trainer.cfg.body_weight * share).item()


def _write_grid(trainer: FluxTrainer, rows: TrainingRows, vae: AutoencoderTiny, folder: Path) -> None:
    images, controls, captions, _ = rows.held_out(10)
    side = 2 * len(trainer.ids[:, 1].unique()) * 4
    with trainer.averaged():
        samples = [trainer.sample(controls, captions, seed) for seed in (1, 2)]
    columns = [decode_latents(vae, t, side, side) for t in (controls, *samples, images)]
    save_grid(folder / f"grid-{trainer.step:06d}.png", columns)


def save_generator(trainer: FluxTrainer, out_dir: Path) -> None:
    """Write the averaged weights in diffusers' and transformers' formats."""
    with trainer.averaged() as model:
        transformer, captions = model["transformer"], model["captions"]
        assert isinstance(transformer, FluxTransformer2DModel) and isinstance(captions, CaptionEncoder)
        transformer.save_pretrained(str(out_dir / "transformer"))
        captions.save(out_dir)
    build_scheduler().save_pretrained(str(out_dir / "scheduler"))


def _load_vae(out_dir: Path) -> AutoencoderTiny:
    if not (out_dir / "vae").is_dir():
        raise BackendError(f"{out_dir / 'vae'} is missing: train the autoencoder first")
    return AutoencoderTiny.from_pretrained(str(out_dir / "vae")).eval().requires_grad_(False)


def _autocast(dtype: str) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, module: nn.Module) -> None:
    if not torch.isfinite(loss):
        raise BackendError(f"training diverged: loss is {loss.item()}")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()


def main() -> None:
    """Command line: `vae` or `flux`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("vae", "flux"))
    parser.add_argument("--shards", type=Path, required=True, help="folder of npz shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the generator")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm-start", action="store_true", help="flux: keep the transformer, renew the captions")
    parser.add_argument("--resume", action="store_true", help="flux: go on from the last checkpoint")
    args = parser.parse_args()
    given = {"minutes": args.minutes, "batch_size": args.batch_size}
    options: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    options |= {"threads": args.threads, "dtype": args.dtype, "seed": args.seed}
    if args.what == "vae":
        train_vae(args.shards, args.out, VaeTraining(**options))
    else:
        train_flux(args.shards, args.out, FluxTraining(**options, warm_start=args.warm_start), resume=args.resume)


if __name__ == "__main__":
    main()

"""Training of the pocket generator's transformer and caption encoder by flow matching."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, FluxTransformer2DModel
from jaxtyping import Float
from torch import Tensor, nn

from posedreamer_assets.diffusion.networks import (
    PlainAttention,
    PocketSizes,
    build_scheduler,
    build_transformer,
    image_ids,
    parameter_count,
)
from posedreamer_assets.diffusion.text import CaptionEncoder, build_text_encoder, build_tokenizer
from posedreamer_assets.errors import BackendError
from posedreamer_assets.pocket.latents import LatentCache, TrainingRows, decode_latents
from posedreamer_assets.pocket.train_vae import FLOOR, save_grid
from posedreamer_assets.render.captions import vocabulary as caption_vocabulary
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.loop import Budget, Duty, Progress, descend, processor_seconds, run_loop, set_rates
from posedreamer_assets.training.precision import autocast
from posedreamer_assets.training.resume import read_state, write_state
from posedreamer_assets.training.schedule import rate_factor


@dataclass(frozen=True)
class FluxTraining:
    """How the transformer and the caption encoder are trained, by flow matching, until minutes or steps are used up.

    `minutes`: of the processor, over all resumes. `body_weight`: extra weight of the loss where the body is; `ema`: decay
    of the averaged weights that are kept; `half_share`: share of the steps that see half images.
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
    dtype: str = "auto"
    seed: int = 0
    sizes: PocketSizes = field(default_factory=PocketSizes)


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
        self.average = AveragedWeights(model, cfg.ema)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=cfg.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        self.rng = np.random.default_rng(cfg.seed)
        self.noise = torch.Generator().manual_seed(cfg.seed)
        self.ids = image_ids(side, side)
        self.progress = Progress()

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

    def train_step(self, rows: TrainingRows, share: float) -> float:
        """One optimizer step, with `share` of the training over; returns the loss."""
        cfg = self.cfg
        warmth = (self.progress.step + 1) / cfg.warmup_steps
        set_rates([self.optimizer], rate_factor(share, 1.0, warmth, FLOOR))
        if share < cfg.whole_after and self.rng.random() < cfg.half_share:
            tokens, (images, controls, captions, body) = rows.draw_half(self.rng, cfg.batch_size)
            ids = self.ids[tokens]
        else:
            images, controls, captions, body = rows.draw(self.rng, cfg.batch_size)
            ids = self.ids
        logit = cfg.noise_mean + cfg.noise_std * torch.randn(len(images), generator=self.noise)
        sigma = torch.sigmoid(logit)
        noise = torch.randn(images.shape, generator=self.noise)
        noisy = torch.lerp(images, noise, sigma[:, None, None])
        with autocast(cfg.dtype):
            velocity = self.velocity(noisy, controls, captions, sigma, ids)
        loss = flow_matching_loss(velocity.float(), images, noise, 1.0 + cfg.body_weight * body)
        value = descend(loss, self.model, [self.optimizer])
        self.average.update(self.progress.step)
        return value

    @torch.no_grad()
    def sample(self, controls: Tensor, captions: Sequence[str], seed: int) -> Tensor:
        """Tokens sampled with the current weights by Euler steps over uniform sigmas."""
        tokens = torch.randn(controls.shape, generator=torch.Generator().manual_seed(seed))
        grid = torch.linspace(1.0, 0.0, self.cfg.grid_steps + 1)
        with autocast(self.cfg.dtype):
            for now, after in itertools.pairwise(grid):
                velocity = self.velocity(tokens, controls, captions, now.expand(len(tokens)))
                tokens = tokens + (after - now) * velocity.float()
        return tokens

    def save_state(self, path: Path) -> None:
        """Write everything that `load_state` needs, atomically."""
        write_state(
            path,
            model=self.model,
            average=self.average.state,
            optimizer=self.optimizer,
            noise=self.noise.get_state(),
            step=self.progress.step,
            seconds=self.progress.seconds,
        )

    def load_state(self, path: Path) -> None:
        """Go on from a saved state."""
        state = read_state(path)
        self.model.load_state_dict(state["model"])
        self.average.state = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.noise.set_state(state["noise"])
        self.progress.step, self.progress.seconds = state["step"], state["seconds"]
        self.rng = np.random.default_rng((self.cfg.seed, self.progress.step))


def train_flux(shards: Path, out_dir: Path, cfg: FluxTraining, *, resume: bool = False) -> dict[str, float]:
    """Train the transformer and the caption encoder on latents of `out_dir/vae`, and write both beside it.

    Raises:
        BackendError: no trained autoencoder in `out_dir`.
        ShardError: no shards.
        TrainingDiverged: a loss that is not finite.
    """
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    training = out_dir / "training"
    log = JsonLog(training / "flux.jsonl", echo=True)
    vae = load_vae(out_dir)
    cache = LatentCache(shards, training / "latents", vae, cfg.dtype, log)
    cache.refresh()
    rows = TrainingRows(cache)
    trainer = _build_trainer(cache, out_dir, cfg, resume)
    state = training / "state.pt"
    if resume and state.exists():
        trainer.load_state(state)
    step = trainer.progress.step
    log.write(event="start", rows=len(rows.index), parameters=parameter_count(trainer.model), step=step)

    def checkpoint() -> None:
        trainer.save_state(state)
        save_generator(trainer, out_dir)
        log.write(event="checkpoint", step=trainer.progress.step, held_out_loss=held_out_loss(trainer, rows))
        if cache.refresh():
            rows.update()

    def grid() -> None:
        _write_grid(trainer, rows, vae, training)

    duties = [Duty(grid, minutes=cfg.grid_minutes), Duty(checkpoint, minutes=cfg.checkpoint_minutes)]
    budget = Budget(cfg.minutes, cfg.max_steps, processor_seconds)
    with PlainAttention():
        run_loop(lambda share: trainer.train_step(rows, share), budget, trainer.progress, duties, log)
        result = {"steps": float(trainer.progress.step), "held_out_loss": held_out_loss(trainer, rows)}
    log.write(event="end", **result)
    return result


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
    images, controls, captions, body = rows.held_out(32)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    sigma = (torch.arange(len(images)) + 0.5) / len(images)
    noisy = torch.lerp(images, noise, sigma[:, None, None])
    with trainer.average.in_place(), autocast(trainer.cfg.dtype):
        velocity = trainer.velocity(noisy, controls, captions, sigma)
    return flow_matching_loss(velocity.float(), images, noise, 1.0 + trainer.cfg.body_weight * body).item()


def _write_grid(trainer: FluxTrainer, rows: TrainingRows, vae: AutoencoderTiny, folder: Path) -> None:
    images, controls, captions, _ = rows.held_out(10)
    side = 2 * len(trainer.ids[:, 1].unique()) * 4
    with trainer.average.in_place():
        samples = [trainer.sample(controls, captions, seed) for seed in (1, 2)]
    columns = [decode_latents(vae, t, side, side) for t in (controls, *samples, images)]
    save_grid(folder / f"grid-{trainer.progress.step:06d}.png", columns)


def save_generator(trainer: FluxTrainer, out_dir: Path) -> None:
    """Write the averaged weights in diffusers' and transformers' formats."""
    with trainer.average.in_place():
        trainer.transformer.save_pretrained(str(out_dir / "transformer"))
        trainer.captions.save(out_dir)
    build_scheduler().save_pretrained(str(out_dir / "scheduler"))


def load_vae(out_dir: Path) -> AutoencoderTiny:
    """The trained autoencoder of a generator's folder, frozen.

    Raises:
        BackendError: there is none.
    """
    if not (out_dir / "vae").is_dir():
        raise BackendError(f"{out_dir / 'vae'} is missing: train the autoencoder first")
    return AutoencoderTiny.from_pretrained(str(out_dir / "vae")).eval().requires_grad_(False)

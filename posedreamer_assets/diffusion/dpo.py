"""Flow-DPO: teach a flow-matching model to prefer the images of a pose that show it better; the loss is in `dpo_loss.py`.

v_theta is the model with a LoRA adapter, v_ref the same model with the adapter switched off or as it was at the start; both
see the same noise, noise level, latents, control and caption, and so do winner and loser. Where a GPU's memory ends, a step is
done anew with half as many pairs together.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig
from posedreamer_assets.cores import cores_of, map_on_cores
from posedreamer_assets.diffusion.adapters import (
    WEIGHTS_NAME,
    adapter_state,
    add_adapter,
    holding,
    load_adapter_state,
    without_adapter,
)
from posedreamer_assets.diffusion.dpo_loss import PairErrors, flow_dpo_loss, pair_figures, velocity_error
from posedreamer_assets.diffusion.dpo_state import Course, SavedTraining
from posedreamer_assets.diffusion.frugal import build_optimizer, fast_products, parked, set_checkpointing
from posedreamer_assets.diffusion.generator import FlowModel, Generator
from posedreamer_assets.diffusion.gradients import CPU_ROWS, attention, sum_gradients
from posedreamer_assets.diffusion.lowering import is_fp8
from posedreamer_assets.diffusion.pair_data import PairData, PairEncoder, PairRows, batches_of
from posedreamer_assets.diffusion.remembered import deciding
from posedreamer_assets.diffusion.together import Together, told
from posedreamer_assets.diffusion.training_plan import pairs_together
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets.progress import advance
from posedreamer_assets.training.loop import Budget, Duty, Progress, run_loop
from posedreamer_assets.training.schedule import rate_factor

VALIDATION_DRAWS = 2  # noise levels per validation pair
MAX_VALIDATION_PAIRS = 96
DECIDING = ("lora_rank", "half_images", "gradient_checkpointing", "latent_cache", "optimizer")
"""Those that decide how many pairs a GPU has room for."""


@dataclass(frozen=True)
class DpoResult:
    """A trained adapter.

    Attributes:
        adapter_path: its safetensors file.
        best_step: the step whose weights were kept; 0 is the adapter that changes nothing.
        best_validation_loss: Flow-DPO loss on the validation pairs at that step; log 2 at step 0.
        steps: one entry per step: loss, mean errors of policy and reference, accuracy.
        validations: the same on the validation pairs, with noise that never changes.
    """

    adapter_path: Path
    best_step: int
    best_validation_loss: float
    steps: list[dict[str, float]]
    validations: list[dict[str, float]]


class Part(NamedTuple):
    """Pairs that go through the model together, with their noise and noise levels."""

    rows: PairRows
    noise: Float[Tensor, "b tokens c"]
    sigma: Float[Tensor, "b"]


class DpoTrainer:
    """The adapter's training steps.

    The reference is the model without the adapter, or with the adapter in `start`, from which training then begins.
    Pixels, latents and embeddings are those of `PairEncoder`, whose files lie in `folder`. `together` says how many pairs go
    through the model at a time: where a GPU's memory does not suffice, half as many from then on, and noise that was drawn stays.

    Raises:
        AlignmentError: a network that cannot compute activations again, or an optimizer that is not installed; of its methods, a
            GPU whose memory is too small for a single pair.
    """

    def __init__(
        self,
        pairs: PairData,
        generator: FlowModel,
        cfg: AlignmentConfig,
        seed: int,
        folder: Path,
        start: Path | None = None,
    ) -> None:
        self.cfg, self.generator = cfg, generator
        self.cores = cores_of(generator.device)
        self.encoder = PairEncoder(pairs, generator, cache=cfg.latent_cache, halves=cfg.half_images, folder=folder)
        self.noise = torch.Generator().manual_seed(seed)
        self.train = np.flatnonzero(~pairs.validation)
        self.validation = np.flatnonzero(pairs.validation)[:MAX_VALIDATION_PAIRS].repeat(VALIDATION_DRAWS)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.lora = add_adapter(generator.network, cfg.lora_rank, generator.lora_targets)
        self.parameters = [p for p in generator.network.parameters() if p.requires_grad]
        self.reference: list[Tensor] | None = None
        if start is not None:
            load_adapter_state(generator.network, generator.adapter.network_name, start)
            self.reference = [p.detach().clone() for p in self.parameters]
        if cfg.gradient_checkpointing:
            set_checkpointing(generator.network, True)
        self.optimizer = build_optimizer(cfg, self.parameters)
        self.batch_size = min(cfg.batch_size, len(self.train))
        self.steps = min(cfg.steps, math.ceil(cfg.max_epochs * len(self.train) / self.batch_size))
        self._validation_reference: list[PairErrors] = []
        self.together = _together(cfg, generator, start)
        self._batches = batches_of(self.train, self.batch_size, np.random.default_rng(seed))

    def step(self, number: int) -> dict[str, float]:
        """One optimizer step on the next batch."""
        indices = next(self._batches)
        noise, sigma = self._draw(len(indices), self.noise)
        for group in self.optimizer.param_groups:
            group["lr"] = self.cfg.learning_rate * rate_at(number, self.steps)
        figures = self.together.until_it_fits(lambda: self._differentiate(indices, noise, sigma), self._forget)
        self.optimizer.step()
        return _averages(figures, number)

    def _differentiate(
        self, indices: np.ndarray, noise: Float[Tensor, "n tokens c"], sigma: Float[Tensor, "n"]
    ) -> list[dict[str, Tensor]]:
        """Give the adapter the gradients of the n pairs at `indices`, and return the figures of each part of them."""
        parts = self._parts(indices, noise, sigma)
        references = self._reference_errors(parts)

        def differentiate(work: tuple[Part, PairErrors]) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
            part, reference = work
            with self._attention():  # backwards, too: activations may be computed again there
                policy = self._errors(part)
                losses = flow_dpo_loss(policy, reference, part.sigma, self.cfg.beta)
                gradients = torch.autograd.grad(losses.sum() / len(indices), self.parameters)
            return pair_figures(policy, reference, part.sigma, self.cfg.beta), gradients

        return sum_gradients(differentiate, zip(parts, references, strict=True), self.parameters, self.cores)

    def validate(self, number: int) -> dict[str, float]:
        """The figures on the validation pairs, with the same noise and noise levels at every call."""
        n = len(self.validation)
        noise, _ = self._draw(n, torch.Generator().manual_seed(1))
        order = np.random.default_rng(1).permutation(n)
        sigma = torch.from_numpy(((order + 0.5) / n).astype(np.float32))
        return _averages(self.together.until_it_fits(lambda: self._measure(noise, sigma), self._forget), number)

    def _measure(self, noise: Float[Tensor, "n tokens c"], sigma: Float[Tensor, "n"]) -> list[dict[str, Tensor]]:
        """Figures of each part of the n validation pairs."""
        parts = self._parts(self.validation, noise, sigma)
        if not self._validation_reference:
            self._validation_reference = self._reference_errors(parts)
        policies = map_on_cores(torch.no_grad()(self._errors), parts, self.cores)
        return [
            pair_figures(policy, reference, part.sigma, self.cfg.beta)
            for policy, reference, part in zip(policies, self._validation_reference, parts, strict=True)
        ]

    def _forget(self) -> None:
        """Drop what was computed with larger parts."""
        self._validation_reference = []
        for parameter in self.parameters:
            parameter.grad = None

    def _parts(self, indices: np.ndarray, noise: Float[Tensor, "n tokens c"], sigma: Float[Tensor, "n"]) -> list[Part]:
        device = self.generator.device
        return [
            Part(self.encoder.rows(indices[chunk]), noise[chunk].to(device), sigma[chunk].to(device))
            for chunk in self._chunks(indices)
        ]

    def _reference_errors(self, parts: list[Part]) -> list[PairErrors]:
        network = self.generator.network
        with without_adapter(network) if self.reference is None else holding(self.parameters, self.reference):
            return list(map_on_cores(torch.no_grad()(self._errors), parts, self.cores))

    def _errors(self, part: Part) -> PairErrors:
        """Errors of winners and losers in one batch, both with the same noise and noise level."""
        rows = part.rows
        images = torch.cat([rows.winners, rows.losers]).float()
        noise, sigma = torch.cat([part.noise, part.noise]), torch.cat([part.sigma, part.sigma])
        noisy = torch.lerp(images, noise, sigma[:, None, None])
        controls, *captions = (torch.cat([half, half]) for half in (rows.controls, *rows.captions))
        weight = 1.0 + self.cfg.body_weight * torch.cat([rows.body, rows.body])
        tokens = self.encoder.windows[int(rows.window[0])]
        with self._attention():
            velocity = self.generator.velocity(noisy, controls, tuple(captions), sigma, tokens)
        errors = velocity_error(velocity, noise - images, weight)
        return PairErrors._make(errors.chunk(2))

    def _attention(self) -> AbstractContextManager[object]:
        return attention(self.generator.device, self.cfg.gradient_checkpointing)

    def skip(self, steps: int) -> None:
        """Leave out the batches of steps that were done before the training was stopped."""
        for _ in range(steps):
            next(self._batches)

    def _draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(n, *self.encoder.shape, generator=generator), torch.rand(n, generator=generator)

    def _chunks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Positions of pairs that go through the model together: pairs of the same half image."""
        windows = self.encoder.window[indices]
        for window in np.unique(windows):
            mates = np.flatnonzero(windows == window)
            yield from (mates[part] for part in self.together.parts(len(mates)))


def _together(cfg: AlignmentConfig, generator: FlowModel, start: Path | None) -> Together:
    """`micro_pairs`, or, where that is 0, on a GPU half as many pairs as the generator makes images at a time and on a CPU always
    the same number, so that the adapter does not depend on the generator's batch size."""
    on_cpu = generator.device.type == "cpu"
    of_generator = getattr(generator, "cfg", None)
    settings = {name: getattr(cfg, name) for name in DECIDING}
    settings |= {"name": getattr(generator, "name", ""), "tokens": generator.token_grid, "reference": start is not None}
    settings |= deciding(of_generator) if isinstance(of_generator, GeneratorConfig) else {}
    return Together(
        (cfg.micro_pairs or CPU_ROWS) if on_cpu else pairs_together(cfg, generator.block_size),
        what="Flow-DPO",
        noun="pairs",
        device=generator.device,
        settings=settings,
        too_large=lambda first: _too_large(cfg, of_generator, "a single pair", first),
    )


def _too_large(cfg: AlignmentConfig, generator: object, what: str, first: str) -> AlignmentError:
    """One line, with the settings that need less memory and are not set yet."""
    less = [
        ("alignment.gradient_checkpointing=true", not cfg.gradient_checkpointing),
        ("alignment.latent_cache=true", not cfg.latent_cache),
        ("alignment.optimizer=adamw8bit", cfg.optimizer == "adamw"),
        ("generator.precision=nf4", getattr(generator, "precision", "nf4") != "nf4"),
    ]
    others = ", ".join([setting for setting, is_open in less if is_open] + ["a smaller image or alignment.lora_rank"])
    return AlignmentError(f"Flow-DPO: the GPU's memory is too small for {what} ({first}): set {others}")


def train_dpo(
    pairs: PairData,
    generator: Generator,
    cfg: AlignmentConfig,
    seed: int,
    out_dir: Path,
    *,
    start: Path | None = None,
    work: Path | None = None,
) -> DpoResult:
    """Train an adapter and write `pytorch_lora_weights.safetensors` and `trajectory.json` into `out_dir`.

    The weights kept are those with the lowest loss on the validation pairs, looked at every `cfg.eval_every` steps and
    at the start. The generator is left as it was. The same arguments give the same adapter on the same machine, whether
    or not the training was killed meanwhile.

    Args:
        pairs: what is preferred to what.
        generator: a `FlowModel`.
        cfg: how it is trained.
        seed: of the adapter's first weights, the order of pairs, noise and noise levels.
        out_dir: where the adapter is written.
        start: an adapter of the same rank to begin with, which is the reference, too; None is no adapter.
        work: a folder that outlives a killed process: every `cfg.save_every` steps the training's state is written there,
            and a state of the same training is gone on from. None keeps none.

    Raises:
        AlignmentError: a backend that does not predict velocities, no training or no validation pairs, an optimizer that
            is not installed, a GPU whose memory is too small for a single pair, or a loss that is not finite.
    """
    if not isinstance(generator, FlowModel):
        raise AlignmentError(f"Flow-DPO needs a generator that predicts velocities (FlowModel), found {generator.name}")
    if any(is_fp8(layer) for layer in generator.network.modules()):
        raise AlignmentError(
            "Flow-DPO cannot train over weights in fp8, which are cast anew for every product: set generator.precision to bf16, "
            "int8 or nf4, or alignment.method to none"
        )
    for kind, count in (("training", int((~pairs.validation).sum())), ("validation", int(pairs.validation.sum()))):
        if count == 0:
            raise AlignmentError(f"no {kind} pairs among {len(pairs)}: make more poses or lower alignment.min_gap")
    generator.adapter.clear()
    folder = work or out_dir
    folder.mkdir(parents=True, exist_ok=True)
    try:
        other = partial(_too_large, cfg, getattr(generator, "cfg", None), "encoders and optimizer")
        with told(other), fast_products(generator.device):
            trainer = DpoTrainer(pairs, generator, cfg, seed, folder, start)
            saved = SavedTraining(trainer, work, seed, start) if work else None
            aside = parked(generator.adapter.pipeline, generator.network, generator.device)
            with aside if cfg.latent_cache else nullcontext():
                return _train(trainer, cfg, out_dir, saved)
    finally:
        set_checkpointing(generator.network, False)
        generator.adapter.clear()


def _train(trainer: DpoTrainer, cfg: AlignmentConfig, out_dir: Path, saved: SavedTraining | None) -> DpoResult:
    network = trainer.generator.network
    course = saved.read() if saved else None
    if course is None:
        course = Course(best=adapter_state(network), validations=[trainer.validate(0)])
    progress, steps, validations = Progress(course.step), course.steps, course.validations

    def step(_: float) -> float:
        number = progress.step + 1
        steps.append(trainer.step(number))
        if not np.isfinite(steps[-1]["loss"]):
            raise AlignmentError(f"Flow-DPO diverged at step {number}: lower alignment.learning_rate or alignment.beta")
        return steps[-1]["loss"]

    def validate() -> None:
        validations.append(trainer.validate(progress.step))
        if validations[-1]["loss"] < min(v["loss"] for v in validations[:-1]):
            course.best = adapter_state(network)

    def report() -> None:
        advance(1, f"loss {steps[-1]['loss']:.3f}")

    def save() -> None:
        course.step = progress.step
        if saved:
            saved.write(course)

    advance(progress.step)
    duties = [Duty(validate, steps=cfg.eval_every), Duty(report, steps=1)]
    if saved and cfg.save_every:
        duties.append(Duty(save, steps=cfg.save_every))
    run_loop(step, Budget(max_steps=trainer.steps), progress, duties)
    advance(cfg.steps - trainer.steps)  # progress counts on all steps
    chosen = min(validations, key=lambda v: v["loss"])
    _write(course.best, trainer, out_dir, steps, validations, int(chosen["step"]))
    return DpoResult(out_dir / WEIGHTS_NAME, int(chosen["step"]), chosen["loss"], steps, validations)


def _write(
    best: dict[str, Tensor],
    trainer: DpoTrainer,
    out_dir: Path,
    steps: list[dict[str, float]],
    validations: list[dict[str, float]],
    best_step: int,
) -> None:
    trainer.generator.adapter.write(out_dir, best, trainer.lora)
    trajectory = {
        "config": dataclasses.asdict(trainer.cfg),
        "train_pairs": len(trainer.train),
        "validation_pairs": len(set(trainer.validation.tolist())),
        "best_step": best_step,
        "steps": steps,
        "validations": validations,
    }
    (out_dir / "trajectory.json").write_text(json.dumps(trajectory, indent=1))


def rate_at(step: int, steps: int) -> float:
    """Warm-up over a tenth of the steps, then a cosine to zero: the last steps average the noise of single pairs out."""
    warmup = max(1.0, 0.1 * steps)
    return rate_factor(max(0.0, step - warmup), max(1.0, steps + 1 - warmup), step / warmup)


def _averages(parts: list[dict[str, Tensor]], step: int) -> dict[str, float]:
    means = {name: torch.cat([part[name] for part in parts]).mean().item() for name in parts[0]}
    return {"step": step, **means}

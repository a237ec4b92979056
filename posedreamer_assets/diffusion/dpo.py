"""Flow-DPO: teach a flow-matching model to prefer the images of a pose that show it better.

For a winner and a loser image of the same pose, with velocity targets v_w and v_l, the loss of paper section 3.2 is

    L = -E log sigmoid(-beta_t / 2 * ((|v_w - v_theta|^2 - |v_w - v_ref|^2) - (|v_l - v_theta|^2 - |v_l - v_ref|^2)))

with beta_t = beta (1 - t^2), where t is the noise level (0 is the image, 1 is noise) and |.|^2 is the mean over tokens
and channels, in which tokens that show the body may count for more: the preference is about the body, and what is behind
it differs between winner and loser by chance. v_theta is the model with a LoRA adapter, v_ref the same model with the
adapter switched off; both see the same noise, noise level, latents, control and caption, and so do winner and loser.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posedreamer_assets.config import AlignmentConfig
from posedreamer_assets.diffusion.adapters import (
    WEIGHTS_NAME,
    adapter_state,
    add_adapter,
    without_adapter,
)
from posedreamer_assets.diffusion.cores import cores_of, map_on_cores
from posedreamer_assets.diffusion.generator import FlowModel, Generator
from posedreamer_assets.diffusion.halves import body_share, body_window, half_windows
from posedreamer_assets.diffusion.networks import PlainAttention
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets.progress import advance
from posedreamer_assets.training.loop import Budget, Duty, Progress, run_loop
from posedreamer_assets.training.schedule import rate_factor

VALIDATION_DRAWS = 2  # noise levels per validation pair
MAX_VALIDATION_PAIRS = 96
CPU_PAIRS = 8


@dataclass(frozen=True)
class PairData:
    """n preference pairs; `validation` marks those that choose the checkpoint and are never trained on."""

    controls: UInt8[np.ndarray, "n h w 3"]
    winners: UInt8[np.ndarray, "n h w 3"]
    losers: UInt8[np.ndarray, "n h w 3"]
    captions: list[str]
    validation: Bool[np.ndarray, "n"]

    def __post_init__(self) -> None:
        n = len(self.controls)
        if not n == len(self.winners) == len(self.losers) == len(self.captions) == len(self.validation):
            raise AlignmentError("controls, winners, losers, captions and validation differ in length")

    def __len__(self) -> int:
        return len(self.controls)


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


class PairErrors(NamedTuple):
    """Velocity errors of b pairs, each (b,): mean squares over tokens and channels."""

    winner: Float[Tensor, "b"]
    loser: Float[Tensor, "b"]


def velocity_error(
    velocity: Float[Tensor, "b tokens c"], target: Float[Tensor, "b tokens c"], weight: Float[Tensor, "b tokens"]
) -> Float[Tensor, "b"]:
    """Mean square of the difference over channels, then its mean over tokens with these weights, in float32."""
    error = (velocity.float() - target.float()).square().mean(2)
    return (weight * error).sum(1) / weight.sum(1)


def beta_at(sigma: Float[Tensor, "b"], beta: float) -> Float[Tensor, "b"]:
    """beta_t = beta (1 - t^2)."""
    return beta * (1.0 - sigma.square())


def preference_margin(
    policy: PairErrors, reference: PairErrors, sigma: Float[Tensor, "b"], beta: float
) -> Float[Tensor, "b"]:
    """The argument of the log-sigmoid: positive where the policy, more than the reference, prefers the winner."""
    gain = (policy.winner - reference.winner) - (policy.loser - reference.loser)
    return -0.5 * beta_at(sigma, beta) * gain


def flow_dpo_loss(
    policy: PairErrors, reference: PairErrors, sigma: Float[Tensor, "b"], beta: float
) -> Float[Tensor, "b"]:
    """The loss of each pair; log 2 where policy and reference agree."""
    return -F.logsigmoid(preference_margin(policy, reference, sigma, beta))


class PairRows(NamedTuple):
    """Encoded pairs on the model's device."""

    winners: Float[Tensor, "b tokens c"]
    losers: Float[Tensor, "b tokens c"]
    controls: Float[Tensor, "b tokens c"]
    body: Float[Tensor, "b tokens"]  # share of the token's pixels that show the body
    window: Int[Tensor, "b"]  # index of the half image that the tokens are of; 0 where they are of the whole
    captions: tuple[Float[Tensor, "b ..."], ...]  # what the model is told about each caption


class Part(NamedTuple):
    """Pairs that go through the model together, with their noise and noise levels."""

    rows: PairRows
    noise: Float[Tensor, "b tokens c"]
    sigma: Float[Tensor, "b"]


class PairEncoder:
    """Latents and caption embeddings of pairs; each pair is encoded once where `cache` is true."""

    def __init__(self, pairs: PairData, generator: FlowModel, *, cache: bool, halves: bool) -> None:
        self.pairs, self.generator, self.cache = pairs, generator, cache
        rows, columns = generator.token_grid
        self.windows = half_windows(rows, columns) if halves else np.arange(rows * columns)[None]
        self._kept: dict[int, PairRows] = {}

    def rows(self, indices: np.ndarray) -> PairRows:
        """The pairs at these indices, as one batch."""
        found = [self._row(int(i)) for i in indices]
        captions = zip(*(row.captions for row in found), strict=True)
        images = (self._stack(part) for part in zip(*(row[:-1] for row in found), strict=True))
        return PairRows._make((*images, tuple(map(self._stack, captions))))

    def _stack(self, rows: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(rows)).to(self.generator.device)

    def window_of(self, indices: np.ndarray) -> Int[np.ndarray, "b"]:
        """The half image of each pair."""
        return np.array([int(self._row(int(i)).window) for i in indices])

    def _row(self, index: int) -> PairRows:
        if index not in self._kept:
            row = self._encode(index)
            if not self.cache:
                return row
            self._kept[index] = row
        return self._kept[index]

    def _encode(self, index: int) -> PairRows:
        pairs, generator = self.pairs, self.generator
        winner, loser = (generator.encode_image(images[index]).cpu() for images in (pairs.winners, pairs.losers))
        control = generator.encode_controls(pairs.controls[index : index + 1])[0].cpu()
        body = body_share(pairs.controls[index], *generator.token_grid)
        window = int(body_window(body[None], self.windows, np.random.default_rng(index))[0])
        tokens = torch.from_numpy(self.windows[window])
        captions = generator.encode_captions([pairs.captions[index]])
        return PairRows(
            winner[tokens],
            loser[tokens],
            control[tokens],
            torch.from_numpy(body)[tokens],
            torch.tensor(window),
            tuple(part[0].cpu() for part in captions),
        )


class DpoTrainer:
    """The adapter's training steps."""

    def __init__(self, pairs: PairData, generator: FlowModel, cfg: AlignmentConfig, seed: int) -> None:
        self.cfg, self.generator = cfg, generator
        self.cores = cores_of(generator.device)
        self.encoder = PairEncoder(pairs, generator, cache=cfg.latent_cache, halves=cfg.half_images)
        self.noise = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.train = np.flatnonzero(~pairs.validation)
        self.validation = np.flatnonzero(pairs.validation)[:MAX_VALIDATION_PAIRS].repeat(VALIDATION_DRAWS)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.lora = add_adapter(generator.network, cfg.lora_rank, generator.lora_targets)
        self.parameters = [p for p in generator.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=cfg.learning_rate, weight_decay=0.01)
        self.batch_size = min(cfg.batch_size, len(self.train))
        self.steps = min(cfg.steps, math.ceil(cfg.max_epochs * len(self.train) / self.batch_size))
        self._validation_reference: list[PairErrors] = []
        self._batches = self._endless_batches()

    def step(self, number: int) -> dict[str, float]:
        """One optimizer step on the next batch."""
        indices = next(self._batches)
        noise, sigma = self._draw(len(indices), self.noise)
        for group in self.optimizer.param_groups:
            group["lr"] = self.cfg.learning_rate * rate_at(number, self.steps)
        parts = [self._part(indices[chunk], noise[chunk], sigma[chunk]) for chunk in self._chunks(indices)]
        references = self._reference_errors(parts)

        def differentiate(work: tuple[Part, PairErrors]) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
            part, reference = work
            policy = self._errors(part)
            losses = flow_dpo_loss(policy, reference, part.sigma, self.cfg.beta)
            gradients = torch.autograd.grad(losses.sum() / len(indices), self.parameters)
            return _figures(policy, reference, part.sigma, self.cfg.beta), gradients

        self.optimizer.zero_grad()
        figures = []
        for part_figures, gradients in map_on_cores(differentiate, zip(parts, references, strict=True), self.cores):
            figures.append(part_figures)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return _averages(figures, number)

    def validate(self, number: int) -> dict[str, float]:
        """The figures on the validation pairs, with the same noise and noise levels at every call."""
        n = len(self.validation)
        noise, _ = self._draw(n, torch.Generator().manual_seed(1))
        order = np.random.default_rng(1).permutation(n)
        sigma = torch.from_numpy(((order + 0.5) / n).astype(np.float32))
        chunks = self._chunks(self.validation)
        parts = [self._part(self.validation[chunk], noise[chunk], sigma[chunk]) for chunk in chunks]
        if not self._validation_reference:
            self._validation_reference = self._reference_errors(parts)
        policies = map_on_cores(torch.no_grad()(self._errors), parts, self.cores)
        figures = [
            _figures(policy, reference, part.sigma, self.cfg.beta)
            for policy, reference, part in zip(policies, self._validation_reference, parts, strict=True)
        ]
        return _averages(figures, number)

    def _part(self, indices: np.ndarray, noise: Tensor, sigma: Tensor) -> Part:
        device = self.generator.device
        return Part(self.encoder.rows(indices), noise.to(device), sigma.to(device))

    def _reference_errors(self, parts: list[Part]) -> list[PairErrors]:
        with without_adapter(self.generator.network):
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
        with PlainAttention() if self.generator.device.type == "cpu" else nullcontext():
            velocity = self.generator.velocity(noisy, controls, tuple(captions), sigma, tokens)
        errors = velocity_error(velocity, noise - images, weight)
        return PairErrors._make(errors.chunk(2))

    def _draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = self.encoder.rows(self.train[:1]).winners.shape[1:]
        return torch.randn(n, *shape, generator=generator), torch.rand(n, generator=generator)

    def _chunks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Positions of pairs that go through the model together: pairs of the same half image.

        On a GPU as many images as the generator makes at a time; on a CPU always the same number, so that the adapter
        does not depend on the generator's batch size.
        """
        on_cpu = self.generator.device.type == "cpu"
        size = CPU_PAIRS if on_cpu else max(1, self.generator.block_size // 2)
        windows = self.encoder.window_of(indices)
        for window in np.unique(windows):
            mates = np.flatnonzero(windows == window)
            yield from (mates[start : start + size] for start in range(0, len(mates), size))

    def _endless_batches(self) -> Iterator[np.ndarray]:
        size = self.batch_size
        while True:
            order = self.rng.permutation(self.train)
            for start in range(0, len(order) - size + 1, size):
                yield order[start : start + size]


def train_dpo(pairs: PairData, generator: Generator, cfg: AlignmentConfig, seed: int, out_dir: Path) -> DpoResult:
    """Train an adapter and write `pytorch_lora_weights.safetensors` and `trajectory.json` into `out_dir`.

    The weights kept are those with the lowest loss on the validation pairs, looked at every `cfg.eval_every` steps and
    at the start. The generator is left as it was. The same arguments give the same adapter on the same machine.

    Raises:
        AlignmentError: a backend that does not predict velocities, no training or no validation pairs, or a loss that
            is not finite.
    """
    if not isinstance(generator, FlowModel):
        raise AlignmentError(f"Flow-DPO needs a generator that predicts velocities (FlowModel), found {generator.name}")
    for kind, count in (("training", int((~pairs.validation).sum())), ("validation", int(pairs.validation.sum()))):
        if count == 0:
            raise AlignmentError(f"no {kind} pairs among {len(pairs)}: make more poses or lower alignment.min_gap")
    generator.adapter.clear()
    try:
        trainer = DpoTrainer(pairs, generator, cfg, seed)
        return _train(trainer, cfg, out_dir)
    finally:
        generator.adapter.clear()


def _train(trainer: DpoTrainer, cfg: AlignmentConfig, out_dir: Path) -> DpoResult:
    network, progress = trainer.generator.network, Progress()
    steps: list[dict[str, float]] = []
    validations = [trainer.validate(0)]
    best = adapter_state(network)

    def step(_: float) -> float:
        number = progress.step + 1
        steps.append(trainer.step(number))
        if not np.isfinite(steps[-1]["loss"]):
            raise AlignmentError(f"Flow-DPO diverged at step {number}: lower alignment.learning_rate or alignment.beta")
        return steps[-1]["loss"]

    def validate() -> None:
        nonlocal best
        validations.append(trainer.validate(progress.step))
        if validations[-1]["loss"] < min(v["loss"] for v in validations[:-1]):
            best = adapter_state(network)

    def report() -> None:
        advance(1, f"loss {steps[-1]['loss']:.3f}")

    duties = [Duty(validate, steps=cfg.eval_every), Duty(report, steps=1)]
    run_loop(step, Budget(max_steps=trainer.steps), progress, duties)
    advance(cfg.steps - trainer.steps)  # progress counts on all steps
    chosen = min(validations, key=lambda v: v["loss"])
    _write(best, trainer, out_dir, steps, validations, int(chosen["step"]))
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


def _figures(policy: PairErrors, reference: PairErrors, sigma: Tensor, beta: float) -> dict[str, Tensor]:
    margin = preference_margin(policy, reference, sigma, beta)
    figures = {
        "loss": -F.logsigmoid(margin),
        "accuracy": (margin > 0).float(),
        "margin": margin,
        "policy_winner_error": policy.winner,
        "policy_loser_error": policy.loser,
        "reference_winner_error": reference.winner,
        "reference_loser_error": reference.loser,
    }
    return {name: value.detach() for name, value in figures.items()}


def _averages(parts: list[dict[str, Tensor]], step: int) -> dict[str, float]:
    means = {name: torch.cat([part[name] for part in parts]).mean().item() for name in parts[0]}
    return {"step": step, **means}

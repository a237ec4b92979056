"""Control training: a generator that paints from captions learns by flow matching to paint over control images.

What of it learns is the scheme's: of FLUX a LoRA that sees the control image in the tokens' channels (`control_lora.py`), of
Z-Image a ControlNet (`control_net.py`). What is written is read by `generator.control_lora_path`. Where a GPU's memory ends, a
step is done anew with half as many images together.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from posedreamer_assets.cores import cores_of, map_on_cores
from posedreamer_assets.diffusion.control_lora import ControlLora
from posedreamer_assets.diffusion.control_net import ControlNet
from posedreamer_assets.diffusion.dpo_loss import velocity_error
from posedreamer_assets.diffusion.flux import FluxGenerator
from posedreamer_assets.diffusion.frugal import fast_products, set_checkpointing
from posedreamer_assets.diffusion.gradients import CPU_ROWS, attention, sum_gradients
from posedreamer_assets.diffusion.halves import body_share
from posedreamer_assets.diffusion.pair_data import batches_of
from posedreamer_assets.diffusion.remembered import deciding
from posedreamer_assets.diffusion.together import Together, told
from posedreamer_assets.diffusion.zimage import ZImageGenerator
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ControlTrainingError
from posedreamer_assets.progress import advance
from posedreamer_assets.training.loop import Budget, Duty, Progress, run_loop
from posedreamer_assets.training.resume import read_state, write_state
from posedreamer_assets.training.schedule import rate_factor

ControlGenerator = FluxGenerator | ZImageGenerator
"""What can be taught, of `generator.load_base`."""
MOST_HELD_OUT = 32  # images that the loss is measured on
LAST_RATE = 0.1  # of the full one
MEMORY_ALONE = ("micro_rows", "gradient_checkpointing", "save_every")
"""Settings with which a training that was stopped, for want of memory perhaps, may go on differently."""


@dataclass(frozen=True)
class ControlTraining:
    """How a generator is taught. `rank`: of a LoRA; ControlNets have none.

    `noise_mean`, `noise_std`: noise levels are logit-normal. `body_weight`: extra weight of the loss where the body is.
    `black_share`: images that are shown with a black control image, so that it goes on to mean nothing. `micro_rows`: images that
    go through the network together, whose gradients are summed up to `batch_size`; 0 is the generator's batch on a GPU and 8 on
    a CPU, and where a GPU's memory ends it is halved.
    """

    steps: int = 2000
    batch_size: int = 16
    rank: int = 32
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    noise_mean: float = 1.0
    noise_std: float = 1.5
    body_weight: float = 4.0
    black_share: float = 0.1
    micro_rows: int = 0
    gradient_checkpointing: bool = False
    save_every: int = 200
    seed: int = 0


class Pixels(NamedTuple):
    """Images and the control images that show the same bodies."""

    images: UInt8[np.ndarray, "n h w 3"]
    controls: UInt8[np.ndarray, "n h w 3"]


@dataclass(frozen=True)
class ControlData:
    """What is learnt from.

    Attributes:
        captions: of each image.
        held_out: which images are never trained on.
        read: pixels of images by their numbers; asked for a batch at a time.
    """

    captions: list[str]
    held_out: Bool[np.ndarray, " n"]
    read: Callable[[Int[np.ndarray, " k"]], Pixels]


@dataclass(frozen=True)
class ControlResult:
    """What `generator.control_lora_path` names from now on, and the flow-matching loss of held-out images before and after.

    `file`: of a control LoRA; of a ControlNet its folder.
    """

    file: Path
    loss_before: float
    loss_after: float


class Rows(NamedTuple):
    """Encoded images of a batch, with their noise."""

    images: Float[Tensor, "n tokens c"]
    controls: Float[Tensor, "n tokens c"]
    body: Float[Tensor, "n tokens"]
    noise: Float[Tensor, "n tokens c"]
    sigma: Float[Tensor, " n"]
    captions: tuple[Any, ...]  # each part of them has a row for each caption, tensors or of a length each

    def part(self, rows: slice) -> "Rows":
        captions = tuple(part[rows] for part in self.captions)
        return Rows(
            self.images[rows], self.controls[rows], self.body[rows], self.noise[rows], self.sigma[rows], captions
        )


@runtime_checkable
class Scheme(Protocol):
    """What of a generator learns.

    Attributes:
        parameters: that are trained, in float32; everything else of the generator stays as it was.
        networks: that gradients pass through.
    """

    parameters: list[nn.Parameter]
    networks: Sequence[nn.Module]

    def write(self, folder: Path) -> Path:
        """Write what was learnt, and return what `generator.control_lora_path` takes."""
        ...


def scheme_of(generator: ControlGenerator, cfg: ControlTraining) -> Scheme:
    """`controlnet` for Z-Image, `channels` for FLUX and the pocket generator."""
    if isinstance(generator, ZImageGenerator):
        return ControlNet(generator)
    return ControlLora(generator, cfg.rank, cfg.seed)


class ControlLoss:
    """Errors of a generator's velocities on images with their control images."""

    def __init__(self, data: ControlData, generator: ControlGenerator, cfg: ControlTraining) -> None:
        self.data, self.generator, self.cfg = data, generator, cfg
        self.cores = cores_of(generator.device)
        self.together = _together(generator, cfg)

    def rows(self, indices: np.ndarray, sigma: Tensor, noise: torch.Generator, black: np.ndarray) -> Rows:
        """Encoded images at these noise levels; those in `black` (n,) are shown a black control image."""
        generator, pixels = self.generator, self.data.read(indices)
        rows, columns = generator.token_grid
        images = torch.stack([generator.encode_image(image) for image in pixels.images]).float()
        shown = np.where(black[:, None, None, None], np.uint8(0), pixels.controls)
        return Rows(
            images,
            generator.encode_controls(shown).float(),
            torch.from_numpy(np.stack([body_share(control, rows, columns) for control in pixels.controls])).to(images),
            torch.randn(images.shape, generator=noise).to(images),
            sigma.to(images),
            generator.encode_captions([self.data.captions[i] for i in indices]),
        )

    def parts(self, rows: Rows) -> Iterator[Rows]:
        """Rows that go through the network together."""
        return (rows.part(part) for part in self.together.parts(len(rows.images)))

    def errors(self, rows: Rows) -> Float[Tensor, " n"]:
        """Weighted mean square of the predicted velocity against `noise - images`, the target of rectified flow."""
        noisy = torch.lerp(rows.images, rows.noise, rows.sigma[:, None, None])
        velocity = self.generator.velocity(noisy, rows.controls, rows.captions, rows.sigma)
        return velocity_error(velocity, rows.noise - rows.images, 1.0 + self.cfg.body_weight * rows.body)

    @torch.no_grad()
    def held_out(self) -> float:
        """Mean error of held-out images, with noise and noise levels that never change."""
        indices = np.flatnonzero(self.data.held_out)[:MOST_HELD_OUT]
        n = len(indices)
        rows = self.rows(indices, (torch.arange(n) + 0.5) / n, torch.Generator().manual_seed(7), np.zeros(n, bool))

        def measure() -> list[Tensor]:
            return list(map_on_cores(torch.no_grad()(self.errors), self.parts(rows), self.cores))

        return float(torch.cat(self.together.until_it_fits(measure, lambda: None)).mean())


def _together(generator: ControlGenerator, cfg: ControlTraining) -> Together:
    settings = deciding(generator.cfg) | {
        "tokens": generator.token_grid,
        "rank": cfg.rank,
        "gradient_checkpointing": cfg.gradient_checkpointing,
    }
    return Together(
        cfg.micro_rows or (CPU_ROWS if generator.device.type == "cpu" else generator.block_size),
        what="control training",
        noun="images",
        device=generator.device,
        settings=settings,
        too_large=lambda first: _too_large(cfg, "a single image", first),
    )


def _too_large(cfg: ControlTraining, what: str, first: str) -> ControlTrainingError:
    others = (
        "a smaller image or another rank"
        if cfg.gradient_checkpointing
        else "--gradient-checkpointing or a smaller image"
    )
    return ControlTrainingError(f"control training: the GPU's memory is too small for {what} ({first}): set {others}")


class ControlTrainer:
    """Training steps of a generator of `load_base`.

    `loss.together` says how many images go through the network at a time: where a GPU's memory does not suffice, half as many
    from then on, and noise that was drawn stays.
    """

    def __init__(self, data: ControlData, generator: ControlGenerator, cfg: ControlTraining) -> None:
        self.loss, self.cfg = ControlLoss(data, generator, cfg), cfg
        self.noise = torch.Generator().manual_seed(cfg.seed)
        self.scheme = scheme_of(generator, cfg)
        self.parameters = self.scheme.parameters
        if cfg.gradient_checkpointing:
            self.checkpoint(True)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=cfg.learning_rate, weight_decay=0.01)
        train = np.flatnonzero(~data.held_out)
        self._batches = batches_of(train, min(cfg.batch_size, len(train)), np.random.default_rng(cfg.seed))

    def step(self, number: int) -> float:
        """One optimizer step on the next batch; returns the loss.

        Raises:
            ControlTrainingError: a loss that is not finite, or a GPU whose memory is too small for a single image.
        """
        cfg, loss = self.cfg, self.loss
        indices = next(self._batches)
        logit = cfg.noise_mean + cfg.noise_std * torch.randn(len(indices), generator=self.noise)
        black = torch.rand(len(indices), generator=self.noise) < cfg.black_share
        rows = loss.rows(indices, torch.sigmoid(logit), self.noise, black.numpy())
        share = max(0.0, number - cfg.warmup_steps) / max(1, cfg.steps - cfg.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = cfg.learning_rate * rate_factor(share, 1.0, (number + 1) / cfg.warmup_steps, LAST_RATE)

        def differentiate(part: Rows) -> tuple[float, tuple[Tensor, ...]]:
            with attention(loss.generator.device, cfg.gradient_checkpointing):
                mean = loss.errors(part).sum() / len(indices)
                return mean.item(), torch.autograd.grad(mean, self.parameters)

        def gradients() -> list[float]:
            return sum_gradients(differentiate, loss.parts(rows), self.parameters, loss.cores)

        total = sum(loss.together.until_it_fits(gradients, self._forget))
        if not math.isfinite(total):
            raise ControlTrainingError(f"training diverged at step {number + 1}: lower the learning rate")
        self.optimizer.step()
        return total

    def _forget(self) -> None:
        """Drop what was computed with larger parts."""
        for parameter in self.parameters:
            parameter.grad = None

    def checkpoint(self, on: bool) -> None:
        """Whether activations are computed again on the way back."""
        for network in self.scheme.networks:
            set_checkpointing(network, on)

    def skip(self, steps: int) -> None:
        """Leave out the batches of steps that were done before the training was stopped."""
        for _ in range(steps):
            next(self._batches)


def train_control(data: ControlData, generator: ControlGenerator, cfg: ControlTraining, folder: Path) -> ControlResult:
    """Teach a generator and write what it learnt, as diffusers reads it, into `folder`; a training that was stopped goes on.

    The generator keeps what it learnt. The same arguments give the same weights on the same machine, whether or not the
    training was killed meanwhile.

    Args:
        data: what is learnt from.
        generator: of `load_base`.
        cfg: how it is trained.
        folder: where the weights, `losses.json` and the training's state are written.

    Raises:
        ControlTrainingError: nothing to learn from or to measure on, a state of another training, a GPU whose memory is too small
            for a single image, or a loss that is not finite.
    """
    for kind, count in (("to learn from", (~data.held_out).sum()), ("held out", data.held_out.sum())):
        if count == 0:
            raise ControlTrainingError(f"no images {kind} among {len(data.held_out)}")
    folder.mkdir(parents=True, exist_ok=True)
    with told(partial(_too_large, cfg, "encoders and optimizer")), fast_products(generator.device):
        trainer = ControlTrainer(data, generator, cfg)
        state = folder / "training.pt"
        settings = {name: value for name, value in asdict(cfg).items() if name not in MEMORY_ALONE}
        same = digest([settings, generator.digest, data.captions, data.held_out])
        course = _go_on(trainer, state, same)
        progress, losses = Progress(course["step"]), course["losses"]
        before = course["before"]
        advance(progress.step)

        def step(_: float) -> float:
            losses.append(trainer.step(progress.step))
            advance(1, f"loss {losses[-1]:.3f}")
            return losses[-1]

        def save() -> None:
            write_state(
                state,
                of=same,
                course={"step": progress.step, "losses": losses, "before": before},
                adapter=[p.detach() for p in trainer.parameters],
                optimizer=trainer.optimizer,
                noise=trainer.noise.get_state(),
            )

        try:
            run_loop(step, Budget(max_steps=cfg.steps), progress, [Duty(save, steps=cfg.save_every)])
            after = trainer.loss.held_out()
        finally:
            trainer.checkpoint(False)
            for parameter in trainer.parameters:
                parameter.requires_grad_(False)
    file = trainer.scheme.write(folder)
    figures = {"config": asdict(cfg), "held_out_loss": [before, after], "losses": losses}
    (folder / "losses.json").write_text(json.dumps(figures, indent=1))
    return ControlResult(file, before, after)


def _go_on(trainer: ControlTrainer, file: Path, same: str) -> dict[str, Any]:
    """Bring the trainer to where a stopped training was; the start where there is none."""
    if not file.exists():
        return {"step": 0, "losses": [], "before": trainer.loss.held_out()}
    state = read_state(file)
    if state["of"] != same:
        raise ControlTrainingError(f"{file} is of another training (settings, data or model); give another folder")
    with torch.no_grad():
        for parameter, kept in zip(trainer.parameters, state["adapter"], strict=True):
            parameter.copy_(kept)
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.noise.set_state(state["noise"])
    trainer.skip(state["course"]["step"])
    return state["course"]

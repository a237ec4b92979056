"""Training the student: the loss of crops, and an arm of the study, which goes on from the baseline for a number of steps."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from posedreamer_assets.config import Pose2dConfig, TeacherConfig
from posedreamer_assets.cores import one_thread
from posedreamer_assets.curriculum.teacher import Update
from posedreamer_assets.errors import StudentError
from posedreamer_assets.people2d.checkpoint import optimizer_tensors, read_arm, restore_optimizer, under, write_arm
from posedreamer_assets.people2d.crops import Crops, draw_crops, joined
from posedreamer_assets.people2d.masking import targets_and_weights
from posedreamer_assets.people2d.network import PoseNet, frozen_digest, frozen_names
from posedreamer_assets.people2d.samples import Source
from posedreamer_assets.people2d.teach import Teacher
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.weights import default_device
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.loop import Budget, Duty, Progress, TrainingDiverged, descend, run_loop, set_rates
from posedreamer_assets.training.precision import autocast

_SAVED_EVERY = 1.0  # minutes of training: four times the weights are written, which are 0.8 GB of the largest network
_CLIP = 5.0
_THIRD = 0.33  # of the rate, each `decay_steps`, as the paper's authors have it
_REAL, _SYNTHETIC = 0, 1  # streams of random numbers: what one side draws does not depend on the other


@dataclass(frozen=True)
class Learned:
    """A student of one arm.

    Attributes:
        weights: of a `PoseNet`, full precision, by name.
        losses: step, mean loss of its real crops, of its synthetic ones; NaN where there are none.
        seen: crops that were trained on, by `real` and `synthetic`.
        frozen_digest: of the weights that were to be frozen, see `network.frozen_digest`: compare the baseline's.
        teacher_log: one row for each update of the teacher.
        groups: the group that was chosen for each window of steps; empty without a teacher.
        seconds: of training, over all resumes.
    """

    weights: dict[str, Tensor]
    losses: list[tuple[int, float, float]]
    seen: dict[str, int]
    frozen_digest: str
    teacher_log: list[Update]
    groups: list[int]
    seconds: float


def crop_losses(network: nn.Module, crops: Crops, cfg: Pose2dConfig, *, masked: bool = False) -> Float[Tensor, "n"]:
    """The loss of each crop: squared errors times weights, mean over maps and cells, summed over stages.

    Cells that do not count lower the mean, as in the paper; they do not make others count more.
    """
    device = next(network.parameters()).device
    targets, weights = (part.to(device) for part in targets_and_weights(crops, cfg, masked=masked))
    images = crops.image_tensor().to(device).contiguous(memory_format=torch.channels_last)
    with autocast("auto", str(device)):
        found = network(images)
    return torch.stack([((maps.float() - targets) ** 2 * weights).mean((1, 2, 3)) for maps in found]).sum(0)


def train_arm(
    baseline: dict[str, Tensor],
    real: Source | None,
    synthetic: Source | None,
    cfg: Pose2dConfig,
    seed: int,
    *,
    masked: bool = False,
    freeze: bool = True,
    teacher: TeacherConfig | None = None,
    checkpoint: Path | None = None,
) -> Learned:
    """Train an arm on batches of which half is real and half synthetic; equal arguments give equal weights on one machine.

    A person is drawn, not an image. Where one side is None the other fills the batch.

    Args:
        baseline: weights that the arm goes on from, see `network.load_baseline`.
        real: people of photographs.
        synthetic: people of synthetic scenes, or of photographs with synthetic people beside them.
        cfg: sizes, steps, rates.
        seed: of everything that is drawn.
        masked: whether synthetic people count for nothing, see `masking.synthetic_cells`.
        freeze: whether the first `cfg.frozen` convolutions and the statistics behind them stay the baseline's.
        teacher: who chooses the group that synthetic people of a window of steps come from; None draws from all.
        checkpoint: a file that is written every minute and at the end, whole or not at all. A training that was killed goes on
            from it and ends with the same weights; a file of other arguments is not used.

    Raises:
        StudentError: no people, a teacher without groups or without real people, weights of another network, or a loss
            that is not finite.
    """
    sides = [side for side in (real, synthetic) if side is not None]
    if not sides or not all(len(side) for side in sides):
        raise StudentError(f"people to train on: {[len(side) for side in sides]}; expected some on each side")
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        arm = _Arm(baseline, real, synthetic, cfg, seed, masked, freeze, teacher)
        arm.restore(checkpoint)
        duties = [] if checkpoint is None else [Duty(lambda: arm.save(checkpoint), minutes=_SAVED_EVERY)]
        try:
            run_loop(arm.step, Budget(max_steps=cfg.steps), arm.progress, duties)
        except TrainingDiverged as error:
            raise StudentError(f"step {arm.progress.step}: {error}") from error
        return arm.learned()


class _Arm:
    """State of an arm's training."""

    def __init__(
        self,
        baseline: Mapping[str, Tensor],
        real: Source | None,
        synthetic: Source | None,
        cfg: Pose2dConfig,
        seed: int,
        masked: bool,
        freeze: bool,
        teacher: TeacherConfig | None,
    ) -> None:
        self.real, self.synthetic, self.cfg, self.seed, self.masked = real, synthetic, cfg, seed, masked
        self.network = PoseNet(cfg)
        try:
            self.network.load_state_dict(dict(baseline))
        except RuntimeError as error:
            raise StudentError(f"the baseline is of another network: {str(error).splitlines()[0]}") from error
        self.network.to(default_device())
        self.frozen = set(frozen_names(self.network, cfg.frozen)) if freeze else set()
        self._freeze()
        self.average = AveragedWeights(self.network, cfg.average)
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.Adam(trained, cfg.learning_rate, betas=(cfg.beta1, 0.999))
        self.teacher = None if teacher is None else _teacher_of(teacher, real, synthetic, cfg, seed)
        self.progress = Progress()
        self.losses: list[tuple[int, float, float]] = []
        said = [asdict(cfg), seed, masked, freeze, None if teacher is None else asdict(teacher)]
        self.arguments = _digest_of(said, baseline, real, synthetic)

    def _freeze(self) -> None:
        self.network.train()
        for name, weight in self.network.named_parameters():
            weight.requires_grad_(name not in self.frozen)
        for name, module in self.network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in self.frozen:
                module.eval()

    @property
    def shares(self) -> tuple[int, int]:
        """Real and synthetic crops of a batch."""
        if self.synthetic is None:
            return self.cfg.batch, 0
        half = 0 if self.real is None else self.cfg.batch // 2
        return half, self.cfg.batch - half

    def step(self, _share: float) -> float:
        """One step on crops that depend on seed, step, and the teacher's choice alone."""
        number, (of_real, _) = self.progress.step, self.shares
        set_rates([self.optimizer], _THIRD ** (number // self.cfg.decay_steps))
        crops = self._batch(number)
        each = crop_losses(self.network, crops, self.cfg, masked=self.masked)
        value = descend(each.mean(), self.network, [self.optimizer], clip=_CLIP)
        self.average.update(number)
        found = each.detach().cpu()
        self.losses.append((number, _mean(found[:of_real]), _mean(found[of_real:])))
        if self.teacher is not None:
            self.teacher.saw(crops.images[:of_real], found[:of_real].numpy(), self.losses[-1][2])
        advance(1)
        return value

    def _batch(self, number: int) -> Crops:
        of_real, of_synthetic = self.shares
        parts = []
        if self.real is not None and of_real:
            rng = np.random.default_rng([self.seed, number, _REAL])
            parts.append(draw_crops(self.real, rng.integers(len(self.real), size=of_real), self.cfg, rng))
        if self.synthetic is not None:
            rng = np.random.default_rng([self.seed, number, _SYNTHETIC])
            rows = np.arange(len(self.synthetic))
            if self.teacher is not None:
                rows = self.teacher.rows(parts[0].images[0] if parts else None)
            parts.append(draw_crops(self.synthetic, rng.choice(rows, size=of_synthetic), self.cfg, rng))
        return joined(parts)

    def save(self, path: Path) -> None:
        """Write what `restore` needs."""
        tensors = under("network", self.network.state_dict()) | under("average", self.average.state)
        tensors |= under("optimizer", optimizer_tensors(self.optimizer))
        plain = {"step": self.progress.step, "seconds": self.progress.seconds, "losses": self.losses}
        if self.teacher is not None:
            tensors |= under("teacher", self.teacher.tensors())
            plain["teacher"] = self.teacher.plain()
        write_arm(path, tensors, {"arguments": self.arguments, **plain})

    def restore(self, path: Path | None) -> None:
        """Go on from a checkpoint of the same arguments, if there is one."""
        saved = None if path is None else read_arm(path, self.arguments)
        if saved is None:
            return
        self.network.load_state_dict(saved.part("network"))
        restore_optimizer(self.optimizer, saved.part("optimizer"))
        self.average.state = {k: v.to(self.average.state[k].device) for k, v in saved.part("average").items()}
        self.progress.step, self.progress.seconds = saved.plain["step"], saved.plain["seconds"]
        self.losses = [(int(step), real, synthetic) for step, real, synthetic in saved.plain["losses"]]
        if self.teacher is not None:
            self.teacher.restore(saved.part("teacher"), saved.plain["teacher"])

    def learned(self) -> Learned:
        """The student as it is now."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.average.state.items()}
        of_real, of_synthetic = self.shares
        steps, teacher = self.progress.step, self.teacher
        return Learned(
            weights,
            self.losses,
            {"real": steps * of_real, "synthetic": steps * of_synthetic},
            frozen_digest(weights, self.cfg),
            [] if teacher is None else teacher.log,
            [] if teacher is None else teacher.groups,
            self.progress.seconds,
        )


def _teacher_of(
    cfg: TeacherConfig, real: Source | None, synthetic: Source | None, student: Pose2dConfig, seed: int
) -> Teacher:
    if synthetic is None or synthetic.groups is None:
        raise StudentError("a teacher chooses among groups of synthetic people: there are none")
    if real is None and cfg.kind == "adversarial":
        raise StudentError("a teacher that learns looks at real people: there are none")
    return Teacher(cfg, synthetic.groups, seed, student.vgg19)


def _mean(losses: Tensor) -> float:
    return float(losses.mean()) if len(losses) else float("nan")


def _digest_of(said: object, baseline: Mapping[str, Tensor], *sides: Source | None) -> str:
    """Of the arguments; of sources the ids and groups of their people, not pixels."""
    state = hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16)
    for name in sorted(baseline):
        state.update(name.encode() + b"\0" + baseline[name].detach().cpu().contiguous().numpy().tobytes())
    for side in sides:
        if side is None:
            state.update(b"none\0")
            continue
        groups = [] if side.groups is None else side.groups.tolist()
        state.update(json.dumps([side.ids, side.people.tolist(), groups]).encode())
    return state.hexdigest()

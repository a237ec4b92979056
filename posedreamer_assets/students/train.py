"""Training one student: so many steps whatever the data, so that all students of a study see as many samples.

The file of a training that is going on holds all that its rest depends on; a process that was killed goes on from it and ends
with the very weights of one that was not.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16
from torch import Tensor, nn

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.errors import StudentError
from posedreamer_assets.progress import advance
from posedreamer_assets.students import losses
from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.networks import PoseHead
from posedreamer_assets.students.recipes import StudentSpec
from posedreamer_assets.students.skinning import TorchBody

EVERY = 84  # vertices that the loss looks at: 165 of the free body's
_EMA = 0.98
_KEPT_EVERY = 50  # steps between two files of a training that goes on
_MEASURED = 25  # steps of which the first and the last loss are means, at most


@dataclass(frozen=True)
class Samples:
    """What a student is trained on.

    Attributes:
        features: of each augmented copy of each image; image after image, so that copy k of image i is i * copies + k.
        labels: of the same copies.
        width_px, height_px: of the images.
    """

    features: Float16[np.ndarray, "n width"]
    labels: Labels
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Trained:
    """A student.

    Attributes:
        weights: of a `PoseHead`, averaged over the last steps, half precision; by name.
        losses: one a step.
        samples_seen: so many copies were looked at.
    """

    weights: Mapping[str, Tensor]
    losses: list[float]
    samples_seen: int

    @property
    def _measured(self) -> int:
        return max(1, min(_MEASURED, len(self.losses) // 3))

    @property
    def loss_first(self) -> float:
        """Mean loss of the first steps."""
        return float(np.mean(self.losses[: self._measured]))

    @property
    def loss_last(self) -> float:
        """Mean loss of the last steps."""
        return float(np.mean(self.losses[-self._measured :]))


@dataclass
class _State:
    """A training between two steps."""

    head: PoseHead
    optimizer: torch.optim.Optimizer
    mean: dict[str, Tensor]
    step: int = 0
    losses: list[float] = field(default_factory=list)


def train(body: BodyModel, samples: Samples, spec: StudentSpec, seed: int, keep: Path | None = None) -> Trained:
    """Train a student; equal arguments give equal weights on one machine with one number of threads.

    Args:
        body: that labels belong to.
        samples: to train on.
        spec: how.
        seed: of weights, order and dropout.
        keep: a file for going on after the process was killed; removed at the end.

    Raises:
        StudentError: the loss is not finite, or the file belongs to another training.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = _begin(spec)
        if keep is not None and keep.exists():
            _go_on(state, keep, _name(samples, spec, seed))
        order = _order(len(samples.features), spec, seed)
        small = TorchBody(body, every=EVERY)
        while state.step < spec.steps:
            chosen = order[state.step]
            _step(state, small, samples, chosen, spec)
            if keep is not None and state.step % _KEPT_EVERY == 0:
                _save(state, keep, _name(samples, spec, seed))
    if keep is not None:
        keep.unlink(missing_ok=True)
    weights = {name: value.half() if value.is_floating_point() else value for name, value in state.mean.items()}
    return Trained(weights, state.losses, state.step * spec.batch_size)


def _begin(spec: StudentSpec) -> _State:
    head = PoseHead(spec.dropout)
    optimizer = torch.optim.AdamW(head.parameters(), lr=spec.learning_rate, weight_decay=1e-4)
    return _State(head, optimizer, {name: value.clone() for name, value in head.state_dict().items()})


def _order(count: int, spec: StudentSpec, seed: int) -> list[np.ndarray]:
    """The copies of every batch: all in random order, again and again."""
    rng = np.random.default_rng(seed)
    rounds = -(-spec.samples_seen // count)
    whole = np.concatenate([rng.permutation(count) for _ in range(rounds)])[: spec.samples_seen]
    return list(whole.reshape(spec.steps, spec.batch_size))


def _step(state: _State, body: TorchBody, samples: Samples, chosen: np.ndarray, spec: StudentSpec) -> None:
    state.head.train()
    for group in state.optimizer.param_groups:
        group["lr"] = _rate(state.step, spec)
    loss = losses.weighted(loss_terms(state.head, body, samples, chosen))
    if not torch.isfinite(loss):
        raise StudentError(
            f"the loss of step {state.step} is {float(loss.detach())}; the features or labels are not finite"
        )
    state.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(state.head.parameters(), 5.0)
    state.optimizer.step()
    state.step += 1
    state.losses.append(float(loss.detach()))
    with torch.no_grad():
        for name, value in state.head.state_dict().items():
            kept = state.mean[name]
            if value.is_floating_point():
                kept.lerp_(value, 1 - min(_EMA, state.step / (state.step + 9)))
            else:
                kept.copy_(value)
    advance(1)


def _rate(step: int, spec: StudentSpec) -> float:
    """Rises over the first steps, then falls along a cosine to a hundredth."""
    rising = min(1.0, (step + 1) / max(1, spec.steps // 20))
    return float(spec.learning_rate * rising * (0.01 + 0.99 * (1 + np.cos(np.pi * step / spec.steps)) / 2))


def loss_terms(head: nn.Module, body: TorchBody, samples: Samples, chosen: np.ndarray) -> dict[str, Tensor]:
    """The terms of the loss on some copies, by name."""
    label = samples.labels.take(chosen)
    features = torch.from_numpy(samples.features[chosen].astype(np.float32))
    rotations, betas, pelvis, focal, principal = (
        torch.tensor(np.ascontiguousarray(values, np.float32))
        for values in (label.rotations, label.betas, label.pelvis_cam_m, label.focal_px, label.principal_px)
    )
    found = head(features, focal, samples.width_px)
    joints, vertices = body(found.rotations, found.betas)
    with torch.no_grad():
        true_joints, true_vertices = body(rotations, betas)
        true_pixels = losses.project(true_joints, pelvis, focal, principal)
    pixels = losses.project(joints, found.pelvis_cam_m, focal, principal)
    return {
        "joints": losses.points_l1(joints, true_joints),
        "vertices": losses.points_l1(vertices, true_vertices),
        "rotations": losses.rotations_squared(found.rotations, rotations),
        "betas": losses.betas_squared(found.betas, betas),
        "pixels": losses.pixels_clamped(pixels, true_pixels, samples.width_px, samples.height_px),
    }


def _name(samples: Samples, spec: StudentSpec, seed: int) -> str:
    """What a training is told apart by."""
    from posedreamer_assets.digests import digest

    parts = (samples.features, *(getattr(samples.labels, name) for name in ("rotations", "betas", "pelvis_cam_m")))
    return digest([[str(array.shape), array.tobytes()] for array in parts] + [spec, seed])


def _save(state: _State, keep: Path, name: str) -> None:
    whole = {
        "name": name,
        "step": state.step,
        "losses": state.losses,
        "head": state.head.state_dict(),
        "mean": state.mean,
        "optimizer": state.optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    beside = keep.with_suffix(f".{os.getpid()}.part")
    torch.save(whole, beside)
    beside.replace(keep)


def _go_on(state: _State, keep: Path, name: str) -> None:
    whole = torch.load(keep, weights_only=True)
    if whole["name"] != name:
        raise StudentError(f"{keep}: belongs to a training on other data or settings; remove it to begin again")
    state.head.load_state_dict(whole["head"])
    state.optimizer.load_state_dict(whole["optimizer"])
    state.mean = whole["mean"]
    state.step, state.losses = whole["step"], whole["losses"]
    torch.set_rng_state(whole["random"])

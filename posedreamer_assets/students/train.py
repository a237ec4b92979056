"""Training one student: so many steps whatever the data, so that all students of a study see as many samples.

A training lasts seconds to minutes, so one that was killed is begun again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16
from torch import Tensor, nn

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cores import one_thread
from posedreamer_assets.errors import StudentError
from posedreamer_assets.progress import advance
from posedreamer_assets.students import losses
from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.networks import PoseHead
from posedreamer_assets.students.recipes import StudentSpec
from posedreamer_assets.students.skinning import TorchBody
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.loop import Budget, Progress, TrainingDiverged, descend, run_loop, set_rates
from posedreamer_assets.training.schedule import rate_factor

EVERY = 84  # one in so many vertices is in the loss: 164 of the free body's
CLIP = 5.0
LAST_RATE = 0.01  # of the learning rate
_EMA = 0.98
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
        weights: averaged over the last steps, half precision; by name.
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


def train(body: BodyModel, samples: Samples, spec: StudentSpec, seed: int) -> Trained:
    """Train a student; equal arguments give equal weights on one machine.

    Args:
        body: that labels belong to.
        samples: to train on.
        spec: how.
        seed: of weights, order and dropout.

    Raises:
        StudentError: the loss is not finite.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = PoseHead(spec.dropout)
        optimizer = torch.optim.AdamW(head.parameters(), lr=spec.learning_rate, weight_decay=1e-4, fused=True)
        average = AveragedWeights(head, _EMA)
        order = order_of(len(samples.features), spec, seed)
        small = TorchBody(body, every=EVERY)
        progress = Progress()
        found: list[float] = []

        def step(share: float) -> float:
            warmth = (progress.step + 1) / max(1, spec.steps // 20)
            set_rates([optimizer], rate_factor(share, 1.0, warmth, floor=LAST_RATE))
            loss = losses.weighted(loss_terms(head, small, samples, order[progress.step]))
            found.append(descend(loss, head, [optimizer], clip=CLIP))
            average.update(progress.step)
            advance(1)
            return found[-1]

        try:
            run_loop(step, Budget(max_steps=spec.steps), progress)
        except TrainingDiverged as error:
            raise StudentError(f"step {progress.step}: {error}; the features or labels are not finite") from error
    return Trained(halved(average.state), found, progress.step * spec.batch_size)


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision, which students are kept in; counters as they are."""
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def order_of(count: int, spec: StudentSpec, seed: int) -> list[np.ndarray]:
    """The copies of every batch: all in random order, again and again."""
    rng = np.random.default_rng(seed)
    rounds = -(-spec.samples_seen // count)
    whole = np.concatenate([rng.permutation(count) for _ in range(rounds)])[: spec.samples_seen]
    return list(whole.reshape(spec.steps, spec.batch_size))


def loss_terms(head: nn.Module, body: TorchBody, samples: Samples, chosen: np.ndarray) -> dict[str, Tensor]:
    """The terms of the loss on some copies, by name."""
    features = torch.from_numpy(samples.features[chosen].astype(np.float32))
    true = losses.LabelTensors.of(samples.labels.take(chosen))
    found = head(features, true.focal_px, samples.width_px)
    return losses.terms(found, true, body, samples.width_px, samples.height_px)

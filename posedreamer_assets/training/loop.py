"""The loop of every training: steps until minutes or steps are used up, and what is done between them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from posedreamer_assets.errors import PoseDreamerError
from posedreamer_assets.training.log import JsonLog

LOG_EVERY = 50


class TrainingDiverged(PoseDreamerError):
    """A loss that is not finite; nothing after it would be worth keeping."""


def processor_seconds() -> float:
    """Seconds that torch's threads computed: sharing the processor with others then shortens no training."""
    return time.process_time() / torch.get_num_threads()


@dataclass(frozen=True)
class Budget:
    """How long a training lasts, over all resumes: minutes by `clock` or steps, whichever ends first."""

    minutes: float = float("inf")
    max_steps: int = 1_000_000_000
    clock: Callable[[], float] = time.monotonic


@dataclass
class Progress:
    """How far a training is."""

    step: int = 0
    seconds: float = 0.0

    def share(self, budget: Budget) -> float:
        """The part of the budget that is used up; 1 and more is all of it."""
        return max(self.seconds / (60.0 * budget.minutes), self.step / budget.max_steps)


@dataclass
class Duty:
    """Something that is done each so many steps or each so many minutes, and after the last step."""

    do: Callable[[], object]
    steps: int = 0
    minutes: float = 0.0
    _next_s: float = field(default=0.0, init=False)

    def start(self, seconds: float) -> None:
        """Count minutes from here."""
        self._next_s = seconds + 60.0 * self.minutes

    def due(self, progress: Progress) -> bool:
        """Whether it is time; if so, the next time is set."""
        if self.steps:
            return progress.step % self.steps == 0
        if progress.seconds < self._next_s:
            return False
        self.start(progress.seconds)
        return True


def run_loop(
    step: Callable[[float], float],
    budget: Budget,
    progress: Progress,
    duties: Sequence[Duty] = (),
    log: JsonLog | None = None,
) -> None:
    """Call `step(share of the budget used)`, which returns its loss, until the budget is used up.

    `progress` is kept up to date. Duties are done in their order after the step at which they are due, and each once
    more after the last step unless it was done then. Their time does not count. Every 50 steps the mean loss is logged.
    """
    for duty in duties:
        duty.start(progress.seconds)
    losses: list[float] = []
    begun = progress.seconds
    while (share := progress.share(budget)) < 1.0:
        start = budget.clock()
        losses.append(step(share))
        progress.seconds += budget.clock() - start
        progress.step += 1
        if log is not None and progress.step % LOG_EVERY == 0:
            rate = len(losses) / max(progress.seconds - begun, 1e-9)
            log.write(step=progress.step, loss=float(np.mean(losses)), it_s=rate, minutes=progress.seconds / 60)
            losses, begun = [], progress.seconds
        last = progress.share(budget) >= 1.0
        for duty in duties:
            if duty.due(progress) or last:
                duty.do()


def descend(loss: Tensor, module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], clip: float = 1.0) -> float:
    """One step down the gradient, whose norm is clipped; returns the loss.

    Raises:
        TrainingDiverged: the loss is not finite; weights are left as they were.
    """
    value = float(loss.detach())
    if not np.isfinite(value):
        raise TrainingDiverged(f"training diverged: loss is {value}")
    module.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
    return value


def set_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Multiply each group's full rate, the one that it was made with, by `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * factor

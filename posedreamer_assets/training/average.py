"""Averages of weights over training steps, which make better images and keypoints than the last step's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Exponential moving average of a module's weights and buffers.

    The average is short at first, min(decay, (1 + step) / (10 + step)), so that early evaluations mean something.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the module's weights after step number `step`; integers (counters of batches) are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1.0 - decay)
            else:
                self.state[key].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[nn.Module]:
        """Within, the module has the averaged weights and is in evaluation mode; afterwards its own, and trains on."""
        kept = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        self.module.load_state_dict(self.state)
        try:
            yield self.module.eval()
        finally:
            self.module.load_state_dict(kept)
            self.module.train()

"""Gradients of a batch that goes through a network in parts, each on a core of its own."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from posedreamer_assets.cores import map_on_cores
from posedreamer_assets.diffusion.networks import PlainAttention

Item = TypeVar("Item")
Result = TypeVar("Result")
CPU_ROWS = 8
MOST_NORM = 1.0


def sum_gradients(
    differentiate: Callable[[Item], tuple[Result, tuple[Tensor, ...]]],
    parts: Iterable[Item],
    parameters: Sequence[nn.Parameter],
    cores: int,
) -> list[Result]:
    """Give `parameters` the sum of the parts' gradients, clipped to MOST_NORM; what else `differentiate` finds of each part."""
    for parameter in parameters:
        parameter.grad = None
    results = []
    for result, gradients in map_on_cores(differentiate, parts, cores):
        results.append(result)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    nn.utils.clip_grad_norm_(parameters, MOST_NORM)
    return results


def attention(device: torch.device, checkpointing: bool) -> AbstractContextManager[object]:
    """The attention that is fastest to train with on this device.

    With gradient checkpointing what is computed again on the way back is computed outside of this context, and must be the same.
    """
    return PlainAttention() if device.type == "cpu" and not checkpointing else nullcontext()

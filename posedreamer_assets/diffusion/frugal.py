"""What lets a large network be trained on one GPU: activations computed again, encoders that step aside, 8-bit optimizers."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from posedreamer_assets.config import AlignmentConfig
from posedreamer_assets.errors import AlignmentError


def set_checkpointing(network: nn.Module, on: bool) -> None:
    """Whether activations are computed again on the way back instead of kept, in diffusers' networks.

    Raises:
        AlignmentError: it is to be on, and the network has no such switch.
    """
    network_any: Any = network
    if on and not getattr(network, "_supports_gradient_checkpointing", False):
        raise AlignmentError(f"gradient_checkpointing: {type(network).__name__} cannot compute activations again")
    if on:
        network_any.enable_gradient_checkpointing()
    elif getattr(network, "is_gradient_checkpointing", False):
        network_any.disable_gradient_checkpointing()


def build_optimizer(cfg: AlignmentConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW with its moments in float32, or in 8 bits with a scale for each block of them (`optimizer: adamw8bit`).

    Raises:
        AlignmentError: bitsandbytes is not installed.
    """
    options: dict[str, Any] = {"lr": cfg.learning_rate, "weight_decay": 0.01}
    if cfg.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    try:
        bitsandbytes = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise AlignmentError(
            "alignment.optimizer adamw8bit needs bitsandbytes, which is not installed: pip install bitsandbytes, or set adamw"
        ) from error
    return bitsandbytes.optim.AdamW8bit(parameters, **options)


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Within, float32 matrix products on an NVIDIA GPU use TF32: LoRA's weights are float32 whatever the model's are."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def parked(pipeline: Any, trained: nn.Module, device: torch.device) -> Iterator[None]:
    """Within, `device` holds of a pipeline the network that is trained; the others wait in the CPU's memory."""
    components = getattr(pipeline, "components", {}).values() if device.type != "cpu" else ()
    others = [part for part in components if isinstance(part, nn.Module) and part is not trained]
    places = [_place(part, device) for part in others]
    home = _place(trained, device)
    takes_turns = bool(others) and home.type != device.type  # with text encoders, which are on the GPU now
    try:
        for part in others:
            part.to("cpu")
        if takes_turns:
            trained.to(device)
        if others and device.type == "cuda":
            torch.cuda.empty_cache()
        yield
    finally:
        if takes_turns:
            trained.to(home)
        for part, place in zip(others, places, strict=True):
            part.to(place)


def _place(part: nn.Module, otherwise: torch.device) -> torch.device:
    return next((parameter.device for parameter in part.parameters()), otherwise)

"""Weights of painting networks in fewer bits: which layers, how they are stored, and the bytes that they then take.

`fp8` is diffusers' layerwise casting: layers lie in 8-bit floats and are computed in the profile's `dtype`, one at a time.
`int8` and `nf4` are the layers of bitsandbytes that diffusers' own quantiser makes. That one reads a model's folder; here
networks are lowered in memory, after a control LoRA was merged, and a ControlNet that is published as a file as well.
"""

import importlib
import logging
from collections.abc import Iterable
from typing import Any, cast

import torch
from diffusers.hooks import apply_layerwise_casting_hook
from torch import nn

from posedreamer_assets.diffusion.shares import is_lowered
from posedreamer_assets.errors import BackendError

STORED_FP8 = torch.float8_e4m3fn
OUTLIER = 6.0  # of activations: columns with a larger one are multiplied in full precision, as in LLM.int8()


def lower(networks: Iterable[nn.Module], precision: str, dtype: torch.dtype, device: torch.device) -> None:
    """Store the layers of networks in fewer bits, in place; layers that two of them share once.

    Args:
        networks: in full precision, in the CPU's memory, without LoRA.
        precision: one of `PRECISIONS`, of the layers that `shares.is_lowered` names; bf16 leaves everything as it is.
        dtype: that they compute in.
        device: where bitsandbytes lowers the networks, which are moved there; fp8 leaves them where they are.

    Raises:
        BackendError: int8 or nf4 without bitsandbytes.
    """
    if precision == "bf16":
        return
    bitsandbytes = None if precision == "fp8" else _bitsandbytes(precision)
    for network in networks:
        for name, layer in list(network.named_modules()):
            if not isinstance(layer, nn.Linear | nn.Conv2d) or not is_lowered(name, layer.weight.shape, precision):
                continue
            if bitsandbytes is None:
                if layer.weight.dtype != STORED_FP8:
                    apply_layerwise_casting_hook(layer, STORED_FP8, dtype, non_blocking=False)
            elif type(layer) is nn.Linear:
                owner, _, child = name.rpartition(".")
                setattr(network.get_submodule(owner), child, _quantised(layer, bitsandbytes, precision, dtype, device))
        if bitsandbytes is not None:
            # What peft asks for before it puts its LoRA for such layers beside them.
            cast(Any, network).is_loaded_in_8bit = precision == "int8"
            cast(Any, network).is_loaded_in_4bit = precision == "nf4"
            network.to(device)


def _quantised(layer: nn.Linear, bitsandbytes: Any, precision: str, dtype: torch.dtype, device: torch.device) -> Any:
    """A layer of bitsandbytes with these weights; they are quantised when they arrive on the device."""
    bias = layer.bias is not None
    with torch.device("meta"):
        if precision == "nf4":
            made = bitsandbytes.nn.Linear4bit(
                layer.in_features, layer.out_features, bias, dtype, compress_statistics=False, quant_type="nf4"
            )
        else:
            made = bitsandbytes.nn.Linear8bitLt(
                layer.in_features, layer.out_features, bias, has_fp16_weights=False, threshold=OUTLIER
            )
    weight = layer.weight.detach()
    if precision == "nf4":
        made.weight = bitsandbytes.nn.Params4bit(
            weight, requires_grad=False, compress_statistics=False, quant_type="nf4", module=made
        )
    else:
        made.weight = bitsandbytes.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    if bias:
        made.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    return made.to(device).eval()


def _bitsandbytes(precision: str) -> Any:
    # It says of every product that activations are rounded to 16 bits.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise BackendError(
            f"generator.precision {precision} needs bitsandbytes, which is not installed: "
            'pip install "posedreamer-assets[quantised]", or set fp8'
        ) from error


def move(network: nn.Module, device: torch.device) -> None:
    """Move a network, with the references that layers of bitsandbytes keep beside their int8 weights."""
    network.to(device)
    for layer in network.modules():
        weight = getattr(layer, "weight", None)
        # The first image moves them from the weight into the layer's state.
        for holder in (weight, getattr(layer, "state", None)):
            if getattr(holder, "SCB", None) is not None:
                kept = cast(Any, holder)
                kept.CB, kept.SCB = cast(Any, weight).data, kept.SCB.to(device)


def resident_bytes(network: nn.Module) -> int:
    """Bytes of a network's weights as they are stored, with the scales of those that have some."""
    held = {p.data_ptr(): p for p in [*network.parameters(), *network.buffers()]}
    total = sum(p.numel() * p.element_size() for p in held.values())
    for layer in network.modules():
        weight, state = getattr(layer, "weight", None), getattr(layer, "state", None)
        of_nf4 = getattr(getattr(weight, "quant_state", None), "absmax", None)
        of_int8 = getattr(weight, "SCB", None)  # see `move`
        for scales in (of_nf4, getattr(state, "SCB", None) if of_int8 is None else of_int8):
            total += 0 if scales is None else scales.numel() * scales.element_size()
    return total


def is_fp8(layer: nn.Module) -> bool:
    """Whether a layer's weight is stored in 8-bit floats."""
    return getattr(getattr(layer, "weight", None), "dtype", None) == STORED_FP8

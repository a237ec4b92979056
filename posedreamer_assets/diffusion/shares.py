"""Which layers of a painting network a precision lowers, and bytes of its weights, from names and shapes; no torch."""

import math
import re
from collections.abc import Mapping, Sequence

PRECISIONS = ("bf16", "fp8", "int8", "nf4")
"""Of stored weights, from the nearest to full precision on; each but for SDXL's int8 takes less than the one before."""

# Small layers that everything passes through, and the last ones.
KEPT = ("embed", "norm_out", "final_layer", "^proj_in$", "^proj_out$", "^conv_in$", "^conv_out$")
# A plain cast has no scale: diffusers leaves norms, and the layers that modulate them, in full precision.
KEPT_IN_FP8 = (*KEPT, "norm", "adaLN")
NF4_BLOCK = 64  # numbers that share a scale of 4 bytes


def is_lowered(layer: str, shape: Sequence[int], precision: str) -> bool:
    """Whether a layer of this name, with a weight of this shape, is stored in fewer bits: products, and for fp8 convolutions;
    for nf4 those whose rows are whole blocks of numbers that share a scale."""
    if precision == "bf16" or len(shape) not in ((2, 4) if precision == "fp8" else (2,)):
        return False
    if precision == "nf4" and shape[1] % NF4_BLOCK:
        return False
    return not any(re.search(pattern, layer) for pattern in (KEPT_IN_FP8 if precision == "fp8" else KEPT))


def lowered_bytes(shapes: Mapping[str, Sequence[int]], precision: str) -> tuple[int, int]:
    """Bytes of the numbers that are lowered, scales included, and how many numbers keep their own precision.

    Args:
        shapes: of each weight by its name, as in a checkpoint.
        precision: one of `PRECISIONS`.
    """
    lowered = kept = 0
    for name, shape in shapes.items():
        layer, _, leaf = name.rpartition(".")
        weight = shapes.get(f"{layer}.weight")
        count = math.prod(shape)
        if weight is None or leaf not in ("weight", "bias") or not is_lowered(layer, weight, precision):
            kept += count
        elif precision == "fp8":
            lowered += count
        elif leaf == "bias":
            kept += count
        else:
            lowered += count + 4 * shape[0] if precision == "int8" else count // 2 + 4 * count // NF4_BLOCK
    return lowered, kept

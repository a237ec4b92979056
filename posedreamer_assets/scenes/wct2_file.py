"""Files of weights of the network in `wct2.py`: which tensors they hold, told from their header, without PyTorch.

Names are `encoder.LAYER.weight`, `encoder.LAYER.bias`, `decoder.LAYER.weight`, `decoder.LAYER.bias`; layers are VGG19's.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from safetensors import SafetensorError, safe_open

from posedreamer_assets.errors import RenderError

BLOCKS = (("conv1_2",), ("conv2_2",), ("conv3_2", "conv3_3", "conv3_4"))
"""Layers before each of the three poolings; the first of all is conv1_1."""
TOPS = ("conv2_1", "conv3_1", "conv4_1")
"""The layer behind each of them."""
_FLOATS = ("F64", "F32", "F16", "BF16")
_REMEDY = "docs/scenes.md lists the tensors and says how weights are converted"


@dataclass(frozen=True)
class Layout:
    """What the tensors of a file say about its network.

    Attributes:
        widths: channels of conv1_1, conv2_1, conv3_1 and conv4_1; those of VGG19 are 64, 128, 256 and 512.
        joined: whether the decoder gets the four unpooled components and the features before pooling side by side, five
            times the channels; else it gets the sum of the four.
    """

    widths: tuple[int, int, int, int]
    joined: bool

    @property
    def channels(self) -> dict[str, tuple[int, int]]:
        """Channels into and out of each layer, by `encoder.LAYER` and `decoder.LAYER`; all have 3 x 3 kernels but conv0."""
        times = 5 if self.joined else 1
        found = {"encoder.conv0": (3, 3), "encoder.conv1_1": (3, self.widths[0])}
        found["decoder.conv1_1"] = (self.widths[0], 3)
        for block, top, (width, wider) in zip(BLOCKS, TOPS, pairwise(self.widths), strict=True):
            found |= {f"{part}.{name}": (width, width) for part in ("encoder", "decoder") for name in block}
            found[f"decoder.{block[-1]}"] = (times * width, width)
            found |= {f"encoder.{top}": (width, wider), f"decoder.{top}": (wider, width)}
        return found

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by name."""
        kernels = {layer: (1, 1) if layer == "encoder.conv0" else (3, 3) for layer in self.channels}
        weights = {
            f"{layer}.weight": (after, before, *kernels[layer]) for layer, (before, after) in self.channels.items()
        }
        return weights | {f"{layer}.bias": (after,) for layer, (_, after) in self.channels.items()}


def names() -> list[str]:
    """All tensors that a file needs; others in it are left alone."""
    return sorted(Layout((1, 1, 1, 1), joined=False).shapes)


def layout_of(path: str) -> Layout:
    """The layout of a safetensors file, whose widths are read off its shapes.

    Raises:
        RenderError: no such file, not of that format, a tensor that is missing, of another shape, or not of floats.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise RenderError(f"style.weights: no file {file}: --set style.weights=FILE; {_REMEDY}")
    try:
        with safe_open(file, framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            found = {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
    except (SafetensorError, OSError) as error:
        raise RenderError(f"style.weights: {file} is no safetensors file ({error}); {_REMEDY}") from error
    if missing := [name for name in names() if name not in found]:
        raise RenderError(
            f"style.weights: {file} has no {missing[0]} ({len(missing)} of {len(names())} tensors are missing); {_REMEDY}"
        )
    shapes = {name: shape for name, (shape, _) in found.items()}
    width, wider, wide, widest = (_size(shapes[f"encoder.{top}.weight"], 0) for top in ("conv1_1", *TOPS))
    layout = Layout((width, wider, wide, widest), joined=_size(shapes["decoder.conv1_2.weight"], 1) != width)
    for name, wanted in layout.shapes.items():
        if shapes[name] != wanted or found[name][1] not in _FLOATS:
            raise RenderError(
                f"style.weights: {file}: {name} is {found[name][1]} of shape {list(shapes[name])}; expected floats of shape "
                f"{list(wanted)}; {_REMEDY}"
            )
    return layout


def _size(shape: tuple[int, ...], axis: int) -> int:
    return shape[axis] if axis < len(shape) else 0

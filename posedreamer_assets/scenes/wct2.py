"""Style by a network: wavelet-corrected transfer (Yoo et al., ICCV 2019), region to region, with weights of the user's.

VGG19 up to conv4_1 with Haar wavelets in the place of max pooling, and its mirror image. What a pooling takes out of the
features, their three bands of detail, reaches the decoder by a way of its own, so that nothing is lost that an unpooling would
have to invent. At each scale, features of the region that is changed are whitened and given the mean and covariance of those
of the other region; bands of detail likewise. Both regions are of one picture, whose own features say what the style is.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import binary_erosion
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad, relu

from posedreamer_assets.errors import RenderError
from posedreamer_assets.scenes.stylise import NO_STYLE, STYLISED, TOO_SMALL, Styled, why_not
from posedreamer_assets.scenes.wct2_file import BLOCKS, TOPS, Layout, layout_of

LARGEST_SIDE = 600  # pixels of what the network sees, as the paper on synthetic humans has it
DEEPEST = 8  # pixels of a cell of conv4_1, along a side
LEAST_PIXELS = 8 * DEEPEST**2  # of a region: a mean and a covariance of fewer than eight cells say nothing
# On both covariances, as a share of their mean variance: a region of few cells has a singular one, and one of the same
# statistics as the other must stay as it is.
_RIDGE = 1e-3
_EDGE = 0.5  # share of the change that pixels at the edge of the region get

# Along columns and rows of two by two pixels: L (1, 1) / sqrt 2 and H (-1, 1) / sqrt 2; LL, LH, HL and HH.
_HAAR = tuple(tuple(tuple(0.5 * u * v for v in row) for u in column) for column, row in
              (((1, 1), (1, 1)), ((1, 1), (-1, 1)), ((-1, 1), (1, 1)), ((-1, 1), (-1, 1))))  # fmt: skip
_BANDS = ("LL", "LH", "HL", "HH")

At = Callable[[str, Tensor], Tensor]
"""What becomes of the features (1, c, h, w) of a named place: those of `encoder.LAYER`, or a band of it, `LAYER.LH`."""


def pooled(features: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Haar's components LL, LH, HL and HH, of half the size: an orthonormal change of each two by two pixels."""
    corners = [[features[..., u::2, v::2] for v in (0, 1)] for u in (0, 1)]
    low, *high = (sum(kernel[u][v] * corners[u][v] for u in (0, 1) for v in (0, 1)) for kernel in _HAAR)
    return low, *high  # pyright: ignore[reportReturnType]


def unpooled(components: tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    """Each component spread to twice its size; their sum is what was pooled."""
    return [_spread(component, kernel) for component, kernel in zip(components, _HAAR, strict=True)]


def _spread(component: Float[Tensor, "n c h w"], kernel: tuple[tuple[float, ...], ...]) -> Float[Tensor, "n c h2 w2"]:
    weights = component.new_tensor(kernel)[:, None, :]
    return (component[..., :, None, :, None] * weights).flatten(-2).flatten(-3, -2)


@dataclass(frozen=True)
class Skip:
    """What goes around the deeper layers: three bands of detail, and the features before pooling."""

    high: tuple[Tensor, Tensor, Tensor]
    before: Tensor


class Wct2(nn.Module):
    """The encoder and decoder of a layout, with random weights until they are loaded."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        parts: dict[str, dict[str, nn.Module]] = {"encoder": {}, "decoder": {}}
        for layer, (before, after) in layout.channels.items():
            part, _, name = layer.partition(".")
            parts[part][name] = nn.Conv2d(before, after, 1 if name == "conv0" else 3)
        self.encoder = nn.ModuleDict(parts["encoder"])
        self.decoder = nn.ModuleDict(parts["decoder"])

    def encode(
        self, pictures: Float[Tensor, "n 3 h w"], at: At = lambda place, features: features
    ) -> tuple[Tensor, list[Skip]]:
        """Features of conv4_1, and what goes around each pooling.

        Args:
            pictures: RGB in 0..1; sides are multiples of 8, 16 or more.
            at: changes features on the way, before deeper layers see them.
        """
        seen = at("conv1_1", relu(_convolved(self.encoder["conv1_1"], self.encoder["conv0"](pictures))))
        skips = []
        for block, top in zip(BLOCKS, TOPS, strict=True):
            for name in block:
                seen = relu(_convolved(self.encoder[name], seen))
            low, *high = pooled(seen)
            first, second, third = (at(f"{block[-1]}.{band}", one) for band, one in zip(_BANDS[1:], high, strict=True))
            skips.append(Skip((first, second, third), seen))
            seen = at(top, relu(_convolved(self.encoder[top], low)))
        return seen, skips

    def decode(self, deepest: Float[Tensor, "n c h w"], skips: list[Skip]) -> Float[Tensor, "n 3 h8 w8"]:
        """Pictures of features, about 0..1."""
        seen = deepest
        for block, top, skip in zip(reversed(BLOCKS), reversed(TOPS), reversed(skips), strict=True):
            seen = relu(_convolved(self.decoder[top], seen))
            spread = unpooled([seen, *skip.high])
            seen = torch.cat([*spread, skip.before], 1) if self.layout.joined else torch.stack(spread).sum(0)
            for name in reversed(block):
                seen = relu(_convolved(self.decoder[name], seen))
        return _convolved(self.decoder["conv1_1"], seen)


def _convolved(layer: nn.Module, features: Tensor) -> Tensor:
    """Pictures go on beyond their border as in a mirror: zeros there would show as a frame."""
    return layer(pad(features, (1, 1, 1, 1), mode="reflect"))


def load_wct2(path: str) -> Wct2:
    """The network of a file, in full precision, on the CPU.

    Raises:
        RenderError: as `layout_of`, or weights that are not finite.
    """
    layout = layout_of(path)
    network = Wct2(layout)
    file = Path(path).expanduser()
    found = load_file(file)
    weights = {name: found[name].float() for name in layout.shapes}
    if bad := [name for name, one in weights.items() if not one.isfinite().all()]:
        raise RenderError(f"style.weights: {file}: {bad[0]} has values that are no finite numbers")
    network.load_state_dict(weights)
    return network.requires_grad_(False).eval()


# Whitening and colouring


@dataclass(frozen=True)
class Moments:
    """Mean (c) and covariance (c, c) of features, of the cells of a region by how much of each belongs to it."""

    mean: Float[Tensor, "c"]
    covariance: Float[Tensor, "c c"]


def moments(features: Float[Tensor, "c n"], shares: Float[Tensor, "n"]) -> Moments:
    """Of cells (columns), each counted by its share; double precision."""
    values, weights = features.double(), shares.double() / shares.double().sum()
    mean = values @ weights
    centred = values - mean[:, None]
    return Moments(mean, (centred * weights) @ centred.T)


def recoloured(features: Float[Tensor, "c n"], own: Moments, style: Moments) -> Float[Tensor, "c n"]:
    """Features whitened by their own moments and coloured by others: these they have then, but for the ridge on both sides."""
    channels = len(own.mean)
    variance = float(own.covariance.trace() + style.covariance.trace()) / (2 * channels)
    ridge = (_RIDGE * variance + 1e-12) * torch.eye(channels, dtype=torch.float64)
    # On the CPU, whose decomposition is the same everywhere; what is multiplied hangs on no sign of an eigenvector.
    whiten = _power(own.covariance.cpu() + ridge, -0.5)
    colour = _power(style.covariance.cpu() + ridge, 0.5)
    matrix = (colour @ whiten).to(features.device)
    return (matrix @ (features.double() - own.mean[:, None]) + style.mean[:, None]).to(features.dtype)


def _power(matrix: Float[Tensor, "c c"], exponent: float) -> Float[Tensor, "c c"]:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(1e-12) ** exponent) @ vectors.T


def transferred(
    network: Wct2,
    picture: Float[Tensor, "1 3 h w"],
    content: Float[Tensor, "h w"],
    style: Float[Tensor, "h w"],
) -> Float[Tensor, "1 3 h w"]:
    """The picture with one region made like another one; what the decoder makes of the rest is of no use.

    Args:
        network: on the device of the picture.
        picture: RGB in 0..1; sides are multiples of 8, 16 or more.
        content: share of each pixel that is changed.
        style: share of each pixel that it is made like.
    """
    wanted: dict[str, Moments] = {}

    def learn(place: str, features: Tensor) -> Tensor:
        wanted[place] = moments(features[0].flatten(1), _shares(style, features))
        return features

    def change(place: str, features: Tensor) -> Tensor:
        shares = _shares(content, features)
        inside = shares > 0
        cells = features[0].flatten(1).clone()
        own = cells[:, inside]
        cells[:, inside] = recoloured(own, moments(own, shares[inside]), wanted[place])
        return cells.view_as(features)

    network.encode(picture, learn)
    return network.decode(*network.encode(picture, change))


def _shares(region: Float[Tensor, "h w"], features: Tensor) -> Float[Tensor, "n"]:
    """How much of each cell belongs to a region."""
    return avg_pool2d(region[None, None], region.shape[-1] // features.shape[-1]).flatten()


# Pictures


def stylise_by(
    network: Wct2,
    picture: UInt8[np.ndarray, "h w 3"],
    content: Bool[np.ndarray, "h w"],
    style: Bool[np.ndarray, "h w"],
    min_pixels: int,
) -> Styled:
    """As `stylise.stylise`, by a network.

    It sees the picture with LARGEST_SIDE at most; of a larger one the change is enlarged, not the picture. Regions need
    LEAST_PIXELS of what it sees. Pixels at the edge of the region change half: without, they show as a seam.

    Args:
        network: of any layout, on any device.
        picture: RGB.
        content: what is changed.
        style: what it is made like; pixels that are in both are content alone.
        min_pixels: of either region; with less the picture stays.
    """
    style = style & ~content
    size = _seen_size(picture)
    seen, inside, like = (_resized(_as_floats(one), size) for one in (picture, content, style))
    if inside.sum() < LEAST_PIXELS:
        return Styled(picture, TOO_SMALL)
    if like.sum() < LEAST_PIXELS:
        return Styled(picture, NO_STYLE)
    if why := why_not(content, style, min_pixels):
        return Styled(picture, why)
    found = _by_network(network, seen, inside, like)
    original = _as_floats(picture)
    change = _resized(np.clip(found, 0, 1) - seen, (picture.shape[1], picture.shape[0]))
    edge = content & np.logical_not(binary_erosion(content, np.ones((3, 3)), border_value=1))
    changed = np.clip(original + np.where(edge, _EDGE, 1.0)[..., None] * change, 0, 1)
    result = np.where(content[..., None], np.rint(changed * 255), picture).astype(np.uint8)
    shift = float(np.linalg.norm(result[content] / 255 - original[content], axis=1).mean())
    return Styled(result, STYLISED, shift)


def _seen_size(picture: np.ndarray) -> tuple[int, int]:
    """Width and height of what the network sees."""
    height, width = picture.shape[:2]
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _as_floats(pixels: np.ndarray) -> Float[np.ndarray, "h w *c"]:
    return (pixels / 255 if pixels.dtype == np.uint8 else pixels).astype(np.float32)


def _resized(pixels: Float[np.ndarray, "h w *c"], size: tuple[int, int]) -> Float[np.ndarray, "h2 w2 *c"]:
    """Of width and height `size`; each pixel of a smaller picture is a mean of those that it covers."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    channels = np.atleast_3d(pixels)
    found = [
        np.asarray(Image.fromarray(channels[..., k]).resize(size, Image.Resampling.BILINEAR))
        for k in range(channels.shape[-1])
    ]
    return np.stack(found, axis=-1).reshape(size[1], size[0], *pixels.shape[2:])


def _by_network(network: Wct2, seen: np.ndarray, content: np.ndarray, style: np.ndarray) -> Float[np.ndarray, "h w 3"]:
    height, width = content.shape
    sides = [(0, max(2 * DEEPEST, -(-side // DEEPEST) * DEEPEST) - side) for side in (height, width)]
    device = next(network.parameters()).device
    picture = np.pad(seen, (*sides, (0, 0)), mode="edge").transpose(2, 0, 1)[None]
    with torch.inference_mode(), _repeatable(device):
        given, *regions = (
            torch.from_numpy(np.ascontiguousarray(one)).to(device)
            for one in (picture, np.pad(content, sides), np.pad(style, sides))
        )
        found = transferred(network, given, *regions)
    return found[0, :, :height, :width].permute(1, 2, 0).cpu().numpy()


def _repeatable(device: torch.device) -> AbstractContextManager[object]:
    """The same bits each time on one GPU, and no shortened numbers; a CPU gives them by itself, where one core computes."""
    if device.type == "cpu":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)

"""People in an image: maps of the student at some scales, averaged, and grouped."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.errors import StudentError
from posedreamer_assets.metrics.mpii_ap import JOINTS, Predicted, belong_to
from posedreamer_assets.people2d.grouping import group_people
from posedreamer_assets.people2d.network import PADDED_TO, STRIDE, PoseNet
from posedreamer_assets.scoring.weights import default_device

MOST_PIXELS = 4_000_000
"""Of an enlarged image: a network of VGG19's widths takes some GB for it, and without a bound all that there is for a crowd
far away."""


def load_network(weights: Mapping[str, Tensor], cfg: Pose2dConfig) -> PoseNet:
    """A student with its weights, of whatever precision, to predict with.

    Raises:
        StudentError: weights of another network.
    """
    network = PoseNet(cfg)
    try:
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    except RuntimeError as error:
        raise StudentError(f"weights of another student: {str(error).splitlines()[0]}") from error
    return network.to(default_device()).eval()


def typical_scale(sizes_px: Float[np.ndarray, "p"], cfg: Pose2dConfig) -> float:
    """The factor that makes an image's people as large as crops show them, on average.

    MPII's protocol gives a student the mean size of a group of people, and of nobody alone.

    Args:
        sizes_px: of the people, see `samples.person_sizes`.
    """
    return cfg.person_share * cfg.size / float(np.mean(sizes_px))


def scales_of(sizes_px: Float[np.ndarray, "p"], cfg: Pose2dConfig) -> tuple[float, ...]:
    """The factors of an image's size at which it is looked at, see `typical_scale`."""
    return tuple(scale * typical_scale(sizes_px, cfg) for scale in cfg.scales)


def find_people(
    network: PoseNet, image: UInt8[np.ndarray, "h w 3"], cfg: Pose2dConfig, scales: tuple[float, ...] = (1.0,)
) -> Predicted:
    """People with joints in pixels of the image.

    Args:
        network: in evaluation mode.
        image: RGB.
        cfg: of the network.
        scales: factors of the image's size at which it is looked at; maps of all are averaged at the size of the largest. An
            image of very small people is enlarged to MOST_PIXELS at most.
    """
    sides = [_scaled_sides(image.shape[:2], scale) for scale in sorted(scales, reverse=True)]
    total: Tensor | None = None
    for height, width in sides:
        maps = _maps(network, image, height, width, cfg)
        if total is None:
            total = maps
        else:
            total += interpolate(maps[None], total.shape[1:], mode="bilinear", align_corners=False)[0]
    assert total is not None, "at least one scale"
    found = group_people((total / len(sides)).numpy(), float(STRIDE[cfg.layout]))
    height, width = sides[0]
    return Predicted(found.joints * [image.shape[1] / width, image.shape[0] / height], found.found, found.scores)


def find_groups(
    network: PoseNet,
    image: UInt8[np.ndarray, "h w 3"],
    cfg: Pose2dConfig,
    group: Int[np.ndarray, "p"],
    middles: Float[np.ndarray, "p 2"],
    sizes_px: Float[np.ndarray, "p"],
) -> Predicted:
    """People of each group with joints in pixels of the image, which is looked at once for each, at the mean size of its people.

    Args:
        network: in evaluation mode.
        image: RGB.
        cfg: of the network.
        group: number of each annotated person's group; -1 of who is in none, and is not looked for.
        middles: of these people, pixels.
        sizes_px: see `samples.person_sizes`.
    """
    parts = [Predicted(np.zeros((0, JOINTS, 2)), np.zeros((0, JOINTS), bool), np.zeros((0, JOINTS)), np.zeros(0, int))]
    for number in np.unique(group[group >= 0]):
        own = group == number
        found = find_people(network, image, cfg, scales_of(sizes_px[own], cfg))
        near = found.take(belong_to(found, middles[own], float(sizes_px[own].mean())))
        parts.append(replace(near, group=np.full(len(near), number)))
    names = ("joints", "found", "scores", "group")
    return Predicted(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _scaled_sides(sides: tuple[int, ...], scale: float) -> tuple[int, int]:
    scale = min(scale, (MOST_PIXELS / (sides[0] * sides[1])) ** 0.5)
    height, width = (max(1, round(side * scale)) for side in sides)
    return height, width


@torch.no_grad()
def _maps(
    network: PoseNet, image: UInt8[np.ndarray, "h w 3"], height: int, width: int, cfg: Pose2dConfig
) -> Float[Tensor, "45 h2 w2"]:
    """Maps of the image at that size, without the cells that lie outside of it."""
    drawn = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    tensor = torch.from_numpy(np.array(drawn)).permute(2, 0, 1)[None].float().div_(255)
    whole, stride = PADDED_TO[cfg.layout], STRIDE[cfg.layout]
    device = next(network.parameters()).device
    padded = pad(tensor, (0, -width % whole, 0, -height % whole), value=0.45).to(device)
    maps = network(padded.contiguous(memory_format=torch.channels_last))[-1][0].float().cpu()
    return maps[:, : -(-height // stride), : -(-width // stride)]

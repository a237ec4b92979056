"""What the student is to paint: heat maps of joints and part affinity fields of limbs (Cao et al., CVPR 2017, equations 7 to 9).

Pure functions of joints. Maps of a crop are 16 joints, the background, then x and y of each limb; cell i of a row has its
middle at (i + 0.5) * stride pixels.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Parents first, from the thorax: whoever labels no neck and no top of the head, as COCO, has whole people all the same.
LIMBS: tuple[tuple[int, int], ...] = (
    *((7, 8), (8, 9), (7, 12), (12, 11), (11, 10), (7, 13), (13, 14), (14, 15)),
    *((7, 2), (2, 1), (1, 0), (7, 3), (3, 4), (4, 5)),
)
"""Pairs of joints of `scenes.points.MPII16`: a tree over all but the pelvis, which has a heat map alone."""

JOINTS = 16
BACKGROUND = JOINTS  # the channel
HEATS = JOINTS + 1
FIELDS = 2 * len(LIMBS)
MAPS = HEATS + FIELDS
_SHORTEST_PX = 1e-3  # a limb without a length has no direction


def heat_maps(
    joints: Float[Tensor, "n p 16 2"], known: Bool[Tensor, "n p 16"], side: int, stride: int, sigma_px: float
) -> Float[Tensor, "n 17 s s"]:
    """A peak of height 1 at each known joint, the highest of all people's in each cell, and the background, 1 less all joints.

    Sums of people would exceed 1 where two of them are near each other.

    Args:
        joints: pixels of square crops; of each crop as many people as of the one with most, the others with nothing known.
        known: whose joints count.
        side: cells.
        stride: pixels of a cell.
        sigma_px: standard deviation of a peak.
    """
    across, down = _bells(joints[..., 0], side, stride, sigma_px), _bells(joints[..., 1], side, stride, sigma_px)
    across = across * known[..., None]
    peaks = joints.new_zeros(len(joints), JOINTS, side, side)
    for person in range(joints.shape[1]):  # all at once would be slower: far more memory is written than needed
        peaks = torch.maximum(peaks, down[:, person, :, :, None] * across[:, person, :, None, :])
    return torch.cat([peaks, 1 - peaks.amax(1, keepdim=True)], 1)


def _bells(where: Float[Tensor, "n p 16"], side: int, stride: int, sigma_px: float) -> Float[Tensor, "n p 16 s"]:
    gap = _middles(side, stride, where) - where[..., None]
    return torch.exp(-(gap**2) / (2 * sigma_px**2))


def _middles(side: int, stride: int, like: Tensor) -> Float[Tensor, "s"]:
    return (torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) * stride


def affinity_fields(
    joints: Float[Tensor, "n p 16 2"], known: Bool[Tensor, "n p 16"], side: int, stride: int, half_px: float
) -> Float[Tensor, "n 28 s s"]:
    """On each limb the unit vector along it, x then y; the mean of those people whose limb covers a cell, else 0.

    A limb covers the cells whose middle is at most `half_px` from its line and between its ends. A limb without length, or
    of which an end is not known, covers none.
    """
    first, last = zip(*LIMBS, strict=True)
    start, end = joints[:, :, list(first)], joints[:, :, list(last)]
    way = end - start
    length = way.norm(dim=-1)
    there = known[:, :, list(first)] & known[:, :, list(last)] & (length > _SHORTEST_PX)
    unit = torch.where(there[..., None], way / length.clamp_min(_SHORTEST_PX)[..., None], torch.zeros_like(way))
    middles = _middles(side, stride, joints)
    total = joints.new_zeros(len(joints), len(LIMBS), 2, side, side)
    count = joints.new_zeros(len(joints), len(LIMBS), side, side)
    for person in range(joints.shape[1]):
        x = (middles - start[:, person, :, :1])[:, :, None, :]
        y = (middles - start[:, person, :, 1:])[:, :, :, None]
        ux, uy = unit[:, person, :, 0, None, None], unit[:, person, :, 1, None, None]
        along, beside = x * ux + y * uy, (x * uy - y * ux).abs()
        covered = (along >= 0) & (along <= length[:, person, :, None, None]) & (beside <= half_px)
        covered = (covered & there[:, person, :, None, None]).to(joints.dtype)
        total += covered[:, :, None] * unit[:, person, :, :, None, None]
        count += covered
    return (total / count.clamp_min(1)[:, :, None]).flatten(1, 2)

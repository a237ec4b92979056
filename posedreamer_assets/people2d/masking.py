"""Where the loss counts: a weight for each map and cell of a crop.

What nobody annotated is no background: cells of people who are to be ignored count in no map, and around a person whose
joint is not labelled that joint's map, its limbs' and the background count nowhere.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.people2d.crops import Crops
from posedreamer_assets.people2d.network import STRIDE
from posedreamer_assets.people2d.targets import BACKGROUND, FIELDS, HEATS, LIMBS, affinity_fields, heat_maps

OWN_HEAT = 0.25  # of a synthetic person's own heat map: from there on a cell is theirs


def targets_and_weights(
    crops: Crops, cfg: Pose2dConfig, *, masked: bool = False
) -> tuple[Float[Tensor, "n 45 s s"], Float[Tensor, "n 45 s s"]]:
    """What the student is to paint on crops, and how much each cell counts.

    Args:
        crops: of real and synthetic people.
        cfg: sizes, `foreground` and `masks`.
        masked: whether synthetic people count for nothing.
    """
    joints, known = torch.from_numpy(crops.joints).float(), torch.from_numpy(crops.known)
    side, stride = cfg.size // STRIDE[cfg.layout], STRIDE[cfg.layout]
    heats = heat_maps(joints, known, side, stride, cfg.sigma_px)
    fields = affinity_fields(joints, known, side, stride, cfg.limb_px)
    weights = torch.ones(len(crops), HEATS + FIELDS, side, side)
    if cfg.foreground:
        weights[:, :BACKGROUND] += cfg.foreground * heats[:, :BACKGROUND]
        weights[:, BACKGROUND] += cfg.foreground * (1 - heats[:, BACKGROUND])
        weights[:, HEATS:] += cfg.foreground / 2 * _set(fields).repeat_interleave(2, 1)
    weights *= 1.0 - cells_with(torch.from_numpy(crops.ignore), stride).float()[:, None]
    weights.masked_fill_(unlabelled(joints, known, side, stride), 0.0)
    if masked:
        weights.masked_fill_(synthetic_cells(crops, cfg), 0.0)
    return torch.cat([heats, fields], 1), weights


def _set(fields: Float[Tensor, "n 28 s s"]) -> Bool[Tensor, "n 14 s s"]:
    return (fields.unflatten(1, (len(LIMBS), 2)) != 0).any(2)


def cells_with(mask: Bool[Tensor, "n h w"], stride: int) -> Bool[Tensor, "n s s"]:
    """Cells in which a pixel is set."""
    return max_pool2d(mask.float()[:, None], stride)[:, 0] > 0


def unlabelled(
    joints: Float[Tensor, "n p 16 2"], known: Bool[Tensor, "n p 16"], side: int, stride: int
) -> Bool[Tensor, "n 45 s s"]:
    """Cells in which a joint may be that is not labelled, in its map, its limbs' and the background's.

    It may be within the box of its person's labelled joints, larger by half of the box's longer side all round.
    """
    far = torch.where(known[..., None], joints, torch.full_like(joints, torch.inf))
    low = far.amin(2)
    high = torch.where(known[..., None], joints, torch.full_like(joints, -torch.inf)).amax(2)
    grown = (high - low).amax(-1, keepdim=True) / 2
    low, high = low - grown, high + grown
    middles = (torch.arange(side) + 0.5) * stride
    across = (middles >= low[..., :1]) & (middles <= high[..., :1])
    down = (middles >= low[..., 1:]) & (middles <= high[..., 1:])
    near = down[..., :, None] & across[..., None, :]  # n p s s; nowhere for rows of nobody
    lacking = ~known & known.any(2, keepdim=True)
    heats = (lacking[..., None, None] & near[:, :, None]).any(1)
    first, last = zip(*LIMBS, strict=True)
    limbs = heats[:, list(first)] | heats[:, list(last)]
    return torch.cat([heats, heats.any(1, keepdim=True), limbs.repeat_interleave(2, 1)], 1)


def synthetic_cells(crops: Crops, cfg: Pose2dConfig) -> Bool[Tensor, "n 45 s s"]:
    """Cells of synthetic people, in each map.

    `cfg.masks` targets: where their own heat map, made without real people, is above 0.25 or their affinity field is set;
    in the background's map where any of their joints is. silhouette: what they cover, in all maps.
    """
    side, stride = cfg.size // STRIDE[cfg.layout], STRIDE[cfg.layout]
    synthetic = torch.from_numpy(crops.synthetic)
    if cfg.masks == "silhouette":
        ids = torch.arange(1, synthetic.shape[1] + 1)
        shown = torch.from_numpy(crops.instances)[:, None] == torch.where(synthetic, ids, 255)[..., None, None]
        return cells_with(shown.any(1), stride)[:, None].expand(-1, HEATS + FIELDS, -1, -1)
    joints, known = torch.from_numpy(crops.joints).float(), torch.from_numpy(crops.known) & synthetic[..., None]
    peaks = heat_maps(joints, known, side, stride, cfg.sigma_px)[:, :BACKGROUND] > OWN_HEAT
    limbs = _set(affinity_fields(joints, known, side, stride, cfg.limb_px)).repeat_interleave(2, 1)
    return torch.cat([peaks, peaks.any(1, keepdim=True), limbs], 1)

"""The terms of a student's loss, each a pure function; weights were fixed before any recipe was compared.

L = 10 |J^ - J|_1 + 10 |V^ - V|_1 + 2 |R^ - R|^2 / 9 + 0.005 |b^ - b|^2 + min(|x^ - x| / (w / 2), 2)

Joints J and vertices V are relative to the root, metres. The root's rotation is supervised. Rotations are compared as
matrices, because axis-angle has several vectors for one rotation. The camera is known: the last term uses the label's own focal
length and counts joints whose true projection lies in the image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.networks import Predicted
from posedreamer_assets.students.skinning import TorchBody

WEIGHTS: Mapping[str, float] = {"joints": 10.0, "vertices": 10.0, "rotations": 2.0, "betas": 0.005, "pixels": 1.0}
_MOST = 2.0  # of the 2D term, half widths


def points_l1(found: Float[Tensor, "n k 3"], true: Float[Tensor, "n k 3"]) -> Float[Tensor, ""]:
    """mean |x^ - x| over coordinates, metres."""
    return (found - true).abs().mean()


def rotations_squared(found: Float[Tensor, "n j 3 3"], true: Float[Tensor, "n j 3 3"]) -> Float[Tensor, ""]:
    """mean over joints of the squared Frobenius distance / 9; 8/9 sin^2(angle / 2) for two rotations."""
    return (found - true).square().mean()


def betas_squared(found: Float[Tensor, "n 10"], true: Float[Tensor, "n 10"]) -> Float[Tensor, ""]:
    """mean over images of |b^ - b|^2."""
    return (found - true).square().sum(1).mean()


def pixels_clamped(
    found: Float[Tensor, "n k 2"],
    true: Float[Tensor, "n k 2"],
    width_px: int,
    height_px: int,
    mean: Callable[[Tensor], Tensor] = lambda count: count,
) -> Float[Tensor, ""]:
    """mean over joints in the image of min(|x^ - x|_1 / (w / 2), 2).

    Args:
        found, true: pixels.
        width_px, height_px: of the images.
        mean: of a number over all processes that share a batch: else those whose images show few joints would count for more.
    """
    bounds = true.new_tensor([width_px, height_px])
    inside = ((true >= 0) & (true <= bounds)).all(-1)
    distance = ((found - true).abs().sum(-1) / (width_px / 2)).clamp(max=_MOST)
    return (distance * inside).sum() / mean(inside.sum().float()).clamp(min=1e-3)


def project(
    points_m: Float[Tensor, "n k 3"],
    pelvis_cam_m: Float[Tensor, "n 3"],
    focal_px: Float[Tensor, "n"],
    principal_px: Float[Tensor, "n 2"],
) -> Float[Tensor, "n k 2"]:
    """Pixels of points relative to the pelvis: f (X + t)_xy / (X + t)_z + c; depth is at least 10 cm."""
    placed = points_m + pelvis_cam_m[:, None]
    depth = placed[..., 2:].clamp(min=0.1)
    return focal_px[:, None, None] * placed[..., :2] / depth + principal_px[:, None]


def weighted(terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """The sum of all terms under `WEIGHTS`."""
    return torch.stack([WEIGHTS[name] * value for name, value in terms.items()]).sum()


@dataclass(frozen=True)
class LabelTensors:
    """`Labels` where they are computed with, see there."""

    rotations: Float[Tensor, "n 22 3 3"]
    betas: Float[Tensor, "n 10"]
    pelvis_cam_m: Float[Tensor, "n 3"]
    focal_px: Float[Tensor, "n"]
    principal_px: Float[Tensor, "n 2"]

    @classmethod
    def of(cls, labels: Labels, device: torch.device | str = "cpu") -> "LabelTensors":
        """The labels on a device."""
        values = (labels.rotations, labels.betas, labels.pelvis_cam_m, labels.focal_px, labels.principal_px)
        return cls(*(torch.tensor(np.ascontiguousarray(one, np.float32), device=device) for one in values))


def terms(
    found: Predicted,
    true: LabelTensors,
    body: TorchBody,
    width_px: int,
    height_px: int,
    mean: Callable[[Tensor], Tensor] = lambda count: count,
) -> dict[str, Tensor]:
    """The terms of the loss of predictions, by name; `mean` as in `pixels_clamped`."""
    joints, vertices = body(found.rotations, found.betas)
    with torch.no_grad():
        true_joints, true_vertices = body(true.rotations, true.betas)
        true_pixels = project(true_joints, true.pelvis_cam_m, true.focal_px, true.principal_px)
    pixels = project(joints, found.pelvis_cam_m, true.focal_px, true.principal_px)
    return {
        "joints": points_l1(joints, true_joints),
        "vertices": points_l1(vertices, true_vertices),
        "rotations": rotations_squared(found.rotations, true.rotations),
        "betas": betas_squared(found.betas, true.betas),
        "pixels": pixels_clamped(pixels, true_pixels, width_px, height_px, mean),
    }

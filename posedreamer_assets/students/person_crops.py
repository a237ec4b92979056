"""Crops of the labelled person's box, with labels and intrinsics that follow, and predictions brought back.

A crop is what a camera of the same place sees that looks at the box's middle, see `outside.crop_about`: labels turn with it and
stay exact, and a student sees every person alike, near or far, in the middle of an image or at its side.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.outside import PADDING, Crop, crop_about
from posedreamer_assets.students.predict import Predictions
from posedreamer_assets.students.skinning import TorchBody

_LEAST_PX = 2.0  # of a box: smaller ones are not what anybody labelled
_CHUNK = 256  # bodies at a time


def body_boxes(body: TorchBody, labels: Labels, width: int, height: int) -> Float[np.ndarray, "n 4"]:
    """The box about each labelled body, as far as the image shows it: x, y, width, height, pixels.

    Args:
        body: skins the vertices that boxes are drawn about.
        labels: before their cameras.
        width, height: of the images; a body that none of it is in has the whole image.
    """
    parts = [_boxes(body, labels.take(slice(i, i + _CHUNK))) for i in range(0, len(labels), _CHUNK)]
    corners = np.concatenate(parts) if parts else np.zeros((0, 4))
    cut = corners.clip(0, [width, height, width, height])
    boxes = np.concatenate([cut[:, :2], cut[:, 2:] - cut[:, :2]], 1)
    boxes[(boxes[:, 2:] < _LEAST_PX).any(1)] = [0, 0, width, height]
    return boxes


def _boxes(body: TorchBody, labels: Labels) -> Float[np.ndarray, "n 4"]:
    """Left, top, right, bottom of all vertices before the camera."""
    with torch.no_grad():
        _, vertices = body(torch.tensor(labels.rotations).float(), torch.tensor(labels.betas).float())
    placed = vertices.numpy() + labels.pelvis_cam_m[:, None]
    depth = placed[..., 2:].clip(min=0.05)
    pixels = labels.focal_px[:, None, None] * placed[..., :2] / depth + labels.principal_px[:, None]
    return np.concatenate([pixels.min(1), pixels.max(1)], 1).astype(np.float64)


def crops_of(
    boxes: Float[np.ndarray, "n 4"],
    focal_px: Float[np.ndarray, "n"],
    principal_px: Float[np.ndarray, "n 2"],
    size: tuple[int, int],
    padding: float = PADDING,
) -> list[Crop]:
    """The crop of a height and width about each box, of images with these intrinsics."""
    height, width = size
    found = []
    for box, focal, (x, y) in zip(boxes, focal_px.astype(np.float64), principal_px.astype(np.float64), strict=True):
        intrinsics = np.array([[focal, 0, x], [0, focal, y], [0, 0, 1.0]])
        found.append(crop_about(box, intrinsics, width, height, padding))
    return found


def labels_in(labels: Labels, crops: Sequence[Crop], size: tuple[int, int]) -> Labels:
    """The labels before the cameras of their crops of a height and width; of the dtype that they have."""
    height, width = size
    turns = _turns(crops)
    kind = labels.rotations.dtype
    rotations = labels.rotations.copy()
    rotations[:, 0] = turns @ labels.rotations[:, 0]
    return replace(
        labels,
        rotations=rotations,
        pelvis_cam_m=np.einsum("nab,nb->na", turns, labels.pelvis_cam_m).astype(kind),
        focal_px=np.array([crop.focal_px for crop in crops], kind),
        principal_px=np.tile(np.array([width / 2, height / 2], kind), (len(crops), 1)),
    )


def turned_back(found: Predictions, crops: Sequence[Crop]) -> Predictions:
    """Predictions before the cameras of crops, before those of the images that the crops were taken from."""
    turns = _turns(crops).transpose(0, 2, 1)
    rotations = found.rotations.copy()
    rotations[:, 0] = turns @ found.rotations[:, 0]
    pelvis = np.einsum("nab,nb->na", turns, found.pelvis_cam_m).astype(found.pelvis_cam_m.dtype)
    return replace(found, rotations=rotations, pelvis_cam_m=pelvis)


def _turns(crops: Sequence[Crop]) -> Float[np.ndarray, "n 3 3"]:
    return np.stack([crop.turn for crop in crops]) if crops else np.zeros((0, 3, 3))

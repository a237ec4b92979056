"""A trained student's parameters for images, from their features; one image's do not depend on the others."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from posedreamer_assets.errors import StudentError
from posedreamer_assets.students.networks import PoseHead

_BLOCK = 32


@dataclass(frozen=True)
class Predictions:
    """Parameters of one person in each image.

    Attributes:
        rotations: root in the camera's frame, body joints relative to their parents.
        betas: shape.
        pelvis_cam_m: place of the root joint in the camera's frame, metres.
    """

    rotations: Float[np.ndarray, "n 22 3 3"]
    betas: Float[np.ndarray, "n 10"]
    pelvis_cam_m: Float[np.ndarray, "n 3"]

    def take(self, indices: np.ndarray) -> "Predictions":
        """Those at the given indices."""
        return Predictions(self.rotations[indices], self.betas[indices], self.pelvis_cam_m[indices])


def weights_to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as safetensors."""
    return save({name: value.contiguous() for name, value in weights.items()})


def head_of(weights: bytes) -> PoseHead:
    """A student's head from its weights.

    Raises:
        StudentError: these are not weights of a student.
    """
    head = PoseHead()
    try:
        head.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in load(weights).items()}
        )
    except (SafetensorError, RuntimeError) as error:
        raise StudentError(f"not weights of a student: {str(error).splitlines()[0]}") from error
    return head.eval()


def predict(
    head: PoseHead, features: Float16[np.ndarray, "n width"], focal_px: Float[np.ndarray, "n"], width_px: int
) -> Predictions:
    """Parameters from features; blocks have one size, so that sums round the same way in any of them."""
    found: list[tuple[np.ndarray, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(features), _BLOCK):
            part = torch.from_numpy(features[start : start + _BLOCK].astype(np.float32))
            focal = torch.from_numpy(np.array(focal_px[start : start + _BLOCK], np.float32))
            count = len(part)
            part = torch.cat([part, part.new_zeros(_BLOCK - count, part.shape[1])])
            focal = torch.cat([focal, focal.new_ones(_BLOCK - count)])
            out = head(part, focal, width_px)
            found.append(tuple(v[:count].numpy() for v in (out.rotations, out.betas, out.pelvis_cam_m)))
    return Predictions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

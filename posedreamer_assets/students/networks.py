"""The student's head: from cached features to rotations, shape and camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from posedreamer_assets.students.features import CELLS, CHANNELS, KEYPOINTS
from posedreamer_assets.students.labels import BODY_JOINTS

OUTPUTS = 6 * BODY_JOINTS + 10 + 3


@dataclass(frozen=True)
class Predicted:
    """What a student says of some images.

    Attributes:
        rotations: root in the camera's frame, body joints relative to their parents.
        betas: shape.
        pelvis_cam_m: place of the root joint in the camera's frame, metres, under the focal length that was given.
    """

    rotations: Float[Tensor, "n 22 3 3"]
    betas: Float[Tensor, "n 10"]
    pelvis_cam_m: Float[Tensor, "n 3"]


class PoseHead(nn.Module):
    """Two convolutions over the map, joined by the keypoints, and one hidden layer."""

    def __init__(self, dropout: float = 0.2, hidden: int = 384) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(CHANNELS, 32, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )  # fmt: skip
        self.join = nn.Sequential(
            nn.Linear(32 * CELLS * CELLS + 3 * KEYPOINTS, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            upright(nn.Linear(hidden, OUTPUTS)),
        )

    def forward(self, features: Float[Tensor, "n width"], focal_px: Float[Tensor, "n"], width_px: int) -> Predicted:
        cut = CHANNELS * CELLS * CELLS
        seen = self.look(features[:, :cut].view(-1, CHANNELS, CELLS, CELLS)).flatten(1)
        return predicted_of(self.join(torch.cat([seen, features[:, cut:]], 1)), focal_px, width_px)


def upright(last: nn.Linear) -> nn.Linear:
    """The last layer of a student with small weights about a body that stands upright before the camera.

    In OpenCV's axes, y down, the identity is a body on its head: upright is half a turn about x. Few steps do not move a
    bias from +1 to -1.
    """
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.zero_()
        sixes = last.bias[: 6 * BODY_JOINTS].view(BODY_JOINTS, 6)
        sixes[:] = torch.tensor([1.0, 0, 0, 0, 1, 0])
        sixes[0] = torch.tensor([1.0, 0, 0, 0, -1, 0])
    return last


def predicted_of(out: Float[Tensor, "n outputs"], focal_px: Float[Tensor, "n"], width_px: int) -> Predicted:
    """What the numbers of a student's last layer say: 22 rotations in 6D, shape, and a camera of three numbers.

    The first of them is a scale, as CLIFF's with known intrinsics: an image and its focal length enlarged alike show the same
    person at the same depth.
    """
    rotations = matrices_of_6d(out[:, : 6 * BODY_JOINTS].view(-1, BODY_JOINTS, 6))
    camera = out[:, -3:]
    depth = 2 * focal_px / (width_px * softplus(camera[:, 0]).clamp(min=0.02))
    pelvis = torch.stack([camera[:, 1], camera[:, 2], depth], 1)
    return Predicted(rotations, out[:, 6 * BODY_JOINTS : 6 * BODY_JOINTS + 10], pelvis)


def matrices_of_6d(sixes: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices whose first two columns are the two halves, made orthonormal (Zhou et al., CVPR 2019)."""
    a, b = sixes[..., :3], sixes[..., 3:]
    first = normalize(a, dim=-1)
    second = normalize(b - (first * b).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)

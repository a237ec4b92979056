"""What a student is asked for: rotations with the root in the camera's frame, shape, place of the pelvis, and intrinsics."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import BodyModel, rest_joints
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.cameras.pinhole import Cameras

BODY_JOINTS = 22
"""Root and 21 body joints; hands, jaw, eyes and expression cannot be seen at 128 pixels and stay at rest."""


@dataclass(frozen=True)
class Labels:
    """SMPL-X labels of some images as a student sees them.

    Attributes:
        rotations: root in the camera's frame (OpenCV: x right, y down, z forward), 21 body joints relative to their parents.
        betas: shape, standard deviations.
        pelvis_cam_m: place of the root joint in the camera's frame, metres.
        focal_px: focal length, pixels.
        principal_px: principal point x, y, pixels; (0, 0) is the image's corner.
    """

    rotations: Float[np.ndarray, "n 22 3 3"]
    betas: Float[np.ndarray, "n 10"]
    pelvis_cam_m: Float[np.ndarray, "n 3"]
    focal_px: Float[np.ndarray, "n"]
    principal_px: Float[np.ndarray, "n 2"]

    def __len__(self) -> int:
        return len(self.focal_px)

    def take(self, indices: np.ndarray | slice | Sequence[int]) -> "Labels":
        """The labels at the given indices."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        return Labels(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})

    @classmethod
    def unknown(cls, focal_px: Float[np.ndarray, "n"], principal_px: Float[np.ndarray, "n 2"]) -> "Labels":
        """Of images of which intrinsics alone are known: the body is at rest where the camera is."""
        count = len(focal_px)
        rest = np.tile(np.eye(3, dtype=np.float32), (count, BODY_JOINTS, 1, 1))
        zeros = np.zeros((count, 10), np.float32), np.zeros((count, 3), np.float32)
        return cls(rest, *zeros, np.array(focal_px, np.float32), np.array(principal_px, np.float32))


def labels_of(body: BodyModel, params: BodyParams, cameras: Cameras) -> Labels:
    """Labels of bodies before their cameras."""
    rotations = axis_angle_to_matrix(params.full_pose()[:, :BODY_JOINTS].astype(np.float64))
    rotations[:, 0] = cameras.rotation @ rotations[:, 0]
    rest = rest_joints(body, params)[:, 0]
    pelvis = cameras.to_camera((rest + params.transl)[:, None])[:, 0]
    found = (rotations, params.betas, pelvis, cameras.focal_px, cameras.principal_px)
    return Labels(*(np.ascontiguousarray(values, np.float32) for values in found))

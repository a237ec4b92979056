"""Rows of the dataset in the conventions of other formats.

The table keeps SMPL-X parameters in a world frame and a camera beside them. Most formats want parameters in the camera
frame, and the step between the two is where exports go wrong: SMPL-X turns the body about its pelvis J, which lies where
the shape puts it, not about the origin,

    x_world = R_g (x - J) + J + T            x_cam = R x_world + t

so folding the camera into the parameters gives R R_g for the orientation and R (J + T) + t - J for the translation.

Pixels of the table have (0, 0) in the corner of the image. Readers that flip with w - 1 - x have it in the centre of the
first pixel: for them, half a pixel comes off (`joints_index`, `intrinsics_index`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from posedreamer_assets.body.joints import LANDMARK_VERTICES
from posedreamer_assets.body.model import BodyModel, chain_transforms
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posedreamer_assets.errors import ExportError
from posedreamer_assets.tables.rows import array, bodies, points, texts

# A label may differ this much from the body it is exported with: rounding, not another body.
_SAME_BODY_M = 2e-3
HALF_PIXEL = 0.5
_PNG, _JPEG = b"\x89PNG", b"\xff\xd8\xff"


class Rig:
    """The 76 joints and landmarks of a body without skinning the rest of it: a thousandth of the work."""

    def __init__(self, body: BodyModel) -> None:
        ids = list(LANDMARK_VERTICES.values())
        directions = np.concatenate([body.shapedirs, body.exprdirs], axis=2).astype(np.float64)
        regressor = body.J_regressor.astype(np.float64)
        self._rest = np.concatenate([regressor @ body.v_template, body.v_template[ids]])
        moved = np.einsum("jv,vck->jck", regressor, directions, optimize=True)
        self._directions = np.concatenate([moved, directions[ids]])
        self._weights = body.weights[ids].astype(np.float64)
        self._correctives = None
        if body.posedirs is not None:
            self._correctives = body.posedirs.reshape(486, -1, 3)[:, ids].astype(np.float64)

    def rest(self, params: BodyParams) -> Float[np.ndarray, "n 76 3"]:
        """Joints and landmarks of the shaped body in its rest pose, metres."""
        coefficients = np.concatenate([params.betas, params.expression], axis=1).astype(np.float64)
        return self._rest + np.einsum("jck,nk->njc", self._directions, coefficients)

    def joints(self, params: BodyParams) -> Float[np.ndarray, "n 76 3"]:
        """Joints and landmarks of the posed body in the world frame, metres."""
        rest = self.rest(params)
        bones, landmarks = rest[:, :55], rest[:, 55:]
        rotations = axis_angle_to_matrix(params.full_pose().astype(np.float64))
        if self._correctives is not None:
            feature = (rotations[:, 1:] - np.eye(3)).reshape(len(rest), -1)
            landmarks = landmarks + np.einsum("nk,klc->nlc", feature, self._correctives)
        turned, position = chain_transforms(rotations, bones)
        offset = position - np.einsum("njab,njb->nja", turned, bones)
        blended = np.einsum("lj,njab->nlab", self._weights, turned)
        landmarks = np.einsum("nlab,nlb->nla", blended, landmarks) + np.einsum("lj,nja->nla", self._weights, offset)
        return np.concatenate([position, landmarks], axis=1) + params.transl[:, None]


@dataclass(frozen=True, eq=False)
class Samples:
    """People of a few images, and what formats want to know about them.

    Attributes:
        rows: rows of `DATASET`, one for each person; people of one image lie together.
        pictures: encoded images as they are stored, by image id.
        rig: of the body that made the labels.
    """

    rows: pa.Table
    pictures: Mapping[str, bytes]
    rig: Rig = field(repr=False)

    def __len__(self) -> int:
        return self.rows.num_rows

    @cached_property
    def ids(self) -> list[str]:
        """Sample id of each person."""
        return texts(self.rows, "sample_id")

    @cached_property
    def image_ids(self) -> list[str]:
        """Image of each person."""
        return texts(self.rows, "image_id")

    @cached_property
    def people(self) -> dict[str, list[int]]:
        """Rows of the people of each image, by image id."""
        found: dict[str, list[int]] = {}
        for row, image in enumerate(self.image_ids):
            found.setdefault(image, []).append(row)
        return found

    @cached_property
    def picture_names(self) -> dict[str, str]:
        """`<image id>.png` or `.jpg`, by image id.

        Raises:
            ExportError: an image that is neither.
        """
        return {name: f"{name}.{image_suffix(name, image)}" for name, image in self.pictures.items()}

    @cached_property
    def image_names(self) -> list[str]:
        """`<image id>.png` or `.jpg` of each person."""
        return [self.picture_names[image] for image in self.image_ids]

    @cached_property
    def size(self) -> Float[np.ndarray, "n 2"]:
        """Width and height, pixels."""
        return np.stack([array(self.rows, "width"), array(self.rows, "height")], axis=1).astype(np.float64)

    # Camera

    @cached_property
    def rotation(self) -> Float[np.ndarray, "n 3 3"]:
        """World to camera."""
        return array(self.rows, "cam_rotation").astype(np.float64).reshape(-1, 3, 3)

    @cached_property
    def translation(self) -> Float[np.ndarray, "n 3"]:
        """World to camera, metres."""
        return array(self.rows, "cam_translation").astype(np.float64)

    @cached_property
    def intrinsics(self) -> Float[np.ndarray, "n 3 3"]:
        """Camera matrices; pixel (0, 0) is the corner of the image."""
        matrix = np.zeros((len(self), 3, 3))
        matrix[:, 0, 0] = matrix[:, 1, 1] = array(self.rows, "focal_px")
        matrix[:, :2, 2] = array(self.rows, "principal_px")
        matrix[:, 2, 2] = 1
        return matrix

    @cached_property
    def intrinsics_index(self) -> Float[np.ndarray, "n 3 3"]:
        """The same where the centre of the first pixel is (0, 0)."""
        return self.intrinsics - [[0, 0, HALF_PIXEL], [0, 0, HALF_PIXEL], [0, 0, 0]]

    # Body

    @cached_property
    def params(self) -> BodyParams:
        """SMPL-X parameters in the world frame; hands relative to the flat hand."""
        return bodies(self.rows)

    @cached_property
    def pelvis(self) -> Float[np.ndarray, "n 3"]:
        """J: the point that `global_orient` turns about, in the rest pose, metres."""
        return self.rig.rest(self.params)[:, 0]

    @cached_property
    def camera_orient(self) -> Float[np.ndarray, "n 3"]:
        """`global_orient` in the camera frame."""
        world = axis_angle_to_matrix(self.params.global_orient.astype(np.float64))
        return matrix_to_axis_angle(self.rotation @ world)

    @cached_property
    def turned_transl(self) -> Float[np.ndarray, "n 3"]:
        """`transl` after turning the world by R alone: R (J + T) - J."""
        return np.einsum("nab,nb->na", self.rotation, self.pelvis + self.params.transl) - self.pelvis

    @cached_property
    def camera_transl(self) -> Float[np.ndarray, "n 3"]:
        """`transl` in the camera frame: R (J + T) + t - J."""
        return self.turned_transl + self.translation

    @cached_property
    def camera_params(self) -> BodyParams:
        """SMPL-X parameters in the camera frame: posed with them, the body lies before the camera as it is."""
        return self.params.replace(
            global_orient=self.camera_orient.astype(np.float32), transl=self.camera_transl.astype(np.float32)
        )

    # Points

    def check_body(self) -> None:
        """Compare the stored joints with those of the body that is exported and named.

        Raises:
            ExportError: the stored joints are those of another body.
        """
        stored = points(self.rows, "joints_cam_m", 3)
        gap = np.linalg.norm(self.joints_cam[:, :55] - stored, axis=2).max(axis=1)
        if len(gap) and not gap.max() <= _SAME_BODY_M:  # nor where joints are missing
            raise ExportError(
                f"sample {self.ids[int(gap.argmax())]!r}: its stored joints lie {1000 * gap.max():.0f} mm from those of "
                "the body that it is exported with; set body.model_path to the body that made the dataset"
            )

    @cached_property
    def joints_cam(self) -> Float[np.ndarray, "n 76 3"]:
        """SMPL-X's 55 joints and 21 landmarks in the camera frame, metres."""
        joints = self.rig.joints(self.params)
        return np.einsum("nab,njb->nja", self.rotation, joints) + self.translation[:, None]

    @cached_property
    def joints_px(self) -> Float[np.ndarray, "n 76 2"]:
        """The same projected, pixels; 0 for points behind the camera."""
        homogeneous = np.einsum("nab,njb->nja", self.intrinsics, self.joints_cam)
        depth = np.where(self.in_front, homogeneous[..., 2], 1.0)
        return np.where(self.in_front[..., None], homogeneous[..., :2] / depth[..., None], 0.0)

    @cached_property
    def joints_index(self) -> Float[np.ndarray, "n 76 2"]:
        """The same where the centre of the first pixel is (0, 0); 0 for points behind the camera."""
        return np.where(self.in_front[..., None], self.joints_px - HALF_PIXEL, 0.0)

    @cached_property
    def in_front(self) -> Bool[np.ndarray, "n 76"]:
        """Whether each point lies before the camera."""
        return self.joints_cam[..., 2] > 1e-6

    @cached_property
    def in_frame(self) -> Bool[np.ndarray, "n 76"]:
        """Whether each point is projected into the image."""
        inside = (self.joints_px >= 0) & (self.joints_px < self.size[:, None])
        return inside.all(axis=2) & self.in_front

    @cached_property
    def visible(self) -> Bool[np.ndarray, "n 76"]:
        """In the image and not hidden by the body.

        Known from the depth buffer for joints and for the face's landmarks; toes, heels and fingertips, of which the
        table keeps no visibility, have that of the joint that moves them.
        """
        joints = array(self.rows, "joints_visible").astype(bool)
        coco = array(self.rows, "keypoints_visible").astype(bool)
        face = coco[:, [0, 2, 1, 4, 3]]  # nose, right eye, left eye, right ear, left ear
        feet = joints[:, [10, 10, 10, 11, 11, 11]]
        tips = joints[:, [39, 27, 30, 36, 33, 54, 42, 45, 51, 48]]  # thumb, index, middle, ring, pinky
        return np.concatenate([joints, face, feet, tips], axis=1) & self.in_frame

    @cached_property
    def bbox(self) -> Float[np.ndarray, "n 4"]:
        """x, y, width and height of the silhouette, pixels; x and y are the top left corner."""
        return array(self.rows, "bbox").astype(np.float64)

    def padded_bbox(self, padding: float) -> Float[np.ndarray, "n 4"]:
        """The box so many times as large about its middle, cut at the image's border; x, y, width and height, pixels."""
        middle, half = self.bbox[:, :2] + self.bbox[:, 2:] / 2, self.bbox[:, 2:] * padding / 2
        low, high = np.clip(middle - half, 0, self.size), np.clip(middle + half, 0, self.size)
        return np.concatenate([low, high - low], axis=1)


def image_suffix(name: str, image: bytes) -> str:
    """`png` or `jpg`.

    Raises:
        ExportError: neither.
    """
    if image[:4] == _PNG:
        return "png"
    if image[:3] == _JPEG:
        return "jpg"
    raise ExportError(f"image {name!r}: it is neither PNG nor JPEG but begins with {image[:4]!r}")

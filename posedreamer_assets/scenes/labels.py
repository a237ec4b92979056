"""Exact labels of the people of a scene: joints from the layout, what can be seen of them from the maps of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras, in_frame
from posedreamer_assets.render.control import silhouette_box
from posedreamer_assets.scenes.points import all_points, head_size_px, mpii_of, mpii_parts, parts_next_to
from posedreamer_assets.scenes.visibility import joints_seen


@dataclass(frozen=True)
class Labels:
    """Labels of the people of one image, pixels from its corner."""

    joints: Float[np.ndarray, "n 55 2"]
    joints_seen: Bool[np.ndarray, "n 55"]
    joints_cam_m: Float[np.ndarray, "n 55 3"]
    keypoints: Float[np.ndarray, "n 17 2"]
    keypoints_seen: Bool[np.ndarray, "n 17"]
    mpii: Float[np.ndarray, "n 16 2"]
    mpii_seen: Bool[np.ndarray, "n 16"]
    mpii_inside: Bool[np.ndarray, "n 16"]
    hidden_by: Int[np.ndarray, "n 16"]  # id of who hides each of MPII's joints, see `visibility.joints_seen`
    head_px: Float[np.ndarray, "n"]
    boxes: Float[np.ndarray, "n 4"]  # of what is seen
    boxes_amodal: Float[np.ndarray, "n 4"]  # of the whole body, clothes aside; may reach out of the image
    pixels: Int[np.ndarray, "n"]  # that show the person

    def __len__(self) -> int:
        return len(self.boxes)


def label_people(
    body: BodyModel,
    params: BodyParams,
    ids: Sequence[int],
    camera: Cameras,
    instances: UInt8[np.ndarray, "h w"],
    parts: UInt8[np.ndarray, "h w"],
) -> Labels:
    """The labels of people in one picture.

    Args:
        body: of the people.
        params: world frame.
        ids: what each is called in `instances`.
        camera: one.
        instances: who is where, 0 where nobody is.
        parts: SMPL-X joint + 1 of the surface.
    """
    output = body.forward(params)
    count = len(params)
    points = camera.to_camera(all_points(body, output.vertices, output.joints).reshape(1, -1, 3)).reshape(count, -1, 3)
    surface = camera.project(output.vertices.reshape(1, -1, 3)).reshape(count, -1, 2)
    # Rounded as they are stored, so that whoever reads them comes to the same pixels.
    pixels = _stored(camera.project_camera(points.reshape(1, -1, 3)).reshape(count, -1, 2))
    mpii = _stored(camera.project_camera(mpii_of(points).reshape(1, -1, 3)).reshape(count, -1, 2))
    heads = _stored(head_size_px(body, surface))
    seen, mpii_seen = np.zeros((count, 77), bool), np.zeros((count, 16), bool)
    hidden_by = np.zeros((count, 16), np.int32)
    for k, person in enumerate(ids):
        seen[k], _ = joints_seen(pixels[k], parts_next_to(body), person, heads[k], instances, parts)
        mpii_seen[k], hidden_by[k] = joints_seen(mpii[k], mpii_parts(body), person, heads[k], instances, parts)
    low, high = surface.min(axis=1), surface.max(axis=1)
    return Labels(
        joints=pixels[:, :55].astype(np.float32),
        joints_seen=seen[:, :55],
        joints_cam_m=points[:, :55].astype(np.float32),
        keypoints=pixels[:, COCO17_FROM_SMPLX].astype(np.float32),
        keypoints_seen=seen[:, COCO17_FROM_SMPLX],
        mpii=mpii.astype(np.float32),
        mpii_seen=mpii_seen,
        mpii_inside=in_frame(mpii, camera.width, camera.height),
        hidden_by=hidden_by,
        head_px=heads.astype(np.float32),
        boxes=np.stack([silhouette_box(instances == person) for person in ids]),
        boxes_amodal=np.concatenate([low, high - low], axis=1).astype(np.float32),
        pixels=np.array([(instances == person).sum() for person in ids], np.int32),
    )


def _stored(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)

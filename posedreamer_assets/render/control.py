"""Control maps: everything that a generator or a check wants to know about a posed body, as images.

Mesh-to-RGB: the colour of a surface point is its normalised xyz in a canonical A-pose with legs slightly apart, so left
and right, front and back, and all limbs differ whatever the pose (PoseDreamer, section 3.1).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt16
from scipy import sparse

from posedreamer_assets import progress
from posedreamer_assets.body.anatomy import body_from_angles
from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras, in_frame
from posedreamer_assets.render.gl import View, renderer

VISIBLE_MARGIN_M = 0.13
"""A joint lies inside the body: it counts as seen when the surface before it is at most this much nearer."""

_LANDMARK_MARGIN_M = 0.03
# Control colours keep clear of black, which is the background.
_DARKEST = 0.1


@dataclass(frozen=True)
class ControlMaps:
    """Control maps of n samples, see records.CONTROL_MAPS."""

    control: UInt8[np.ndarray, "n h w 3"]
    depth_mm: UInt16[np.ndarray, "n h w"]
    normals: UInt8[np.ndarray, "n h w 3"]
    parts: UInt8[np.ndarray, "n h w"]
    silhouette: UInt8[np.ndarray, "n h w"]
    joints_2d: Float[np.ndarray, "n 55 2"]
    joints_visible: Bool[np.ndarray, "n 55"]
    joints_cam_m: Float[np.ndarray, "n 55 3"]
    keypoints_2d: Float[np.ndarray, "n 17 2"]
    keypoints_visible: Bool[np.ndarray, "n 17"]
    keypoints_in_frame: Bool[np.ndarray, "n 17"]
    bbox: Float[np.ndarray, "n 4"]

    @property
    def body_pixels(self) -> np.ndarray:
        """Area of each silhouette, pixels."""
        return (self.silhouette > 0).sum(axis=(1, 2)).astype(np.int32)


@lru_cache(maxsize=2)
def canonical_colours(body: BodyModel) -> Float[np.ndarray, "v 3"]:
    """The mesh-to-RGB colour of every vertex, in [0.1, 1]."""
    arms = {f"{side}_arm_raise": 45.0 for side in ("left", "right")}
    legs = {f"{side}_hip_abd": 12.0 for side in ("left", "right")}
    pose = {k: v[None] for k, v in body_from_angles(arms | legs).items()}
    vertices = body.forward(BodyParams.zeros(1).replace(**pose)).vertices[0]
    low, high = vertices.min(0), vertices.max(0)
    return _DARKEST + (1 - _DARKEST) * (vertices - low) / (high - low)


@lru_cache(maxsize=2)
def _faces_to_vertices(body: BodyModel) -> sparse.csr_matrix:
    faces = body.faces
    rows, columns = faces.reshape(-1), np.repeat(np.arange(len(faces)), 3)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(body.v_template), len(faces)))


@lru_cache(maxsize=2)
def _corners(body: BodyModel) -> Int[np.ndarray, "3 f"]:
    return np.ascontiguousarray(body.faces.T)


def vertex_normals(body: BodyModel, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Area-weighted unit normals, pointing outwards."""
    # Coordinate by coordinate: many times as fast as gathering triples. "clip" looks at no index, in half of the time.
    by_coordinate = np.ascontiguousarray(vertices.T)
    corners = np.take(by_coordinate, _corners(body), axis=1, mode="clip")  # (3 coordinates, 3 corners, f)
    (x, y, z), (u, v, w) = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    crosses = np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=1)
    normals = _faces_to_vertices(body) @ crosses
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def view_of(cameras: Cameras, index: int) -> View:
    """Intrinsics of one camera of a batch."""
    cx, cy = (float(v) for v in cameras.principal_px[index])
    return View(float(cameras.focal_px[index]), (cx, cy), cameras.width, cameras.height)


def render_control_maps(body: BodyModel, params: BodyParams, cameras: Cameras) -> ControlMaps:
    """Draw all maps of a batch of bodies.

    Raises:
        RenderError: no OpenGL on this machine.
    """
    output = body.forward(params)
    vertices_cam = cameras.to_camera(output.vertices)
    joints_cam = cameras.to_camera(output.joints)
    joints_px = cameras.project_camera(joints_cam)
    labels = (body.dominant_joint + 1) / 255
    size = (len(params), cameras.height, cameras.width)
    control, normals = np.zeros((*size, 3), np.uint8), np.zeros((*size, 3), np.uint8)
    depth, depth_mm = np.zeros(size, np.float32), np.zeros(size, np.uint16)
    parts, silhouette = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    for i in progress.track(range(len(params))):
        drawn = renderer().draw(
            vertices_cam[i],
            body.faces,
            canonical_colours(body),
            view_of(cameras, i),
            labels=labels,
            normals=(vertex_normals(body, vertices_cam[i]) + 1) / 2,
        )
        assert drawn.normal is not None, "normals were given"
        millimetres = drawn.depth_m * np.float32(1000)
        for maps, part in (
            (control, drawn.value),
            (normals, drawn.normal),
            (parts, drawn.label),
            (depth, drawn.depth_m),
            (depth_mm, np.minimum(np.rint(millimetres), 65535)),
            (silhouette, (drawn.depth_m > 0) * np.uint8(255)),
        ):
            drawn.paste(maps[i], part)
    inside = in_frame(joints_px, cameras.width, cameras.height)
    visible = inside & _in_front(joints_px, joints_cam[..., 2], depth)
    return ControlMaps(
        control=control,
        depth_mm=depth_mm,
        normals=normals,
        parts=parts,
        silhouette=silhouette,
        joints_2d=joints_px[:, :55].astype(np.float32),
        joints_visible=visible[:, :55],
        joints_cam_m=joints_cam[:, :55].astype(np.float32),
        keypoints_2d=joints_px[:, COCO17_FROM_SMPLX].astype(np.float32),
        keypoints_visible=visible[:, COCO17_FROM_SMPLX],
        keypoints_in_frame=inside[:, COCO17_FROM_SMPLX],
        bbox=np.stack([silhouette_box(s > 0) for s in silhouette]),
    )


def silhouette_box(inside: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "4"]:
    """x, y, width, height of the pixels that are set; zeros where none is."""
    y, x = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(y):
        return np.zeros(4, np.float32)
    return np.array([x[0], y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]], np.float32)


def _in_front(pixels: np.ndarray, z: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Whether no surface lies clearly before each joint: (n, k)."""
    n, height, width = depth.shape
    column = np.clip(np.nan_to_num(pixels[..., 0]).astype(int), 0, width - 1)
    row = np.clip(np.nan_to_num(pixels[..., 1]).astype(int), 0, height - 1)
    surface = depth[np.arange(n)[:, None], row, column]
    margin = np.where(np.arange(z.shape[1]) < 55, VISIBLE_MARGIN_M, _LANDMARK_MARGIN_M)
    return np.logical_or(surface == 0, z - surface < margin)

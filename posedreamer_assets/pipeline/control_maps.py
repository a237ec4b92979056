"""Control maps of a pose batch."""

from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.body.model import load_body
from posedreamer_assets.config import Profile
from posedreamer_assets.render.control import render_control_maps
from posedreamer_assets.tables.fields import CONTROL_MAPS
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets.tables.rows import bodies, cameras, make_table, texts


def render_control_rows(profile: Profile, poses: pa.Table, key: str) -> tuple[pa.Table, np.ndarray]:
    """Rows of `records.CONTROL_MAPS`, and the control images (n, h, w, 3)."""
    maps = render_control_maps(load_body(profile.body.model_path), bodies(poses), cameras(poses))
    count = poses.num_rows
    columns: dict[str, Any] = {
        "sample_id": texts(poses, "sample_id"),
        "partition_key": [key] * count,
        "width": [profile.image.width] * count,
        "height": [profile.image.height] * count,
        "control": [encode_png(image) for image in maps.control],
        "depth": [encode_png(image) for image in maps.depth_mm],
        "normals": [encode_png(image) for image in maps.normals],
        "parts": [encode_png(image) for image in maps.parts],
        "silhouette": [encode_png(image) for image in maps.silhouette],
        "joints_2d": maps.joints_2d,
        "joints_visible": maps.joints_visible,
        "joints_cam_m": maps.joints_cam_m,
        "keypoints_2d": maps.keypoints_2d,
        "keypoints_visible": maps.keypoints_visible,
        "keypoints_in_frame": maps.keypoints_in_frame,
        "bbox": maps.bbox,
        "body_pixels": maps.body_pixels,
    }
    return make_table(columns, CONTROL_MAPS), maps.control

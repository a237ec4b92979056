"""What the generator is steered by, and the exact labels of the image to come."""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.figures import mean
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied, rows_of_batch
from posedreamer_assets.tables.fields import BODY, CAMERA, OF_PERSON, SCHEMAS, names_of
from posedreamer_assets.tables.rows import array, bodies, cameras, make_table, texts

TABLE = "control_maps"
_GEOMETRY = (*names_of(BODY), *names_of(CAMERA))


def make(inputs: Inputs) -> Made:
    """Five maps of each body, and its joints and keypoints with what of them can be seen."""
    from posedreamer_assets.render.control import render_control_maps
    from posedreamer_assets.tables.images import encode_png

    poses, image = inputs.rows("pose_library"), inputs.profile.image
    maps = render_control_maps(inputs.models.body, bodies(poses), cameras(poses))
    count = poses.num_rows
    columns: dict[str, Any] = {
        "sample_id": texts(poses, "sample_id"),
        "partition_key": [inputs.key] * count,
        "width": [image.width] * count,
        "height": [image.height] * count,
        "control": [encode_png(picture) for picture in maps.control],
        "depth": [encode_png(picture) for picture in maps.depth_mm],
        "normals": [encode_png(picture) for picture in maps.normals],
        "parts": [encode_png(picture) for picture in maps.parts],
        "silhouette": [encode_png(picture) for picture in maps.silhouette],
        "joints_2d": maps.joints_2d,
        "joints_visible": maps.joints_visible,
        "joints_cam_m": maps.joints_cam_m,
        "keypoints_2d": maps.keypoints_2d,
        "keypoints_visible": maps.keypoints_visible,
        "keypoints_in_frame": maps.keypoints_in_frame,
        "bbox": maps.bbox,
        "body_pixels": maps.body_pixels,
    }
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=maps.control)


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How large the body is and how much of it can be seen."""
    area = array(rows, "width").astype(float) * array(rows, "height")
    return {
        "body_share": round(float(np.mean(array(rows, "body_pixels") / area)), 4) if rows.num_rows else math.nan,
        "keypoints_visible_share": mean(rows, "keypoints_visible"),
    }


def origins(profile: Profile) -> Origins:
    """Everything comes from body and camera."""
    identity = names_of(OF_PERSON)
    made = [name for name in SCHEMAS[TABLE].names if name not in (*identity, "width", "height")]
    return {**copied("pose_library", *identity), **dict.fromkeys(made, all_of("pose_library", *_GEOMETRY))}


STAGE = Stage(
    "control_maps",
    "One row per pose: mesh-to-RGB control image, depth (mm, 16 bit), normals, body parts, silhouette, and projected joints "
    "with visibility from the depth buffer.",
    make,
    "2",
    table=TABLE,
    settings=("image",),
    checkpoints=("body_model",),
    reads=(Reads("pose_library", _GEOMETRY),),
    seeded=False,
    origins=origins,
    figures=figures,
    units=rows_of_batch,
    kinds=frozenset(("pyrender", "lance")),
)

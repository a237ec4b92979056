"""D_S: exact labels of everybody in a scene."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import layout_rows, scene_images
from posedreamer_assets.pipeline.figures import mean
from posedreamer_assets.pipeline.layout_rows import DRAWN_FROM, GEOMETRY, Placed, placed_of
from posedreamer_assets.pipeline.scene_layouts import scenes_of_batch
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.tables.fields import LABELS, OF_PERSON, SCHEMAS, SIZE, names_of
from posedreamer_assets.tables.keys import SCENE, SCENE_TEST, person_id
from posedreamer_assets.tables.rows import make_table
from posedreamer_assets.tables.scene_fields import MPII

if TYPE_CHECKING:
    from posedreamer_assets.scenes.labels import Labels

TABLE = "scene_people"
SYNTHETIC, OF_PHOTO = "synthetic", "photo"
READS_OF_IMAGES = ("instances", "parts", "persons", "amodal_pixels")


def make(inputs: Inputs) -> Made:
    """Joints, boxes, what of each person can be seen, and who hides the rest."""
    from posedreamer_assets import progress
    from posedreamer_assets.scenes.visibility import smallest_distances_px

    images = {row["sample_id"]: row for row in inputs.rows(scene_images.TABLE).to_pylist()}
    parts = []
    for placed in progress.track(placed_of(inputs.rows(layout_rows.TABLE))):
        labels = labels_of(inputs, placed, images[placed.image_id])
        columns = synthetic_columns(inputs.key, placed, labels, images[placed.image_id]["amodal_pixels"])
        distances = smallest_distances_px(list(columns["objpos"]))
        parts.append(make_table({**columns, "min_distance_px": distances}, SCHEMAS[TABLE]))
    return Made(pa.concat_tables(parts))


def labels_of(inputs: Inputs, placed: Placed, image: dict[str, Any]) -> "Labels":
    """The labels of an image's synthetic people."""
    from posedreamer_assets.scenes.labels import label_people
    from posedreamer_assets.tables.images import decode

    return label_people(
        inputs.models.body,
        placed.params,
        placed.instance_ids,
        placed.camera,
        decode(image["instances"]),
        decode(image["parts"]),
    )


def synthetic_columns(key: str, placed: Placed, labels: "Labels", amodal: list[int]) -> dict[str, Any]:
    """Columns of an image's synthetic people, but for their distances."""
    count, camera = len(labels), placed.camera
    box, frame = labels.boxes_amodal, np.array([camera.width, camera.height])
    reaches_out = ((box[:, :2] < 0) | (box[:, :2] + box[:, 2:] > frame)).any(axis=1)
    return {
        "sample_id": [person_id(placed.image_id, person) for person in placed.people],
        "partition_key": [key] * count,
        "image_id": [placed.image_id] * count,
        "person": placed.people,
        "photo_id": [placed.photo_id or None] * count,
        "origin": [SYNTHETIC] * count,
        "photo_person": [None] * count,
        "width": [camera.width] * count,
        "height": [camera.height] * count,
        "keypoints_2d": labels.keypoints,
        "keypoints_visible": labels.keypoints_seen,
        "joints_2d": labels.joints,
        "joints_visible": labels.joints_seen,
        "joints_cam_m": labels.joints_cam_m,
        "bbox": labels.boxes,
        "mpii_2d": labels.mpii,
        "mpii_labelled": np.ones((count, 16), bool),
        "mpii_visible": labels.mpii_seen,
        "head_size_px": labels.head_px,
        "mpii_in_frame": labels.mpii_inside,
        "occluded_by": labels.hidden_by,
        "objpos": labels.mpii.mean(axis=1),
        "bbox_amodal": box,
        "pixels_visible": labels.pixels,
        "pixels_amodal": np.array(amodal, np.int32),
        "visible_ratio": visible_ratio(labels.mpii_seen, labels.mpii_inside),
        "cropped": reaches_out,
        "cam_pitch_deg": np.repeat(camera.pitch_deg, count),
    }


def visible_ratio(seen: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Share of the known joints in the image (n, 16) that are seen: (n,); 0 where there is none."""
    return ((seen & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)).astype(np.float32)


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How much of people can be seen, and how near they are to each other."""
    return {
        "mean_visible_ratio": mean(rows, "visible_ratio"),
        "cropped_share": mean(rows, "cropped"),
        "mean_min_distance_px": mean(rows, "min_distance_px"),
    }


def origins(profile: Profile) -> Origins:
    """Points come from bodies and cameras, what can be seen of them from the maps as well."""
    points = (
        *names_of(LABELS),
        *names_of(MPII),
        "mpii_in_frame",
        "objpos",
        "bbox_amodal",
        "cropped",
        "min_distance_px",
    )
    seen = (
        "keypoints_visible",
        "joints_visible",
        "bbox",
        "mpii_visible",
        "occluded_by",
        "pixels_visible",
        "visible_ratio",
    )
    geometry, maps = all_of(layout_rows.TABLE, *GEOMETRY), all_of(scene_images.TABLE, "instances", "parts")
    return {
        **copied(layout_rows.TABLE, *names_of(OF_PERSON), *names_of(SIZE), "photo_id", "cam_pitch_deg"),
        **dict.fromkeys(points, geometry),
        **dict.fromkeys(seen, (*geometry, *maps)),
        "pixels_amodal": ((scene_images.TABLE, "amodal_pixels"),),
    }


STAGE = Stage(
    "ds/scene_people",
    "One row per person of a scene: COCO's, MPII's and SMPL-X's joints, which of them can be seen and who hides the others, "
    "boxes of what is seen and of the whole body, and the distance to the nearest other person.",
    make,
    "1",
    table=TABLE,
    groups=(SCENE, SCENE_TEST),
    checkpoints=("body_model",),
    reads=(
        Reads(layout_rows.TABLE, ("image_id", "person", "photo_id", *DRAWN_FROM)),
        Reads(scene_images.TABLE, READS_OF_IMAGES),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=scenes_of_batch,
    ui_group="scenes",
    kinds=frozenset(("numpy", "lance")),
)

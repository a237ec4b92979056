"""D_M: labels of synthetic people, and of those who were annotated in the photograph."""

from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import layout_rows, photo_people, scene_images, scene_people
from posedreamer_assets.pipeline.layout_rows import DRAWN_FROM, Placed, placed_of
from posedreamer_assets.pipeline.mixed_layouts import mixtures_of_batch
from posedreamer_assets.pipeline.scene_people import OF_PHOTO, TABLE, labels_of, synthetic_columns, visible_ratio
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PHOTO, person_id
from posedreamer_assets.tables.rows import array, make_table, texts

_COPIED = ("keypoints_2d", "mpii_2d", "mpii_labelled", "head_size_px", "bbox")


def make(inputs: Inputs) -> Made:
    """People of the photograph keep their labels; a joint that a synthetic person covers is not visible any more."""
    from posedreamer_assets import progress
    from posedreamer_assets.scenes.visibility import smallest_distances_px
    from posedreamer_assets.tables.images import decode

    images = {row["sample_id"]: row for row in inputs.rows(scene_images.TABLE).to_pylist()}
    layouts = inputs.rows(layout_rows.TABLE)
    annotated = photo_people.people_of_photos(inputs.rows(photo_people.TABLE), texts(layouts, "photo_id"))
    parts = []
    for placed in progress.track(placed_of(layouts)):
        image = images[placed.image_id]
        labels = labels_of(inputs, placed, image)
        synthetic = synthetic_columns(inputs.key, placed, labels, image["amodal_pixels"])
        own = photo_columns(inputs.key, placed, annotated[placed.photo_id][0], decode(image["instances"]))
        distances = smallest_distances_px([*synthetic["objpos"], *own["objpos"]])
        count = len(labels)
        for columns, found in ((synthetic, distances[:count]), (own, distances[count:])):
            parts.append(make_table({**columns, "min_distance_px": found}, SCHEMAS[TABLE]))
    return Made(pa.concat_tables(parts).sort_by("sample_id"))


def photo_columns(key: str, placed: Placed, rows: pa.Table, instances: np.ndarray) -> dict[str, Any]:
    """Columns of the annotated people of a mixture, who are numbered after the synthetic ones."""
    from posedreamer_assets.cameras.pinhole import in_frame
    from posedreamer_assets.scenes.mix import under

    count, first = rows.num_rows, max(placed.people) + 1
    height, width = instances.shape
    mpii, keypoints = array(rows, "mpii_2d").reshape(count, 16, 2), array(rows, "keypoints_2d").reshape(count, 17, 2)
    labelled, over = array(rows, "mpii_labelled").astype(bool), under(mpii, instances)
    seen = array(rows, "mpii_visible").astype(bool) & (over == 0)
    known = array(rows, "keypoints_visible").astype(bool) & (under(keypoints, instances) == 0)
    inside = in_frame(mpii, width, height) & labelled
    people = list(range(first, first + count))
    return {
        "sample_id": [person_id(placed.image_id, person) for person in people],
        "partition_key": [key] * count,
        "image_id": [placed.image_id] * count,
        "person": people,
        "photo_id": [placed.photo_id] * count,
        "origin": [OF_PHOTO] * count,
        "photo_person": texts(rows, "sample_id"),
        "width": [width] * count,
        "height": [height] * count,
        **{name: array(rows, name) for name in _COPIED},
        "keypoints_visible": known,
        "mpii_visible": seen,
        "mpii_in_frame": inside,
        "occluded_by": np.where(labelled, over, 0).astype(np.int32),
        "objpos": np.array([_centre(*one) for one in zip(mpii, labelled, strict=True)], np.float32).reshape(count, 2),
        "visible_ratio": visible_ratio(seen, inside),
        "cam_pitch_deg": np.repeat(placed.camera.pitch_deg, count),
    }


def _centre(joints: np.ndarray, known: np.ndarray) -> np.ndarray:
    from posedreamer_assets.scenes.visibility import centre_of

    return centre_of(joints.astype(float), known)


def origins(profile: Profile) -> Origins:
    """As in scenes; labels of people in photographs are carried along."""
    copied = {name: ((photo_people.TABLE, name),) for name in (*_COPIED, "mpii_visible", "keypoints_visible")}
    copied["photo_person"] = ((photo_people.TABLE, "sample_id"),)
    found = dict(scene_people.origins(profile))
    return {**found, **{name: (*found.get(name, ()), *own) for name, own in copied.items()}}


STAGE = Stage(
    "dm/scene_people",
    "One row per person of a mixture, synthetic or annotated in the photograph (`origin`). Labels of the annotated are those of "
    "photo_people bit for bit, but that what a synthetic person covers is not visible.",
    make,
    "1",
    table=TABLE,
    groups=(PHOTO,),
    checkpoints=("body_model",),
    reads=(
        Reads(layout_rows.TABLE, ("image_id", "person", "photo_id", *DRAWN_FROM)),
        Reads(scene_images.TABLE, scene_people.READS_OF_IMAGES),
        Reads(photo_people.TABLE, photo_people.LABELS_OF_PHOTO),
    ),
    seeded=False,
    origins=origins,
    figures=scene_people.figures,
    units=mixtures_of_batch,
    ui_group="photos",
    kinds=frozenset(("numpy", "lance")),
)

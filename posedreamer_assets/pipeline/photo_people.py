"""D_R: the people who are annotated in photographs."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import annotated_photos
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, copied
from posedreamer_assets.tables.fields import OF_PERSON, SCHEMAS, SIZE, names_of
from posedreamer_assets.tables.keys import PHOTO, image_of, person_id
from posedreamer_assets.tables.rows import array, make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.scenes.photos import PhotoPeople

TABLE = "photo_people"
LABELS_OF_PHOTO = (
    *("keypoints_2d", "keypoints_labelled", "keypoints_visible", "mpii_2d", "mpii_labelled", "mpii_visible"),
    *("head_size_px", "bbox", "person_mask"),
)
GROUP = "judged_group"


def make(inputs: Inputs) -> Made:
    """A row for each annotated person."""
    from posedreamer_assets.scenes.photos import people_from_json

    photos = inputs.rows(annotated_photos.TABLE)
    tables = [
        make_table(_columns(inputs.key, photo, people_from_json(text), width, height), SCHEMAS[TABLE])
        for photo, text, width, height in zip(
            *(photos.column(name).to_pylist() for name in ("sample_id", "annotations", "width", "height")), strict=True
        )
    ]
    return Made(pa.concat_tables(tables))


def _columns(key: str, photo: str, people: "PhotoPeople", width: int, height: int) -> dict[str, Any]:
    from posedreamer_assets.scenes.rle import encode_rle

    count = len(people)
    return {
        "sample_id": [person_id(photo, k) for k in range(count)],
        "partition_key": [key] * count,
        "image_id": [photo] * count,
        "person": list(range(count)),
        "width": [width] * count,
        "height": [height] * count,
        "keypoints_2d": people.keypoints,
        "keypoints_labelled": people.labelled,
        "keypoints_visible": people.seen,
        "mpii_2d": people.mpii,
        "mpii_labelled": people.mpii_labelled,
        "mpii_visible": people.mpii_seen,
        "head_size_px": people.head_px,
        "bbox": people.boxes,
        "person_mask": [None if mask is None else json.dumps(encode_rle(mask)) for mask in people.masks],
        GROUP: [None] * count if people.group is None else people.group.tolist(),
    }


def people_of_photos(
    rows: pa.Table, photos: Iterable[str], *, masks: bool = False
) -> "dict[str, tuple[pa.Table, PhotoPeople]]":
    """By photograph, its rows and the people that they are about; both are empty where nobody is annotated.

    What people cover is unpacked with `masks` alone, and else is None for everybody. Groups, which judging alone needs, are not
    among it.
    """
    from posedreamer_assets.scenes.photos import PhotoPeople
    from posedreamer_assets.scenes.rle import decode_rle

    found: dict[str, list[int]] = {photo: [] for photo in photos}
    for row, name in enumerate(texts(rows, "sample_id")):
        found.setdefault(image_of(name), []).append(row)
    people = {}
    for photo, numbers in found.items():
        part = rows.take(pa.array(numbers, pa.int64()))
        covers = texts(part, "person_mask") if masks else [""] * len(numbers)
        people[photo] = (
            part,
            PhotoPeople(
                array(part, "keypoints_2d").astype(float).reshape(-1, 17, 2),
                array(part, "keypoints_labelled").astype(bool),
                array(part, "keypoints_visible").astype(bool),
                array(part, "mpii_2d").astype(float).reshape(-1, 16, 2),
                array(part, "mpii_labelled").astype(bool),
                array(part, "mpii_visible").astype(bool),
                array(part, "bbox").astype(float),
                np.asarray(array(part, "head_size_px"), float),
                [decode_rle(json.loads(text)) if text else None for text in covers],
            ),
        )
    return people


def groups_of(rows: pa.Table) -> dict[str, np.ndarray]:
    """By photograph, the group that each of its people is judged with, -1 in none; without those that are judged as a whole."""
    found: dict[str, list[int]] = {}
    for name, group in zip(texts(rows, "sample_id"), rows.column(GROUP).to_pylist(), strict=True):
        if group is not None:
            found.setdefault(image_of(name), []).append(group)
    return {name: np.array(groups, int) for name, groups in found.items()}


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many joints are labelled."""
    return {"labelled_joints": float(array(rows, "mpii_labelled").sum()) if rows.num_rows else 0.0}


def origins(profile: Profile) -> Origins:
    """Everything comes from the annotations."""
    table = annotated_photos.TABLE
    return {
        **copied(table, "partition_key", *names_of(SIZE)),
        **dict.fromkeys((*names_of(OF_PERSON)[2:], "sample_id"), ((table, "sample_id"),)),
        **dict.fromkeys((*LABELS_OF_PHOTO, GROUP), ((table, "annotations"),)),
    }


STAGE = Stage(
    "photos/photo_people",
    "One row per annotated person of a photograph: keypoints, box, size of the head, what the person covers, and in which group "
    "of people it is judged.",
    make,
    "2",
    table=TABLE,
    groups=(PHOTO,),
    reads=(Reads(annotated_photos.TABLE, ("annotations", "width", "height")),),
    seeded=False,
    origins=origins,
    figures=figures,
    units=annotated_photos.photos_of_batch,
    ui_group="photos",
    kinds=frozenset(("numpy", "lance")),
)

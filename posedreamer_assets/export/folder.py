"""Images and one JSON file each: to look at, and to convert from.

A JSON file holds the camera of an image and lists its people: each as its row is in the table, and its body in the camera
frame beside it (`camera_frame`).
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, LabelFiles, Shard
from posedreamer_assets.tables.fields import BODY_COLUMNS, CAMERA, SCHEMAS

_WORLD = frozenset(BODY_COLUMNS)
_CAMERA = tuple(field.name for field in CAMERA)
_POINTS = {"keypoints_2d": 2, "joints_2d": 2, "joints_cam_m": 3}


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`images/<image id>.png` or `.jpg`, and `labels/<image id>.json`."""
    for samples in batches:
        shard.put_images(samples)
        rows = samples.rows.select(SCHEMAS["dataset"].names).to_pylist()
        for image, people in samples.people.items():
            camera = _camera(image, [rows[i] for i in people])
            label = {
                "image_id": image,
                "image": f"images/{samples.picture_names[image]}",
                "body": asdict(shard.subject.identity),
                "pixels": FOLDER.pixels,
                "camera": camera,
                "intrinsics": samples.intrinsics[people[0]].tolist(),
                "people": [_person(samples, i, rows[i]) for i in people],
            }
            shard.put(f"labels/{image}.json", json.dumps(label, indent=1).encode())


def _camera(image: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The camera that the people of an image share.

    Raises:
        ExportError: they do not.
    """
    cameras = [{name: row[name] for name in _CAMERA} for row in rows]
    if any(camera != cameras[0] for camera in cameras):
        raise ExportError(f"image {image!r}: its people have different cameras")
    return cameras[0]


def _person(samples: Samples, i: int, row: dict[str, Any]) -> dict[str, Any]:
    person = {name: value for name, value in row.items() if name not in _WORLD and name not in _CAMERA}
    for name, width in _POINTS.items():
        person[name] = np.array(row[name]).reshape(-1, width).tolist()
    person["smplx_world"] = {name: row[name] for name in BODY_COLUMNS}
    person["camera_frame"] = {
        "global_orient": samples.camera_orient[i].tolist(),
        "transl": samples.camera_transl[i].tolist(),
    }
    return person


FOLDER = Format(
    "folder",
    "plain folder of images and JSON labels",
    1_000,
    write,
    pixels="(0, 0) is the corner of the image",
    labels=LabelFiles("labels/**/*.json", "application/json", per_image=True),
)

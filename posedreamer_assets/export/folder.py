"""Images and one JSON file each: to look at, and to convert from.

A JSON file holds the row as it is in the table, and the body in the camera frame beside it (`camera_frame`).
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, Shard
from posedreamer_assets.tables.fields import BODY_COLUMNS, CAMERA, DATASET

_WORLD = frozenset(BODY_COLUMNS)
_CAMERA = frozenset(field.name for field in CAMERA)
_POINTS = {"keypoints_2d": 2, "joints_2d": 2, "joints_cam_m": 3}


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`images/<sample id>.png` or `.jpg`, and `labels/<sample id>.json`."""
    for samples in batches:
        names = shard.put_images(samples)
        columns = [field.name for field in DATASET if field.name != "image"]
        for i, row in enumerate(samples.rows.select(columns).to_pylist()):
            label = _label(row) | {
                "image": f"images/{names[i]}",
                "intrinsics": samples.intrinsics[i].tolist(),
                "camera_frame": {
                    "global_orient": samples.camera_orient[i].tolist(),
                    "transl": samples.camera_transl[i].tolist(),
                },
            }
            shard.put(f"labels/{row['sample_id']}.json", json.dumps(label, indent=1).encode())


def _label(row: dict[str, Any]) -> dict[str, Any]:
    label = {name: value for name, value in row.items() if name not in _WORLD | _CAMERA}
    for name, width in _POINTS.items():
        label[name] = np.array(row[name]).reshape(-1, width).tolist()
    label["smplx_world"] = {name: row[name] for name in BODY_COLUMNS}
    label["camera"] = {name: row[name] for name in (field.name for field in CAMERA)}
    return label


FOLDER = Format("folder", "plain folder of images and JSON labels", 1_000, write)

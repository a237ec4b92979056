"""COCO keypoints, with COCO-WholeBody's feet and hands in the same file.

The face's 68 points are not labelled and say so (`face_valid` false). `area` is 0.53 of the box, the share that COCO's
tools assume where there is no segmentation.

Keypoints are numbers of pixels, as COCO's are: (0, 0) is the centre of the first pixel. mmpose flips them with w - 1 - x,
detectron2 adds 0.5 to come to corners. Boxes are measured from the image's corner by all of them.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from posedreamer_assets.body.joints import COCO17, COCO17_FROM_SMPLX, COCO17_SKELETON
from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, LabelFiles, Shard

_FEET = np.arange(60, 66)  # big toe, small toe, heel; left, then right
_FACE_POINTS = 68
AREA_SHARE = 0.53
CATEGORY: dict[str, Any] = {
    "id": 1,
    "name": "person",
    "supercategory": "person",
    "keypoints": list(COCO17),
    "skeleton": [[a + 1, b + 1] for a, b in COCO17_SKELETON],
}


def _hand(wrist: int, first: int, tip: int) -> np.ndarray:
    """COCO-WholeBody's 21 points of a hand: wrist, then thumb, index, middle, ring, pinky from the palm outwards."""
    starts = {"index": 0, "middle": 3, "pinky": 6, "ring": 9, "thumb": 12}
    points = [wrist]
    for number, finger in enumerate(("thumb", "index", "middle", "ring", "pinky")):
        points += [first + starts[finger] + k for k in range(3)] + [tip + number]
    return np.array(points)


_HANDS = {"lefthand": _hand(20, 25, 66), "righthand": _hand(21, 40, 71)}


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`annotations/person_keypoints_<shard>.json` and the images; an image has one annotation for each person.

    Ids are made from the image's and the sample's ids: unique over all shards, and the same in every export.
    """
    images, annotations = [], []
    for samples in batches:
        shard.put_images(samples)
        for image, people in samples.people.items():
            number = shard.numbers[image]
            width, height = (int(v) for v in samples.size[people[0]])
            name = samples.picture_names[image]
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for i in people:
                ids = {"id": shard.numbers[samples.ids[i]], "image_id": number}
                annotations.append({**ids, **_annotation(samples, i)})
    info = {"description": "PoseDreamer dataset", "split": shard.split, "licences": "see README.md beside this file"}
    page = {
        "info": {**info, "body": asdict(shard.subject.identity), "pixels": COCO.pixels},
        "images": images,
        "annotations": annotations,
        "categories": [CATEGORY],
    }
    shard.put(f"annotations/person_keypoints_{shard.name}.json", json.dumps(page).encode())


def _annotation(samples: Samples, i: int) -> dict[str, Any]:
    x, y, width, height = (float(v) for v in samples.bbox[i])
    keypoints = _triplets(samples, i, COCO17_FROM_SMPLX)
    annotation: dict[str, Any] = {
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [x, y, width, height],
        "area": AREA_SHARE * width * height,
        "segmentation": [],
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
    }
    feet = _triplets(samples, i, _FEET)
    annotation |= {"foot_kpts": feet, "foot_valid": any(feet[2::3])}
    annotation |= {"face_kpts": [0.0] * (3 * _FACE_POINTS), "face_valid": False, "face_box": [0.0] * 4}
    for hand, points in _HANDS.items():
        annotation |= {f"{hand}_kpts": _triplets(samples, i, points)}
        box = _box(samples.joints_px[i, points][samples.in_frame[i, points]])
        annotation |= {f"{hand}_box": box, f"{hand}_valid": box[2] > 0 and box[3] > 0}
    return annotation


def _triplets(samples: Samples, i: int, points: np.ndarray) -> list[float]:
    """x, y, v of each point; v is 2 for seen, 1 for hidden, 0 (and x = y = 0) for outside of the image."""
    flat: list[float] = []
    for point in points:
        if not samples.in_frame[i, point]:
            flat += [0.0, 0.0, 0]
            continue
        x, y = (round(float(v), 2) for v in samples.joints_index[i, point])
        flat += [x, y, 2 if samples.visible[i, point] else 1]
    return flat


def _box(points: np.ndarray) -> list[float]:
    if not len(points):
        return [0.0] * 4
    low, high = points.min(axis=0), points.max(axis=0)
    return [round(float(v), 2) for v in (*low, *(high - low))]


COCO = Format(
    "coco",
    "COCO keypoints and COCO-WholeBody JSON",
    10_000,
    write,
    pixels="keypoints: (0, 0) is the centre of the first pixel; boxes: (0, 0) is the corner of the image",
    labels=LabelFiles("annotations/*.json", "application/json"),
)

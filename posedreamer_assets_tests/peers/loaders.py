"""What other people's loaders do with an export: files that they look for, boxes, crops, flips.

Written from the described behaviour of each; no code of theirs is here. Each gives, for every person, the picture that a
network would see and where the loader then believes the keypoints to be in it.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image

from posedreamer_assets.body.joints import COCO17_MIRROR, OUTPUT_JOINT_NAMES, mirrored

MIRROR_76 = mirrored(OUTPUT_JOINT_NAMES)
# OpenPose's 25: each point's partner on the other side.
MIRROR_25 = np.array([0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21])


@dataclass(frozen=True)
class Crop:
    """A person as a loader hands it to a network.

    Attributes:
        sample: which image it is of.
        picture: pixels, float32.
        points: keypoints in the picture as the loader has them; `first_centre` is where it has the first pixel's centre.
        known: which of them it trains on.
        first_centre: 0 for loaders that count pixels, 0.5 for those that measure from the corner.
        labels: what else it read.
    """

    sample: str
    picture: Float[np.ndarray, "h w 3"]
    points: Float[np.ndarray, "k 2"]
    known: np.ndarray
    first_centre: float = 0.0
    labels: dict[str, Any] = field(default_factory=dict)


def read_picture(source: Path | bytes) -> Float[np.ndarray, "h w 3"]:
    """As float32, so that a warp does not round."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image.convert("RGB")).astype(np.float32)


def box_to_patch(center: np.ndarray, size: np.ndarray, out: tuple[int, int]) -> Float[np.ndarray, "2 3"]:
    """The affine map that all of these build from three points: middle to middle, and the box's half axes to the patch's."""
    sx, sy = out[0] / size[0], out[1] / size[1]
    return np.array([[sx, 0, out[0] / 2 - sx * center[0]], [0, sy, out[1] / 2 - sy * center[1]]])


def warp(picture: np.ndarray, matrix: np.ndarray, out: tuple[int, int]) -> np.ndarray:
    """OpenCV's: coordinates are numbers of pixels."""
    return cv2.warpAffine(
        picture, matrix, out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-999
    )


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def flipped_about(width: int, picture: np.ndarray, points: np.ndarray, center: np.ndarray, mirror: np.ndarray):
    """w - 1 - x for points and boxes: how loaders flip that have the centre of the first pixel at 0."""
    other = points[mirror].copy()
    other[:, 0] = width - 1 - other[:, 0]
    return np.ascontiguousarray(picture[:, ::-1]), other, np.array([width - 1 - center[0], center[1]])


def at_3_to_4(size: np.ndarray) -> np.ndarray:
    """Width and height, widened to 192 : 256."""
    w, h = size
    return np.array([max(w, h * 3 / 4), max(h, w * 4 / 3)])


def hmr2(folder: Path, flip: bool, side: int = 256) -> Iterator[Crop]:
    """4D-Humans: pairs of picture and `data.pyd` in a tar, a list of people; crops a square of the longer side of the box
    `200 * scale` at 3 : 4. Here `data.npz` stands for the pickle, and holds the same arrays."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {name: (tar.extractfile(name) or io.BytesIO()).read() for name in tar.getnames()}
        for name, data in members.items():
            if not name.endswith(".data.npz"):
                continue
            key = name.removesuffix(".data.npz")
            picture = read_picture(next(d for n, d in members.items() if n in (f"{key}.png", f"{key}.jpg")))
            with np.load(io.BytesIO(data), allow_pickle=False) as people:
                arrays = {k: people[k] for k in people.files}
            for i in range(len(arrays["personid"])):
                person = {k: v[i] if v.ndim else v for k, v in arrays.items()}
                longer = at_3_to_4(person["scale"] * 200).max()
                points, center = person["keypoints_2d"][:25, :2], person["center"]
                seen, known = picture, person["keypoints_2d"][:25, 2] > 0
                if flip:
                    seen, points, center = flipped_about(picture.shape[1], picture, points, center, MIRROR_25)
                    known = known[MIRROR_25]
                matrix = box_to_patch(center, np.array([longer, longer]), (side, side))
                yield Crop(key, warp(seen, matrix, (side, side)), moved(points, matrix), known, labels=person)


def human_data(path: Path) -> dict[str, Any]:
    """MMHuman3D's HumanData.fromfile: arrays without axes become what they hold; lists are made of paths and ids."""
    with np.load(path, allow_pickle=True) as data:  # as its readers do
        found = {name: data[name] for name in data.files}
    found = {name: value.item() if value.ndim == 0 else value for name, value in found.items()}
    assert found["__data_len__"] == len(found["image_path"])
    assert not found["__keypoints_compressed__"]
    return found


def mmhuman3d(prefix: Path, flip: bool, side: int = 256) -> Iterator[Crop]:
    """HumanImageSMPLXDataset(data_prefix, dataset_name="posedreamer", ann_file): without `keypoints2d` it has zeros, without
    `smplx` no body. The box becomes a square of its longer side."""
    for path in sorted((prefix / "preprocessed_datasets").glob("*.npz")):
        data = human_data(path)
        assert data["keypoints2d_mask"].shape == data["keypoints3d_mask"].shape == (190,)
        for i, name in enumerate(data["image_path"]):
            picture = read_picture(prefix / "datasets" / "posedreamer" / name)
            x, y, w, h, _ = data["bbox_xywh"][i]
            center, longer = np.array([x + w / 2, y + h / 2]), max(w, h)
            points, known = data["keypoints2d"][i, :76, :2], data["keypoints2d"][i, :76, 2] > 0
            if flip:
                picture, points, center = flipped_about(picture.shape[1], picture, points, center, MIRROR_76)
                known = known[MIRROR_76]
            matrix = box_to_patch(center, np.array([longer, longer]), (side, side))
            smplx = {k: v[i] for k, v in data["smplx"].items()}
            labels = {"smplx": smplx, "keypoints3d": data["keypoints3d"][i], "misc": data["misc"]}
            yield Crop(
                name.rpartition(".")[0], warp(picture, matrix, (side, side)), moved(points, matrix), known, 0.0, labels
            )


def smpler_x(prefix: Path, flip: bool, out: tuple[int, int] = (384, 512)) -> Iterator[Crop]:
    """SMPLer-X's HumanDataset: takes a pixel off the box, widens it to 3 : 4, times 1.2 * 0.833 because boxes are padded."""
    for path in sorted((prefix / "preprocessed_datasets").glob("*.npz")):
        data = human_data(path)
        for i, name in enumerate(data["image_path"]):
            height, width = data["meta"]["height"][i], data["meta"]["width"][i]
            x, y, w, h = data["bbox_xywh"][i][:4]
            left, top = max(0, x), max(0, y)
            right, bottom = min(width - 1, left + max(0, w - 1)), min(height - 1, top + max(0, h - 1))
            center = np.array([(left + right) / 2, (top + bottom) / 2])
            size = at_3_to_4(np.array([right - left, bottom - top])) * 1.2 * 0.833
            picture = read_picture(prefix / "datasets" / "posedreamer" / name)
            points = data["keypoints2d"][i, :76, :2]
            known = data["keypoints2d_mask"][:76].astype(bool) & (points > 0).all(axis=1)
            if flip:
                picture, points, center = flipped_about(picture.shape[1], picture, points, center, MIRROR_76)
                known = known[MIRROR_76]
            matrix = box_to_patch(center, size, out)
            labels = {"smplx": {k: v[i] for k, v in data["smplx"].items()}, "misc": data["misc"]}
            yield Crop(name.rpartition(".")[0], warp(picture, matrix, out), moved(points, matrix), known, 0.0, labels)


def bedlam(folder: Path, side: int = 224) -> Iterator[Crop]:
    """BEDLAM's DatasetHMR: cuts whole pixels about the box of side `200 * scale` and scales areas; it never flips.

    It then rounds keypoints to whole pixels of the crop, upwards; that is left out here, as it is not the labels' doing.
    """
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            for i, name in enumerate(data["imgname"]):
                picture = read_picture(folder / "images" / name)
                length = int(data["scale"][i] * 200)
                low = (data["center"][i] - length / 2).astype(int)
                cut = np.full((length, length, 3), -999, np.float32)
                first, last = np.maximum(low, 0), np.minimum(low + length, [picture.shape[1], picture.shape[0]])
                into = first - low
                part = picture[first[1] : last[1], first[0] : last[0]]
                cut[into[1] : into[1] + part.shape[0], into[0] : into[0] + part.shape[1]] = part
                scaled = cv2.resize(cut, (side, side), interpolation=cv2.INTER_LINEAR)
                points, known = data["gtkps"][i, :76, :2], data["gtkps"][i, :76, 2] > 0
                labels = {"body": str(data["body_name"]), "focal_px": data["cam_int"][i][0, 0]}
                moved_to = (points - low) * side / length
                yield Crop(str(name).rpartition(".")[0], scaled, moved_to, known, 0.5, labels)


def mmpose_top_down(folder: Path, flip: bool, out: tuple[int, int] = (192, 256)) -> Iterator[Crop]:
    """mmpose's CocoDataset, GetBBoxCenterScale(padding=1.25), RandomFlip and TopdownAffine."""
    from pycocotools.coco import COCO

    for path in sorted((folder / "annotations").glob("*.json")):
        coco = COCO(str(path))
        annotations: Any = coco.loadAnns(coco.getAnnIds())
        for annotation in annotations:
            [image] = coco.loadImgs(annotation["image_id"])
            picture = read_picture(folder / "images" / image["file_name"])
            x, y, w, h = annotation["bbox"]
            center = np.array([x + w / 2, y + h / 2])
            size = at_3_to_4(np.array([w, h]) * 1.25)
            triplets = np.array(annotation["keypoints"]).reshape(17, 3)
            points, known = triplets[:, :2], triplets[:, 2] > 0
            if flip:
                picture, points, center = flipped_about(picture.shape[1], picture, points, center, COCO17_MIRROR)
                known = known[COCO17_MIRROR]
            matrix = box_to_patch(center, size, out)
            key = image["file_name"].rpartition(".")[0]
            yield Crop(key, warp(picture, matrix, out), moved(points, matrix), known, labels=annotation)

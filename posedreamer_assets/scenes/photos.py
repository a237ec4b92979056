"""Photographs with annotated people, from COCO's keypoints JSON.

People without a keypoint, crowds and regions that are marked as such are no people here: their pixels are to be ignored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import UnidentifiedImageError

from posedreamer_assets.errors import ImageError, PhotoError
from posedreamer_assets.scenes.points import mpii_of_coco
from posedreamer_assets.scenes.rle import decode_rle, encode_rle, segment_mask
from posedreamer_assets.tables.images import opened

_KEYPOINTS = 17
_HIDDEN, _SEEN = 1, 2  # COCO's flags
_NO_LICENCE = "not stated"
# MPII's head box is as high as the way from the neck to the top of the head; COCO labels neither. Ears are about as far from
# each other as the head is wide, eyes a third of it; people in profile show neither, so the larger of both is taken.
_HEAD_OF_EARS, _HEAD_OF_SHOULDERS = 1.9, 0.85


@dataclass(frozen=True)
class PhotoPeople:
    """Annotated people of a photograph, one entry each.

    Attributes:
        keypoints: COCO's 17, pixels from the image's corner; zeros where not labelled.
        labelled: which are.
        seen: which of the labelled are not hidden.
        mpii: MPII's 16 joints.
        mpii_labelled: which are known.
        mpii_seen: which of these are not hidden.
        boxes: x, y, width, height.
        head_px: diagonal of the head's box; NaN where it cannot be told.
        masks: what each person covers; None where it is not annotated.
        group: number of the group that each is judged with, from 0, -1 for who is in none; None where all people of a photograph
            are judged.
    """

    keypoints: Float[np.ndarray, "n 17 2"]
    labelled: Bool[np.ndarray, "n 17"]
    seen: Bool[np.ndarray, "n 17"]
    mpii: Float[np.ndarray, "n 16 2"]
    mpii_labelled: Bool[np.ndarray, "n 16"]
    mpii_seen: Bool[np.ndarray, "n 16"]
    boxes: Float[np.ndarray, "n 4"]
    head_px: Float[np.ndarray, "n"]
    masks: list[Bool[np.ndarray, "h w"] | None]
    group: Int[np.ndarray, "n"] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Photo:
    """An annotated photograph.

    Attributes:
        name: file, relative to its folder, or what it was drawn from.
        data: the file's bytes.
        width: pixels.
        height: pixels.
        licence: its terms.
        people: who is annotated.
        ignore: pixels of people who are not.
        held_out: whether the reader drew it for tests.
    """

    name: str
    data: bytes
    width: int
    height: int
    licence: str
    people: PhotoPeople
    ignore: Bool[np.ndarray, "h w"]
    held_out: bool = False


def coco_photos(folder: str, annotations: str, first: int, count: int) -> list[Photo]:
    """Photographs with at least one person who has a keypoint, in the order of their ids: a stretch of them.

    Raises:
        PhotoError: a file that is missing or is not what it should be, or an image or annotation that lacks something,
            by its id.
    """
    page, people, images = _listed(annotations)
    licences = {
        entry.get("id"): entry.get("url") or entry.get("name") or _NO_LICENCE for entry in page.get("licenses") or []
    }
    return [
        _photo(Path(folder), image, people[image["id"]], licences.get(image.get("license"), _NO_LICENCE))
        for image in images[first : first + count]
    ]


def coco_files(folder: str, annotations: str) -> list[Path]:
    """The files of all photographs that `coco_photos` reads, there or not, in its order.

    Raises:
        PhotoError: annotations that are not what they should be.
    """
    _, _, images = _listed(annotations)
    return [_file(Path(folder), image) for image in images]


def _listed(annotations: str) -> tuple[dict[str, Any], dict[int, list[dict[str, Any]]], list[dict[str, Any]]]:
    """The page, its annotations by image, and the images with a labelled person in the order of their ids."""
    page, people = _annotations(annotations, Path(annotations).stat().st_mtime_ns if Path(annotations).exists() else 0)
    return page, people, sorted((one for one in page["images"] if one["id"] in people), key=lambda one: one["id"])


@lru_cache(maxsize=2)
def _annotations(path: str, stamp: int) -> tuple[dict[str, Any], dict[int, list[dict[str, Any]]]]:
    """The page, and by image the annotations of those with a labelled person."""
    try:
        page = json.loads(Path(path).read_bytes())
        by_image: dict[int, list[dict[str, Any]]] = {}
        for entry in page["annotations"]:
            by_image.setdefault(entry["image_id"], []).append(entry)
        if missing := [kind for kind in ("images", "annotations") if any("id" not in entry for entry in page[kind])]:
            raise KeyError(f"id of one of the {missing[0]}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        other = "; MPII's are read with photos.kind=mpii" if path.endswith(".mat") else ""
        raise PhotoError(f"photos.annotations: {path} is no COCO keypoints JSON: {error!r}{other}") from error
    return page, {image: found for image, found in by_image.items() if any(_is_labelled(entry) for entry in found)}


def _is_labelled(entry: Mapping[str, Any]) -> bool:
    return not entry.get("iscrowd") and any((entry.get("keypoints") or [])[2::3])


def _facts(image: Mapping[str, Any]) -> tuple[str, int, int]:
    try:
        return str(image["file_name"]), int(image["width"]), int(image["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise PhotoError(
            f"photos.annotations: image {image['id']}: expected file_name, width and height: {error!r}"
        ) from error


def _file(folder: Path, image: Mapping[str, Any]) -> Path:
    """Lists name files with or without the folder that they lie in."""
    name = _facts(image)[0]
    places = (folder / name, folder.parent / name, folder / Path(name).name)
    return next((place for place in places if place.is_file()), folder / name)


def _photo(folder: Path, image: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], licence: str) -> Photo:
    (name, width, height), path = _facts(image), _file(folder, image)
    try:
        data = path.read_bytes()
        with opened(path) as file:
            size = file.size
    except (OSError, UnidentifiedImageError, ImageError) as error:
        raise PhotoError(f"photos.path: {path} cannot be read: {error}") from error
    if size != (width, height):
        raise PhotoError(f"{path}: {size[0]} x {size[1]} pixels, its annotations are of {width} x {height}")
    labelled = sorted((entry for entry in entries if _is_labelled(entry)), key=lambda entry: entry["id"])
    ignore = np.zeros((height, width), bool)
    for entry in entries:
        if not _is_labelled(entry):
            ignore |= _ignored(entry, width, height)
    return Photo(name, data, width, height, licence, _people(labelled, width, height), ignore)


def _ignored(entry: Mapping[str, Any], width: int, height: int) -> Bool[np.ndarray, "h w"]:
    found = _mask_of(entry, width, height)
    if found is not None:
        return found
    mask = np.zeros((height, width), bool)
    x, y, w, h = (round(v) for v in _numbers(entry, "bbox", 4))
    mask[max(0, y) : y + h, max(0, x) : x + w] = True
    return mask


def _mask_of(entry: Mapping[str, Any], width: int, height: int) -> Bool[np.ndarray, "h w"] | None:
    """What an annotation covers; None where that is not annotated."""
    if not entry.get("segmentation"):
        return None
    try:
        mask = segment_mask(entry["segmentation"], width, height)
    except (PhotoError, KeyError, TypeError, ValueError) as error:
        raise PhotoError(f"photos.annotations: annotation {entry['id']}: segmentation: {error}") from error
    return mask


def _numbers(entry: Mapping[str, Any], name: str, count: int) -> list[float]:
    try:
        found = [float(value) for value in entry[name]]
    except (KeyError, TypeError, ValueError) as error:
        raise PhotoError(f"photos.annotations: annotation {entry['id']}: {name}: {error!r}") from error
    if len(found) != count or not np.isfinite(found).all():
        raise PhotoError(
            f"photos.annotations: annotation {entry['id']}: {name} holds {len(found)} values, expected {count} finite ones"
        )
    return found


def _people(entries: Sequence[Mapping[str, Any]], width: int, height: int) -> PhotoPeople:
    flat = np.array([_numbers(entry, "keypoints", 3 * _KEYPOINTS) for entry in entries]).reshape(-1, _KEYPOINTS, 3)
    labelled, seen = flat[..., 2] >= _HIDDEN, flat[..., 2] == _SEEN
    # COCO counts pixels from the centre of the first.
    keypoints = np.where(labelled[..., None], flat[..., :2] + 0.5, 0.0)
    mpii, known = mpii_of_coco(keypoints, labelled)
    _, mpii_seen = mpii_of_coco(keypoints, seen)
    masks = [_mask_of(entry, width, height) for entry in entries]
    boxes = np.array([_numbers(entry, "bbox", 4) for entry in entries]).reshape(-1, 4)
    return PhotoPeople(
        keypoints, labelled, seen, mpii, known, mpii_seen & known, boxes, _head_px(keypoints, labelled), masks
    )


def _head_px(keypoints: Float[np.ndarray, "n 17 2"], labelled: Bool[np.ndarray, "n 17"]) -> Float[np.ndarray, "n"]:
    """The head's diagonal from ears and shoulders, whichever says more."""
    found = []
    for left, right, factor in ((3, 4, _HEAD_OF_EARS), (5, 6, _HEAD_OF_SHOULDERS)):
        size = factor * np.hypot(*(keypoints[:, left] - keypoints[:, right]).T)
        found.append(np.where(labelled[:, left] & labelled[:, right], size, 0.0))
    largest = np.max(found, axis=0)
    return np.where(largest > 0, largest, np.nan)


def people_to_json(people: PhotoPeople) -> str:
    """As tables hold them."""
    plain = {
        name: [None if value != value else value for value in values.tolist()] if name == "head_px" else values.tolist()
        for name, values in vars(people).items()
        if name not in ("masks", "group")
    }
    masks = [None if mask is None else encode_rle(mask) for mask in people.masks]
    group = None if people.group is None else people.group.tolist()
    return json.dumps({**plain, "masks": masks, "group": group}, separators=(",", ":"))


def people_from_json(text: str) -> PhotoPeople:
    """The inverse of `people_to_json`.

    Raises:
        PhotoError: masks whose run lengths do not fill their size.
    """
    plain = json.loads(text)
    count = len(plain["boxes"])
    shapes = {"keypoints": (17, 2), "labelled": (17,), "seen": (17,), "mpii": (16, 2), "mpii_labelled": (16,)}
    shapes |= {"mpii_seen": (16,), "boxes": (4,), "head_px": ()}
    flags = ("labelled", "seen", "mpii_labelled", "mpii_seen")
    arrays = {
        name: np.array(plain[name], bool if name in flags else float).reshape(count, *shape)
        for name, shape in shapes.items()
    }
    masks = [None if mask is None else decode_rle(mask) for mask in plain["masks"]]
    group = None if plain["group"] is None else np.array(plain["group"], int).reshape(count)
    return PhotoPeople(**arrays, masks=masks, group=group)

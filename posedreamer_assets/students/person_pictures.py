"""Crops on a disk, with room about them: what students that see images are trained on, each time changed anew.

A crop is decoded and cut once, with an eighth of its side more on all four, and kept as plain pixels, 230 kB of 256 x 192: so a
training reads few bytes of an image of any size, and what a turn or a shift brings into view is there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from posedreamer_assets.cores import map_on_cores
from posedreamer_assets.students.augment import (
    OUTSIDE,
    Augmentation,
    affine,
    as_jpeg,
    augment_labels,
    with_colours,
)
from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.outside import PADDING, Crop, warped
from posedreamer_assets.students.person_crops import crops_of, labels_in
from posedreamer_assets.tables.images import decode_rgb

_PIXELS, _LABELS = "pictures.npy", "labels.npz"
_ROOM = 8  # one in so many pixels of a side are added to each end
_BLOCK = 256  # images at a time


def roomy(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what is kept of a crop."""
    return size[0] + 2 * (size[0] // _ROOM), size[1] + 2 * (size[1] // _ROOM)


@dataclass(frozen=True)
class Pictures:
    """Crops with room about them, and what is true of them.

    Attributes:
        pixels: RGB; may lie in a file of which parts are read as they are asked for.
        labels: before the camera of each, room included.
        size: height and width of what a student sees of them.
    """

    pixels: UInt8[np.ndarray, "n h w 3"]
    labels: Labels
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def _margin(self) -> tuple[int, int]:
        return self.size[0] // _ROOM, self.size[1] // _ROOM

    def seen(self, number: int, aug: Augmentation) -> UInt8[np.ndarray, "h w 3"]:
        """What a student sees of a picture after its map and its changes of colour."""
        (height, width), (top, left) = self.size, self._margin
        if not (aug.mirror or aug.turn_rad or aug.scale != 1 or any(aug.shift_px)):
            moved = np.asarray(self.pixels[number, top : top + height, left : left + width])
        else:
            a, b = affine(aug, width, height)
            inverse = np.linalg.inv(a)
            back = (left, top) - inverse @ b  # pixels of the picture lie by the margin beside those of the crop
            data = (*inverse[0], back[0], *inverse[1], back[1])
            moved = np.asarray(
                Image.fromarray(np.asarray(self.pixels[number])).transform(
                    (width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=OUTSIDE
                )
            )
        if aug.gamma != 1 or any(gain != 1 for gain in aug.gains):
            moved = _coloured(moved, aug)
        return as_jpeg(moved, aug.quality) if aug.quality else moved

    def labels_seen(self, numbers: np.ndarray, augs: list[Augmentation]) -> Labels:
        """The labels of pictures after their maps."""
        (height, width), (top, left) = self.size, self._margin
        labels = self.labels.take(numbers)
        principal = (labels.principal_px - np.array([left, top])).astype(labels.principal_px.dtype)
        return augment_labels(replace(labels, principal_px=principal), augs, width, height)


def _coloured(image: UInt8[np.ndarray, "h w 3"], aug: Augmentation) -> UInt8[np.ndarray, "h w 3"]:
    """`with_colours` of each of the 256 values, looked up: a tenth of the time, and the same bytes."""
    ramp = np.repeat(np.arange(256, dtype=np.float32)[:, None, None] / 255, 3, axis=2)
    table = with_colours(ramp, aug.gamma, np.array(aug.gains, np.float32))[:, 0]
    return np.stack([table[image[..., channel], channel] for channel in range(3)], -1)


def write_pictures(
    folder: Path,
    images: Iterable[bytes],
    boxes: np.ndarray,
    labels: Labels,
    size: tuple[int, int],
    cores: int = 1,
) -> Pictures:
    """Cut pictures out of images into a folder.

    Args:
        folder: where they lie then.
        images: files of each; they may be of many sizes.
        boxes: x, y, width, height of the person in each image, pixels.
        labels: before the cameras of the images.
        size: height and width of what a student sees.
        cores: images that are cut at a time.
    """
    whole = roomy(size)
    crops = crops_of(boxes, labels.focal_px, labels.principal_px, whole, PADDING * whole[0] / size[0])
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(folder / _PIXELS, "w+", np.uint8, (len(crops), *whole, 3))

    def cut(work: tuple[int, Crop, bytes]) -> None:
        number, crop, file = work
        pixels[number] = warped(Image.fromarray(decode_rgb(file)), crop.homography, whole[1], whole[0])

    work = zip(range(len(crops)), crops, images, strict=True)
    while block := list(islice(work, _BLOCK)):  # so that no more files are held than that
        for _ in map_on_cores(cut, block, cores):
            pass
    pixels.flush()
    own = labels_in(labels, crops, whole)
    np.savez(folder / _LABELS, **{one.name: getattr(own, one.name) for one in fields(own)})
    return Pictures(pixels, own, size)


def read_pictures(folder: Path, size: tuple[int, int]) -> Pictures:
    """What `write_pictures` left in a folder."""
    with np.load(folder / _LABELS, allow_pickle=False) as arrays:
        labels = Labels(**{one.name: arrays[one.name] for one in fields(Labels)})
    return Pictures(np.load(folder / _PIXELS, mmap_mode="r", allow_pickle=False), labels, size)

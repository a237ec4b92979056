"""Groups of people that MPII's multi-person benchmark judges together, from its toolkit's `groups_v12.mat`.

The file has a cell for each image of the file of annotations, and in it a cell for each group: numbers of the image's
rectangles, counted from 1. A group with somebody who stands apart from all others (`single_person` of the annotations) is not
judged. Without the file, people who stand together are groups.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from posedreamer_assets.errors import PhotoError
from posedreamer_assets.seeds import unit_hash

NEEDED = "groups_v12.mat of MPII's evaluation toolkit, and the file of annotations of the same release (u12)"
_TOGETHER = 1.0  # of how long two people are, on average: their middles are at most so far apart


@lru_cache(maxsize=2)
def read_groups(path: str, stamp: int) -> list[list[list[int]]]:
    """By image and group, numbers of rectangles, from 0.

    Args:
        path: of groups_v12.mat.
        stamp: time of its last change; another one reads it again.

    Raises:
        PhotoError: a file that is missing or is another one.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        images = np.ravel(loadmat(path)["groups"])
        return [[_numbers(group) for group in _cells(image)] for image in images]
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise PhotoError(f"photos.groups: {path} is no file of MPII's groups: {error!r}; needed: {NEEDED}") from error


def _cells(image: Any) -> list[Any]:
    """What a cell of cells holds; an image without groups has an empty matrix."""
    if not isinstance(image, np.ndarray) or (image.size and image.dtype != object):
        raise TypeError("expected a cell of cells, and found numbers")
    return list(np.ravel(image))


def _numbers(group: Any) -> list[int]:
    found = np.ravel(group)
    if found.size and (found.dtype.kind not in "iuf" or (found != np.round(found)).any() or found.min() < 1):
        raise ValueError(f"expected numbers of rectangles from 1 on, and found {found.tolist()}")
    return [int(number) - 1 for number in found]


def judged_groups(
    groups: Sequence[Sequence[Sequence[int]]], alone: Sequence[Sequence[int]], rectangles: Sequence[int]
) -> list[list[list[int]]]:
    """The groups that are judged, by image: those without anybody who stands apart.

    Args:
        groups: as `read_groups` gives them.
        alone: by image, numbers of the rectangles that stand apart, from 0.
        rectangles: by image, how many there are.

    Raises:
        PhotoError: groups of other images than these.
    """
    if not len(groups) == len(alone) == len(rectangles):
        raise PhotoError(
            f"photos.groups has groups of {len(groups)} images, photos.annotations has {len(rectangles)} images and says of "
            f"{len(alone)} who stands apart; needed: {NEEDED}"
        )
    for image, (found, count) in enumerate(zip(groups, rectangles, strict=True)):
        if beyond := [number for group in found for number in group if number >= count]:
            raise PhotoError(
                f"photos.groups: image {image + 1} has a group with rectangle {beyond[0] + 1}, of which photos.annotations has "
                f"{count} there; needed: {NEEDED}"
            )
    return [
        [list(group) for group in found if group and not set(group) & set(apart)]
        for found, apart in zip(groups, alone, strict=True)
    ]


def stand_together(middles: Float[np.ndarray, "n 2"], sizes_px: Float[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The number of everybody's group, from 0; -1 for people who stand apart from all others.

    Two people stand together whose middles are no farther apart than they are long, and so do all whom such pairs connect.

    Args:
        middles: of the labelled joints of each person, pixels.
        sizes_px: how long each person is.
    """
    from scipy.sparse.csgraph import connected_components

    if not len(middles):
        return np.zeros(0, int)
    gap = np.linalg.norm(middles[:, None] - middles[None], axis=-1)
    near = gap <= _TOGETHER * (sizes_px[:, None] + sizes_px[None]) / 2
    part = connected_components(near, directed=False)[1]
    several = np.flatnonzero(np.bincount(part) > 1)
    number = np.full(part.max() + 1, -1)
    number[several] = np.arange(len(several))
    return number[part]


def drawn_images(names: Sequence[str], groups: Sequence[int], asked: int) -> list[bool]:
    """Which images are tested on: in the order of a hash of their names, until they have as many groups as asked for.

    Args:
        names: of the images.
        groups: how many each has. All groups of an image that is drawn are tested on, so that there may be one or two more.
        asked: groups that are to be drawn in all.

    Raises:
        PhotoError: there are not so many.
    """
    if sum(groups) < asked:
        raise PhotoError(
            f"photos.test_groups asks for {asked} groups of people, photos.annotations has {sum(groups)} in photographs with "
            "labelled joints"
        )
    found, drawn = 0, [False] * len(names)
    for number in sorted(range(len(names)), key=lambda k: unit_hash(names[k])):
        drawn[number] = groups[number] > 0 and found < asked
        found += groups[number]
    return drawn

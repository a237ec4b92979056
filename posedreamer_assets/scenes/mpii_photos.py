"""Photographs with annotated people, from MPII Human Pose's own file of annotations.

MATLAB's structures come out of the file in several forms: one person is no list of people, a person without joints lacks the
field or has an empty one, and whether a joint is visible is a number, a text, or nothing. People without joints are no people
here: their pixels, guessed from the head's box, are to be ignored. People are judged by groups, see `mpii_groups.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import UnidentifiedImageError

from posedreamer_assets.body.joints import COCO17
from posedreamer_assets.errors import ImageError, PhotoError
from posedreamer_assets.scenes.mpii_groups import drawn_images, judged_groups, read_groups, stand_together
from posedreamer_assets.scenes.photos import Photo, PhotoPeople
from posedreamer_assets.scenes.points import MPII16
from posedreamer_assets.tables.images import opened

_LICENCE = "not stated in the annotations"
_CORNER = 0.5  # MATLAB counts pixels from 1 at the centre of the first, this project from 0 at its corner
# A standing person of whom the head alone is known, in sizes of the head's box.
_HEADS_HIGH, _HEADS_BESIDE = 7.0, 1.0
_HEAD_BOX = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class _Listed:
    """An image with annotated people: all its rectangles, and the group of each person who has joints; -1 in none."""

    name: str
    entries: list[Any]
    group: Int[np.ndarray, "n"]
    held_out: bool = False


def mpii_photos(
    folder: str, annotations: str, first: int, count: int, *, groups: str | None = None, test_groups: int | None = None
) -> list[Photo]:
    """Photographs with at least one person who has a joint, in the order of the file: a stretch of them.

    Args:
        folder: of the images.
        annotations: MPII's .mat file.
        first: number of the first photograph of the stretch.
        count: how many at most.
        groups: its toolkit's groups_v12.mat; without it, people who stand together are groups.
        test_groups: how many groups are held out: their photographs, which a hash of the name draws, come before all others, so
            that the first batches have them.

    Raises:
        PhotoError: a file that is missing or is not what it should be, files of different releases, fewer groups than are to
            be held out, or an image that cannot be read.
    """
    listed = _listed(annotations, _stamp(annotations), groups, _stamp(groups), test_groups)
    return [_photo(Path(folder), one) for one in listed[first : first + count]]


def mpii_files(
    folder: str, annotations: str, *, groups: str | None = None, test_groups: int | None = None
) -> list[Path]:
    """The files of all photographs that `mpii_photos` reads, there or not, in its order.

    Raises:
        PhotoError: as `mpii_photos`, but for images.
    """
    listed = _listed(annotations, _stamp(annotations), groups, _stamp(groups), test_groups)
    return [Path(folder) / one.name for one in listed]


def _stamp(path: str | None) -> int:
    return Path(path).stat().st_mtime_ns if path is not None and Path(path).exists() else 0


@lru_cache(maxsize=2)
def _listed(path: str, stamp: int, groups: str | None, stamp_of_groups: int, test_groups: int | None) -> list[_Listed]:
    """The images with an annotated person; those that are held out first."""
    images = _annotated(path, stamp)
    chosen = None if groups is None else _chosen(path, images, groups, stamp_of_groups)
    listed = []
    for number, (name, entries, _) in enumerate(images):
        if any(_points(entry) for entry in entries):
            try:
                group = _together(entries) if chosen is None else _numbered(entries, chosen[number])
            except (AttributeError, TypeError, ValueError, IndexError) as error:
                raise PhotoError(f"photos.annotations: {name}: {error!r}") from error
            listed.append(_Listed(name, entries, group))
    if test_groups is None:
        return listed
    drawn = drawn_images([one.name for one in listed], [int(one.group.max()) + 1 for one in listed], test_groups)
    marked = [_Listed(one.name, one.entries, one.group, of) for one, of in zip(listed, drawn, strict=True)]
    return sorted(marked, key=lambda one: not one.held_out)


_Image = tuple[str, list[Any], list[int] | None]  # name, rectangles, numbers of those that stand apart


@lru_cache(maxsize=2)
def _annotated(path: str, stamp: int) -> list[_Image]:
    """All images of the file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        release = loadmat(path, squeeze_me=True, struct_as_record=False)["RELEASE"]
        named = [(str(one.image.name), _several(getattr(one, "annorect", None))) for one in _several(release.annolist)]
        alone = np.atleast_1d(np.array(getattr(release, "single_person", []), dtype=object))
        apart = (
            [[int(k) - 1 for k in np.ravel(ids)] for ids in alone] if len(alone) == len(named) else [None] * len(named)
        )
        return [(name, entries, ids) for (name, entries), ids in zip(named, apart, strict=True)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, MatReadError) as error:
        other = "; COCO's are read with photos.kind=coco" if path.endswith(".json") else ""
        raise PhotoError(f"photos.annotations: {path} is not MPII's file of annotations: {error!r}{other}") from error


def _chosen(path: str, images: Sequence[_Image], groups: str, stamp: int) -> list[list[list[int]]]:
    """By image, the groups that are judged, as numbers of rectangles."""
    alone = [ids for _, _, ids in images if ids is not None]
    if len(alone) < len(images):
        raise PhotoError(f"photos.annotations: {path} does not say who stands apart (single_person), which groups need")
    return judged_groups(read_groups(groups, stamp), alone, [len(entries) for _, entries, _ in images])


def _numbered(entries: Sequence[Any], groups: Sequence[Sequence[int]]) -> Int[np.ndarray, "n"]:
    """The group of each person who has joints; groups in which nobody has are not counted."""
    of_entry = np.full(len(entries), -1)
    with_joints = np.array([bool(_points(entry)) for entry in entries], bool)
    counted = [group for group in groups if with_joints[list(group)].any()]
    for number, group in enumerate(counted):
        of_entry[list(group)] = number
    return of_entry[with_joints]


def _together(entries: Sequence[Any]) -> Int[np.ndarray, "n"]:
    people = [np.array([(float(p.x), float(p.y)) for p in _points(entry)]) for entry in entries if _points(entry)]
    return stand_together(
        np.array([p.mean(axis=0) for p in people]), np.array([np.ptp(p, axis=0).max() for p in people])
    )


def _several(value: Any) -> list[Any]:
    """A list of structures, of which there may be one or none."""
    return [one for one in np.atleast_1d(np.array(value, dtype=object)).ravel() if hasattr(one, "_fieldnames")]


def _points(person: Any) -> list[Any]:
    """The annotated joints of a person; none where there are none."""
    found = _several(getattr(person, "annopoints", None))
    return _several(getattr(found[0], "point", None)) if found else []


def _is_visible(point: Any) -> bool:
    """Neck and top of the head have no flag and are taken to be seen."""
    flag = np.atleast_1d(np.array(getattr(point, "is_visible", 1), dtype=object)).ravel()
    return len(flag) == 0 or str(flag[0]).strip() not in ("0", "0.0")


def _photo(folder: Path, listed: _Listed) -> Photo:
    name, entries = listed.name, listed.entries
    path = folder / name
    try:
        data = path.read_bytes()
        with opened(path) as file:
            width, height = file.size
    except (OSError, UnidentifiedImageError, ImageError) as error:
        raise PhotoError(f"photos.path: {path} cannot be read: {error}") from error
    try:
        people = _people([entry for entry in entries if _points(entry)], listed.group)
        ignore = np.zeros((height, width), bool)
        for entry in entries:
            if not _points(entry):
                ignore |= _ignored(entry, width, height)
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise PhotoError(f"photos.annotations: {name}: {error!r}") from error
    return Photo(name, data, width, height, _LICENCE, people, ignore, listed.held_out)


def _people(entries: Sequence[Any], group: Int[np.ndarray, "n"]) -> PhotoPeople:
    count = len(entries)
    mpii, known, seen = np.zeros((count, 16, 2)), np.zeros((count, 16), bool), np.zeros((count, 16), bool)
    boxes, head = np.zeros((count, 4)), np.full(count, np.nan)
    for row, entry in enumerate(entries):
        for point in _points(entry):
            joint = int(point.id)
            mpii[row, joint] = float(point.x) - _CORNER, float(point.y) - _CORNER
            known[row, joint], seen[row, joint] = True, _is_visible(point)
        corners = mpii[row, known[row]]
        if (box := _head_box(entry)) is not None:
            head[row] = float(np.hypot(box[2] - box[0], box[3] - box[1])) or np.nan
            corners = np.concatenate([corners, box.reshape(2, 2)])
        boxes[row] = *corners.min(axis=0), *np.ptp(corners, axis=0)
    keypoints, labelled, keypoints_seen = np.zeros((count, 17, 2)), *(np.zeros((count, 17), bool) for _ in range(2))
    for number, name in enumerate(COCO17):
        if name in MPII16:
            joint = MPII16.index(name)
            keypoints[:, number], labelled[:, number] = mpii[:, joint], known[:, joint]
            keypoints_seen[:, number] = seen[:, joint]
    return PhotoPeople(keypoints, labelled, keypoints_seen, mpii, known, seen, boxes, head, [None] * count, group)


def _head_box(entry: Any) -> np.ndarray | None:
    """Left, top, right and bottom of the head's box; None where it is not annotated."""
    values = [np.atleast_1d(np.array(getattr(entry, name, []), dtype=object)).ravel() for name in _HEAD_BOX]
    if any(len(value) != 1 for value in values):
        return None
    return np.array([float(value[0]) for value in values]) - _CORNER


def _ignored(entry: Any, width: int, height: int) -> np.ndarray:
    """Where somebody without joints stands, who is taken to stand upright below the head."""
    mask = np.zeros((height, width), bool)
    box = _head_box(entry)
    if box is not None:
        left, top, right, bottom = box
        beside, below = _HEADS_BESIDE * (right - left), _HEADS_HIGH * (bottom - top)
        rows = slice(max(0, int(top)), max(0, int(np.ceil(top + below))))
        mask[rows, max(0, int(left - beside)) : max(0, int(np.ceil(right + beside)))] = True
    return mask

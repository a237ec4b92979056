"""Several people in one npz: arrays of (people, frames, ...), as SLAHMR writes them. Every person becomes a clip."""

from dataclasses import replace

import numpy as np

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.amass import read_clip
from posedreamer_assets.poses.sources.clips import Clip, clip_frames
from posedreamer_assets.poses.sources.frames import PoseFrames
from posedreamer_assets.poses.sources.npz import Arrays
from posedreamer_assets.poses.sources.parts import BODY_KEYS, ROOT_KEYS, WHOLE_KEYS, read_parts
from posedreamer_assets.poses.sources.reader import PoseFile, Reader, ReadOptions

_MOST_PEOPLE = 1000
# SLAHMR's world is that of the first camera; other programs turn it to y or z up.
_HABIT = {"y": 0.4, "-y": 0.4, "z": 0.2, "x": -0.5, "-x": -0.5, "-z": -0.6}
_MASK_KEYS = ("track_mask", "vis_mask")
_WHOLE_WIDTHS = (165, 156, 72, 66)


def axes_of(arrays: Arrays) -> tuple[int, int] | None:
    """People and frames; None where the arrays have no axis of people."""
    key = arrays.first_of(*WHOLE_KEYS)
    if key and not arrays.is_pickled(key):
        shape = arrays.raw(key).shape
        if len(shape) == 3 and shape[2] in _WHOLE_WIDTHS:
            return shape[0], shape[1]
    root, body = arrays.first_of(*ROOT_KEYS), arrays.first_of(*BODY_KEYS)
    if root is None or body is None or arrays.is_pickled(root) or arrays.is_pickled(body):
        return None
    root_shape, body_shape = arrays.raw(root).shape, arrays.raw(body).shape
    # (n, 1, 3) beside (n, 1, 63) is one axis of frames written with a lone one behind it.
    if len(root_shape) != 3 or root_shape[2] != 3 or root_shape[1] < 2 or body_shape[:2] != root_shape[:2]:
        return None
    return (root_shape[0], root_shape[1]) if body_shape[2:] in ((63,), (69,), (21, 3), (23, 3)) else None


def read_people(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """One clip for each person who is seen.

    Raises:
        PoseFileError: with the reason that applies; that of the first person where none can be read.
    """
    axes = axes_of(file.arrays)
    assert axes is not None  # asked for by the reader's test
    people = axes[0]
    if people > _MOST_PEOPLE:
        raise PoseFileError(file.path, "absurd_value", f"{people} people")
    clips: list[PoseFrames] = []
    errors: list[PoseFileError] = []
    for person in range(people):
        try:
            clip = _person(file.arrays, person, axes, options)
            if clip is not None:
                clips.append(_labelled(clip_frames(clip, options), clip, person, people))
        except PoseFileError as error:
            errors.append(error)
    if errors and not clips:
        raise errors[0]
    if clips and errors:
        clips[0] = replace(clips[0], rejected=(*clips[0].rejected, *errors))
    return clips


def _person(arrays: Arrays, person: int, axes: tuple[int, int], options: ReadOptions) -> Clip | None:
    """One person's arrays as a clip, from the first to the last frame in which they are seen."""
    seen = _seen(arrays, person, axes)
    if not len(seen):
        return None
    part = slice(int(seen[0]), int(seen[-1]) + 1)
    held = {}
    for name in arrays.names():
        if arrays.is_pickled(name):
            continue
        values = arrays.raw(name)
        if values.shape[:2] == axes:
            held[name] = values[person, part]
        elif values.ndim >= 1 and len(values) == axes[0] and name in ("betas", "gender"):
            held[name] = values[person]
        elif name not in _MASK_KEYS:
            held[name] = values
    own = Arrays(arrays.path, held)
    clip = read_clip(own, read_parts(own, options.hands), options, kind="slahmr", believed=_HABIT)
    return replace(clip, first=part.start)


def _seen(arrays: Arrays, person: int, axes: tuple[int, int]) -> np.ndarray:
    for key in _MASK_KEYS:
        if key in arrays and not arrays.is_pickled(key) and arrays.raw(key).shape == axes:
            return np.flatnonzero(arrays.raw(key)[person] > 0)
    return np.arange(axes[1])


def _labelled(frames: PoseFrames, clip: Clip, person: int, people: int) -> PoseFrames:
    """The person's number in family and names, where there are several."""
    if people == 1:
        return frames
    names = [name.replace("#", f"#{person + 1}.", 1) for name in frames.names]
    return replace(frames, family=f"{clip.family}-{person + 1}", names=names)


PEOPLE = Reader("slahmr", "several people in one npz", (".npz",), lambda f: axes_of(f.arrays) is not None, read_people)

"""Biovision hierarchy files as text: a forgiving parser.

Read: any channel order, also another one in each joint, any channel count, End Sites, tabs, CRLF and lone CR, comments,
byte order marks, UTF-16, decimal commas, Fortran exponents, several frames in one line or one over several lines, frame
times in seconds, milliseconds or as a rate, several ROOTs (people), bone lengths in the position channels. Angles are in
degrees, applied in channel order; position channels replace the joint's offset.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.rig import Skeleton
from posedreamer_assets.poses.sources.bvh_blocks import FORTRAN, FRAMES, MOTION, read_head_and_numbers

ASSUMED_FPS = 30.0
Channels = tuple[tuple[tuple[str, int], ...], ...]

_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)
_USUAL_RATES = (12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 200, 240)
_MAX_JOINTS = 2000
_SAME_OFFSET = 1e-3  # of the skeleton's size


@dataclass(frozen=True)
class BvhClip:
    """A parsed file. `channels`: for each joint its (kind, axis) pairs in file order, kind "position" or "rotation"."""

    skeleton: Skeleton
    channels: tuple[tuple[tuple[str, int], ...], ...]
    motion: Float[np.ndarray, "frames values"]
    fps: float
    missing: int  # numbers lacking in a last, incomplete frame
    notes: tuple[str, ...] = ()

    def pose(
        self, frames: np.ndarray
    ) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
        """World rotation and position of every joint, in the file's axes and units."""
        count, joints = len(frames), len(self.skeleton.names)
        world_rotation = np.empty((count, joints, 3, 3))
        position = np.empty((count, joints, 3))
        column = 0
        for joint, parent in enumerate(self.skeleton.parents):
            values = self.motion[frames, column : column + len(self.channels[joint])]
            column += len(self.channels[joint])
            rotation, local = self._local(joint, values)
            if parent < 0:
                world_rotation[:, joint], position[:, joint] = rotation, local
                continue
            world_rotation[:, joint] = world_rotation[:, parent] @ rotation
            moved = np.einsum("nab,nb->na", world_rotation[:, parent], local)
            position[:, joint] = position[:, parent] + moved
        return world_rotation, position

    def _local(self, joint: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        local = np.repeat(self.skeleton.offsets[joint][None], len(values), axis=0)
        rotation = np.repeat(np.eye(3)[None], len(values), axis=0)
        for (kind, axis), column in zip(self.channels[joint], values.T, strict=True):
            if kind == "position":
                local[:, axis] = column
            else:
                turn = np.deg2rad(column)[:, None] * np.eye(3)[axis]
                rotation = rotation @ Rotation.from_rotvec(turn).as_matrix()
        return rotation, local


def parse_bvh(path: Path) -> BvhClip:
    """Parse a BVH file of one person; of several, the first.

    Raises:
        PoseFileError: `empty`, `syntax`, `truncated`, `shape`, `nan` or `absurd_value`.
    """
    return parse_people(path)[0]


def parse_people(path: Path) -> list[BvhClip]:
    """Parse a BVH file: one clip for each ROOT.

    Raises:
        PoseFileError: as `parse_bvh`.
    """
    text, values = read_head_and_numbers(path)
    head = MOTION.search(text)
    if head is None:
        reason = "truncated" if text.lstrip().upper().startswith("HIERARCHY") else "syntax"
        raise PoseFileError(path, reason, "no MOTION section")
    skeletons = _parse_hierarchy(path, text[: head.start()])
    widths = [sum(map(len, channels)) for _, channels in skeletons]
    if min(widths) == 0:
        raise PoseFileError(path, "shape", "the skeleton has no channels")
    width = sum(widths)
    declared, fps, notes = _parse_motion(path, text[head.end() :])
    whole, rest = divmod(len(values), width)
    if whole == 0:
        detail = f"{len(values)} of {declared * width} numbers" if declared else "no frames"
        raise PoseFileError(path, "truncated" if declared else "empty", detail)
    if whole >= declared and rest:
        raise PoseFileError(path, "shape", f"{len(values)} numbers are no multiple of {width} channels")
    missing = max(0, declared * width - len(values))
    motion = values[: whole * width].reshape(whole, width)
    if len(skeletons) > 1:
        notes = (*notes, f"{len(skeletons)} people in one file")
    ends = np.cumsum(widths)
    return [
        _with_lengths(BvhClip(skeleton, channels, motion[:, end - own : end], fps, missing, notes))
        for (skeleton, channels), own, end in zip(skeletons, widths, ends, strict=True)
    ]


def _with_lengths(clip: BvhClip) -> BvhClip:
    """The clip with the bones that its position channels tell, where these and the offsets differ.

    Some programs write bones of no length and the true ones into the position channels; others write displacements, zero
    all along, there.
    """
    offsets, motion = clip.skeleton.offsets.copy(), clip.motion
    size, column, taken, added = float(np.abs(offsets).sum()), 0, 0, 0
    for joint, channels in enumerate(clip.channels):
        places = {axis: column + i for i, (kind, axis) in enumerate(channels) if kind == "position"}
        column += len(channels)
        if clip.skeleton.parents[joint] < 0 or len(places) < 3:
            continue
        columns = [places[axis] for axis in range(3)]
        values = motion[:, columns]
        finite = values[np.isfinite(values).all(axis=1)]
        if not len(finite):
            continue
        told = np.median(finite, axis=0)
        if not finite.any() and offsets[joint].any():
            motion = motion.copy() if motion is clip.motion else motion
            motion[:, columns] += offsets[joint]
            added += 1
        elif np.linalg.norm(told - offsets[joint]) > _SAME_OFFSET * max(size, float(np.abs(told).sum()), 1e-9):
            offsets[joint] = told
            taken += 1
    notes = clip.notes
    if taken:
        notes = (*notes, f"bones of {taken} joints are those of the position channels")
    if added:
        notes = (*notes, f"position channels of {added} joints are displacements")
    return replace(clip, skeleton=replace(clip.skeleton, offsets=offsets), motion=motion, notes=notes)


class _Tokens:
    """Tokens of the hierarchy with the line of each, for messages."""

    def __init__(self, path: Path, text: str) -> None:
        lines = (re.sub(r"(#|//).*", "", line) for line in text.splitlines())
        found = (re.sub(r"([{}])", r" \1 ", line).split() for line in lines)
        self._tokens = [(token, number) for number, line in enumerate(found, start=1) for token in line]
        self._path, self._at = path, 0

    def error(self, reason: str, detail: str) -> PoseFileError:
        line = self._tokens[min(self._at, len(self._tokens)) - 1][1] if self._tokens else 1
        return PoseFileError(self._path, reason, f"line {line}: {detail}")

    def next(self, expected: str) -> str:
        if self._at >= len(self._tokens):
            raise self.error("truncated", f"the hierarchy ends where {expected} should follow")
        self._at += 1
        return self._tokens[self._at - 1][0]

    def name(self) -> str:
        """All tokens up to the opening brace: some programs write names with spaces."""
        words = [self.next("a name")]
        while self._at < len(self._tokens) and self._tokens[self._at][0] != "{":
            words.append(self.next("'{'"))
            if len(words) > 8:
                raise self.error("syntax", f"no '{{' after {words[0]!r}")
        return " ".join(words)

    def number(self, what: str) -> float:
        token = self.next(what)
        try:
            value = float(token)
        except ValueError:
            raise self.error("syntax", f"{what}: {token!r} is no number") from None
        if not np.isfinite(value):
            raise self.error("nan", f"{what}: {token}")
        if abs(value) > 1e6:
            raise self.error("absurd_value", f"{what}: {token}")
        return value

    def done(self) -> bool:
        return self._at >= len(self._tokens)


def _parse_hierarchy(path: Path, text: str) -> list[tuple[Skeleton, Channels]]:
    """Skeleton and channels of each ROOT."""
    tokens = _Tokens(path, text)
    if tokens.next("HIERARCHY").upper() != "HIERARCHY":
        raise tokens.error("syntax", "the file does not begin with HIERARCHY")
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[tuple[tuple[str, int], ...]] = []
    open_joints: list[int] = []
    while not (tokens.done() and not open_joints):
        keyword = tokens.next("JOINT, OFFSET, CHANNELS or '}'").upper()
        if keyword in ("ROOT", "JOINT", "END", "ENDSITE"):
            if (keyword == "ROOT") == bool(open_joints):
                raise tokens.error("syntax", f"{keyword} {'inside' if open_joints else 'outside'} of a joint")
            name = "" if keyword == "ENDSITE" else tokens.name()
            keyword = keyword.removesuffix("SITE")
            if tokens.next("'{'") != "{":
                raise tokens.error("syntax", f"no '{{' after {name!r}")
            parents.append(open_joints[-1] if open_joints else -1)
            names.append(f"{names[open_joints[-1]]}_end" if keyword == "END" else name)
            offsets.append([0.0, 0.0, 0.0])
            channels.append(())
            open_joints.append(len(names) - 1)
            if len(names) > _MAX_JOINTS:
                raise tokens.error("absurd_value", f"more than {_MAX_JOINTS} joints")
        elif keyword == "}" and open_joints:
            open_joints.pop()
        elif keyword == "OFFSET" and open_joints:
            offsets[open_joints[-1]] = [tokens.number("OFFSET") for _ in range(3)]
        elif keyword == "CHANNELS" and open_joints:
            channels[open_joints[-1]] = _parse_channels(tokens)
        else:
            raise tokens.error("syntax", f"unexpected {keyword!r}")
    if not names:
        raise tokens.error("empty", "no joints")
    starts = [joint for joint, parent in enumerate(parents) if parent < 0]
    people = []
    for start, stop in zip(starts, [*starts[1:], len(names)], strict=True):
        own = tuple(parent - start if parent >= 0 else -1 for parent in parents[start:stop])
        skeleton = Skeleton(tuple(names[start:stop]), own, np.array(offsets[start:stop]))
        people.append((skeleton, tuple(channels[start:stop])))
    return people


def _parse_channels(tokens: _Tokens) -> tuple[tuple[str, int], ...]:
    count = tokens.number("CHANNELS")
    if count != int(count) or not 0 <= count <= 6:
        raise tokens.error("syntax", f"{count:g} channels")
    found = []
    for _ in range(int(count)):
        token = tokens.next("a channel")
        match = _CHANNEL.fullmatch(token)
        if match is None:
            raise tokens.error("syntax", f"unknown channel {token!r}")
        found.append((match[2].lower(), "XYZ".index(match[1].upper())))
    if len(set(found)) != len(found):
        raise tokens.error("syntax", "a channel occurs twice in one joint")
    return tuple(found)


def _parse_motion(path: Path, text: str) -> tuple[int, float, tuple[str, ...]]:
    """Declared frames, frames per second, notes."""
    head = FRAMES.match(text)
    if head is None:
        reason = "truncated" if len(text.split()) < 5 else "syntax"
        raise PoseFileError(path, reason, "no 'Frames:' and 'Frame Time:' after MOTION")
    try:
        declared = float(head[1])
    except ValueError:
        raise PoseFileError(path, "syntax", f"Frames {head[1]!r}") from None
    if not np.isfinite(declared):
        raise PoseFileError(path, "nan", f"Frames {head[1]}")
    if not 0 <= declared <= 1e8 or declared != int(declared):
        raise PoseFileError(path, "absurd_value", f"Frames {head[1]}")
    fps, notes = _frame_rate(path, head[3].strip(), is_rate=head[2].lower() == "rate")
    return int(declared), fps, notes


def _frame_rate(path: Path, written: str, *, is_rate: bool) -> tuple[float, tuple[str, ...]]:
    """Frames per second from what stands behind "Frame Time:", and notes on what was assumed."""
    if not written or written.lower() == "nan":
        return ASSUMED_FPS, (f"no frame time: {ASSUMED_FPS:g} frames per second are assumed",)
    found = re.match(r"([-+]?[\d.]+(?:[eEdD][-+]?\d+)?)(?:\s*/\s*([\d.]+))?\s*([A-Za-z]*)", written)
    try:
        value = float(FORTRAN.sub("e", found[1])) if found else float(written)
        value = value / float(found[2]) if found and found[2] else value
    except (ValueError, ZeroDivisionError):
        raise PoseFileError(path, "syntax", f"Frame Time {written[:40]!r}") from None
    if not np.isfinite(value):
        raise PoseFileError(path, "nan", f"Frame Time {written[:40]}")
    if value < 0 or value > 1e6:
        raise PoseFileError(path, "absurd_value", f"Frame Time {written[:40]}")
    unit = found[3].lower() if found else ""
    if is_rate or unit in ("fps", "hz"):
        fps, note = value, f"frame rate {written}"
    elif unit in ("ms", "msec") or (value >= 4 and value not in _USUAL_RATES):
        fps, note = 1000 / value if value else 0.0, f"frame time {written} read as milliseconds"
    elif value in _USUAL_RATES:
        fps, note = value, f"frame time {written} read as frames per second"
    else:
        fps, note = 1 / value if 1e-3 <= value < 1 else 0.0, ""
    if not 1 <= fps <= 1000:
        return ASSUMED_FPS, (f"frame time {written}: {ASSUMED_FPS:g} frames per second are assumed",)
    return fps, (note,) if note else ()

"""Biovision hierarchy files: a forgiving parser, and clips retargeted to SMPL-X.

Read: any channel order, also another one in each joint, any channel count, End Sites, tabs, CRLF, comments, a byte
order mark, several frames in one line or one over several lines. Angles are in degrees, applied in channel order; position
channels replace the joint's offset.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.retarget import Retargeter, RetargetError, Skeleton
from posedreamer_assets.poses.sources.frames import (
    PoseFrames,
    distinct_poses,
    ground_level,
    posed_joints,
    put_on_ground,
    reject_bad_frames,
    stride_indices,
)

_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)
_NAN_SPELLINGS = re.compile(r"[-+]?(nan(\(.*\))?|1\.#(qnan|ind|inf|snan)\w*|inf(inity)?)", re.IGNORECASE)
_MAX_JOINTS = 2000
_MAX_BYTES = 1 << 30
_CALIBRATION_FRAMES = 240  # spread over the clip; enough for the floor, the up axis and hinge axes


@dataclass(frozen=True)
class BvhClip:
    """A parsed file. `channels`: for each joint its (kind, axis) pairs in file order, kind "position" or "rotation"."""

    skeleton: Skeleton
    channels: tuple[tuple[tuple[str, int], ...], ...]
    motion: Float[np.ndarray, "frames values"]
    fps: float
    missing: int  # numbers lacking in a last, incomplete frame

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


def read_bvh(path: Path, *, stride_s: float, seed: int, licence: str, body: BodyModel) -> PoseFrames:
    """Read one clip and retarget it to the body's proportions.

    Raises:
        PoseFileError: with the reason that applies; single bad frames are in `rejected` instead.
    """
    clip = parse_bvh(path)
    count = len(clip.motion)
    bad = _bad_rows(path, clip)
    good_rows = np.setdiff1d(np.arange(count), [i for i, _ in bad])
    if not len(good_rows):
        raise PoseFileError(path, bad[0][1].reason, f"no good frame; {bad[0][1].detail}")
    spread = good_rows[np.unique(np.linspace(0, len(good_rows) - 1, _CALIBRATION_FRAMES).astype(int))]
    try:
        retargeter = Retargeter.calibrate(clip.skeleton, *clip.pose(spread), body)
    except RetargetError as error:
        raise PoseFileError(path, error.reason, str(error)) from error
    # A calibration pose in front of the motion is no part of it.
    first = 1 if retargeter.first_is_reference and _jumps(clip, good_rows) else 0
    chosen = np.intersect1d(stride_indices(path, count, clip.fps, stride_s, seed, first), good_rows)
    chosen = chosen if len(chosen) else good_rows[-1:]
    calibration = retargeter.retarget(*clip.pose(spread[1:] if first and len(spread) > 1 else spread))
    level = ground_level(body, calibration)
    params = retargeter.retarget(*clip.pose(chosen))
    good, rejected = reject_bad_frames(path, params, chosen)
    params, chosen = params.take(np.flatnonzero(good)), chosen[good]
    keep = distinct_poses(posed_joints(body, params))
    errors = [error for _, error in bad] + rejected
    if clip.missing:
        errors.append(PoseFileError(path, "truncated", f"frame {count}: {clip.missing} numbers are missing"))
    return PoseFrames(
        params=put_on_ground(body, params.take(keep), level),
        fps=clip.fps,
        names=[f"{path.name}#{i}" for i in chosen[keep]],
        family=path.stem,
        licence=licence,
        kind="bvh",
        rejected=tuple(errors),
        notes=retargeter.notes,
    )


def _bad_rows(path: Path, clip: BvhClip) -> list[tuple[int, PoseFileError]]:
    kinds = np.array([kind == "position" for joint in clip.channels for kind, _ in joint])
    extent = float(np.abs(clip.skeleton.offsets).sum()) or 1.0
    limit = np.where(kinds, 1000 * extent, 36000.0)  # the skeleton's size; a hundred turns
    bad = []
    for i in np.flatnonzero(~np.isfinite(clip.motion).all(axis=1)):
        bad.append((int(i), PoseFileError(path, "nan", f"frame {i}: a channel is not finite")))
    with np.errstate(invalid="ignore"):
        absurd = (np.abs(clip.motion) > limit) & np.isfinite(clip.motion).all(axis=1, keepdims=True)
    for i in np.flatnonzero(absurd.any(axis=1)):
        worst = float(np.abs(clip.motion[i]).max())
        bad.append((int(i), PoseFileError(path, "absurd_value", f"frame {i}: a channel reaches {worst:.4g}")))
    return bad


def _jumps(clip: BvhClip, good_rows: np.ndarray) -> bool:
    """Whether the second frame differs from the first by more than a body can move between them."""
    if len(good_rows) < 2:
        return False
    rotation = clip.pose(good_rows[:2])[0]
    turn = Rotation.from_matrix(np.swapaxes(rotation[0], -1, -2) @ rotation[1]).magnitude()
    return bool(np.rad2deg(turn).max() > 30)


def parse_bvh(path: Path) -> BvhClip:
    """Parse a BVH file.

    Raises:
        PoseFileError: `empty`, `syntax`, `truncated`, `shape`, `nan` or `absurd_value`.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PoseFileError(path, "absurd_value", f"{path.stat().st_size} bytes")
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise PoseFileError(path, "truncated", f"cannot be read: {error}") from error
    if not text.strip():
        raise PoseFileError(path, "empty", "the file has no text")
    head = re.search(r"^\s*MOTION\b", text, re.MULTILINE | re.IGNORECASE)
    if head is None:
        reason = "truncated" if text.lstrip().upper().startswith("HIERARCHY") else "syntax"
        raise PoseFileError(path, reason, "no MOTION section")
    skeleton, channels = _parse_hierarchy(path, text[: head.start()])
    width = sum(map(len, channels))
    if width == 0:
        raise PoseFileError(path, "shape", "the skeleton has no channels")
    declared, seconds, values = _parse_motion(path, text[head.end() :])
    whole, rest = divmod(len(values), width)
    if whole == 0:
        detail = f"{len(values)} of {declared * width} numbers" if declared else "no frames"
        raise PoseFileError(path, "truncated" if declared else "empty", detail)
    if whole >= declared and rest:
        raise PoseFileError(path, "shape", f"{len(values)} numbers are no multiple of {width} channels")
    missing = max(0, declared * width - len(values))
    return BvhClip(skeleton, channels, values[: whole * width].reshape(whole, width), 1 / seconds, missing)


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


def _parse_hierarchy(path: Path, text: str) -> tuple[Skeleton, tuple[tuple[tuple[str, int], ...], ...]]:
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
        if keyword in ("ROOT", "JOINT", "END"):
            if (keyword == "ROOT") == bool(open_joints) or (keyword == "ROOT" and names):
                raise tokens.error("syntax", f"{keyword} {'inside' if open_joints else 'outside'} of a joint")
            name = tokens.name()
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
    return Skeleton(tuple(names), tuple(parents), np.array(offsets)), tuple(channels)


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


def _parse_motion(path: Path, text: str) -> tuple[int, float, np.ndarray]:
    """Declared frames, seconds of one frame, all numbers."""
    head = re.match(r"\s*Frames\s*:\s*(\S+)\s+Frame\s+Time\s*:\s*(\S+)", text, re.IGNORECASE)
    if head is None:
        reason = "truncated" if len(text.split()) < 5 else "syntax"
        raise PoseFileError(path, reason, "no 'Frames:' and 'Frame Time:' after MOTION")
    try:
        declared, seconds = float(head[1]), float(head[2])
    except ValueError:
        raise PoseFileError(path, "syntax", f"Frames {head[1]!r}, Frame Time {head[2]!r}") from None
    if not (np.isfinite(declared) and np.isfinite(seconds)):
        raise PoseFileError(path, "nan", f"Frames {head[1]}, Frame Time {head[2]}")
    if not 0 <= declared <= 1e8 or declared != int(declared) or not 1e-3 <= seconds <= 10:
        raise PoseFileError(path, "absurd_value", f"Frames {head[1]}, Frame Time {head[2]}")
    return int(declared), seconds, _parse_numbers(path, text[head.end() :])


def _parse_numbers(path: Path, text: str) -> np.ndarray:
    tokens = text.split()
    try:
        return np.array(tokens, dtype=np.float64)
    except ValueError:
        pass_through = [("nan" if _NAN_SPELLINGS.fullmatch(token) else token) for token in tokens]
    try:
        return np.array(pass_through, dtype=np.float64)
    except ValueError as error:
        raise PoseFileError(path, "syntax", f"motion data: {error}") from None

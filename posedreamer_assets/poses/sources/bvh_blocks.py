"""The text of a BVH file as its head and blocks of its numbers, whatever program wrote it.

A half-hour clip has more than a hundred megabytes of text; no more than some megabytes of it are held at a time.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from jaxtyping import Float

from posedreamer_assets.errors import PoseFileError

MOTION = re.compile(r"^\s*MOTION\b", re.MULTILINE | re.IGNORECASE)
_COMMENT = r"(?:[ \t]*(?:#|//)[^\n]*\s*)*"
FRAMES = re.compile(
    rf"\s*{_COMMENT}Frames\s*:\s*(\S+)\s+{_COMMENT}Frame\s*(Time|Rate)\s*:[ \t]*([^\n]*)", re.IGNORECASE
)

_NAN_SPELLINGS = re.compile(r"[-+]?(nan(\(.*\))?|1\.#(qnan|ind|inf|snan)\w*|inf(inity)?)", re.IGNORECASE)
FORTRAN = re.compile(r"(?<=\d)[dD](?=[-+]?\d+$)")
_DECIMAL_COMMA = re.compile(r"Frame\s+Time\s*:\s*\d+,\d", re.IGNORECASE)
_PACKED = {b"\x1f\x8b": "gunzip it", b"PK": "unzip it"}
_COMMENT_LINE = re.compile(r"^[ \t]*(#|//).*$", re.MULTILINE)
_BLOCK = 1 << 20  # characters
_MAX_HEAD = 1 << 24  # characters; 2,000 joints take a quarter of a million
_MAX_BYTES = 1 << 30
_MAX_NUMBERS = 1 << 28  # 2 GiB of them; a file of the largest size has half as many


def read_head_and_numbers(path: Path) -> tuple[str, Float[np.ndarray, "values"]]:
    """The text up to and with the line of the frame time, with dots for decimal commas and one kind of line end, and the
    numbers that follow; the whole text and no numbers where there is no such line.

    Raises:
        PoseFileError: `empty`, `syntax`, `truncated` or `absurd_value`.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise PoseFileError(path, "absurd_value", f"{size} bytes")
        with path.open("rb") as stream:
            start = stream.read(40)
        if start[:2] in _PACKED:
            how = f"is packed: {_PACKED[start[:2]]}, and give what is in it"
            raise PoseFileError(path, "unknown_layout", how)
        encoding = _encoding(start)
        with path.open(encoding=encoding, errors="replace") as stream:  # also makes one kind of line end of all
            head, rest = _head(stream)
            if not head.strip():
                raise PoseFileError(path, "empty", "the file has no text")
            decimal = _DECIMAL_COMMA.search(head) is not None
            head = _without_commas(head, decimal)
            blocks = (_without_commas(block, decimal) for block in _blocks(stream, rest))
            return head, _numbers(path, blocks, size)
    except OSError as error:
        raise PoseFileError(path, "truncated", f"cannot be read: {error}") from error


def _encoding(start: bytes) -> str:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if start[1:40:2].count(0) > 15:
        return "utf-16-le"
    return "utf-16-be" if start[0:40:2].count(0) > 15 else "utf-8-sig"


def _head(stream: TextIO) -> tuple[str, str]:
    """The text up to the end of the line of the frame time, and what was read beyond it."""
    text = ""
    while block := _read(stream):
        text += block
        motion = MOTION.search(text)
        frames = FRAMES.match(text, motion.end()) if motion else None
        if frames and frames.end() < len(text):
            return text[: frames.end()], text[frames.end() :]
        if len(text) > _MAX_HEAD:
            break
    return text, ""


def _read(stream: TextIO) -> str:
    return stream.read(_BLOCK).replace("\ufeff", "").replace(";", " ").replace("\0", " ")


def _blocks(stream: TextIO, rest: str) -> Iterator[str]:
    """Text that ends between two numbers, some megabytes at a time."""
    while block := _read(stream):
        rest += block
        cut = max(rest.rfind(" "), rest.rfind("\n"), rest.rfind("\t"))
        if cut > 0:
            yield rest[:cut]
            rest = rest[cut:]
        elif len(rest) > _MAX_HEAD:
            break  # no numbers: told by who reads them
    yield rest


def _without_commas(text: str, decimal: bool) -> str:
    """Where the frame time has a comma, commas are decimal; else they part numbers."""
    if "," not in text:
        return text
    return re.sub(r"(?<=\d),(?=\d)", ".", text) if decimal else re.sub(r",(?=\s|[-\d]|\Z)", " ", text)


def _numbers(path: Path, blocks: Iterator[str], size: int) -> Float[np.ndarray, "values"]:
    """All numbers, in one array that is as large as the text read so far makes likely."""
    found, count, seen = np.empty(0), 0, 0
    for block in blocks:
        part = _parse_block(path, block)
        seen += len(block)
        if count + len(part) > _MAX_NUMBERS:
            raise PoseFileError(path, "absurd_value", f"more than {_MAX_NUMBERS} numbers")
        if count + len(part) > len(found):
            likely = int(1.05 * (count + len(part)) * max(1.0, size / max(seen, 1)))
            found = np.concatenate([found[:count], np.empty(min(likely, _MAX_NUMBERS) - count)])
        found[count : count + len(part)] = part
        count += len(part)
    return found[:count]


def _parse_block(path: Path, text: str) -> np.ndarray:
    tokens = text.split()
    try:
        return np.array(tokens, dtype=np.float64)
    except ValueError:
        tokens = _COMMENT_LINE.sub("", text).split()
        tokens = [("nan" if _NAN_SPELLINGS.fullmatch(token) else FORTRAN.sub("e", token)) for token in tokens]
    try:
        return np.array(tokens, dtype=np.float64)
    except ValueError as error:
        raise PoseFileError(path, "syntax", f"motion data: {error}") from None

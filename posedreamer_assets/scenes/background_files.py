"""The user's folder of backgrounds: which file belongs to which batch, what is to be seen in it, and crops of those kept.

Batches are told by a hash of a file's path below the folder, not by its place in a list: a file that is added or removed
changes its own batch and no other, until there are so many files that there must be twice as many batches.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ConfigError, ImageError
from posedreamer_assets.render.backgrounds import PHOTO_SUFFIXES, photo_crop
from posedreamer_assets.scoring.letterbox import letterbox
from posedreamer_assets.seeds import unit_hash
from posedreamer_assets.tables.images import opened

SETTING = "scenes.backgrounds"
KEPT, TOO_SMALL, HAS_PEOPLE, UNREADABLE = REASONS = ("kept", "too_small", "has_people", "unreadable")
MOST = 1000
"""Images of a batch."""
LOOKED_AT_PX = 640
"""Side of the square that an image is fitted into before people are counted in it."""
# Pillow's plugins raise these, too, for files that are damaged.
_DAMAGED = (OSError, ImageError, ValueError, SyntaxError, EOFError, struct.error)


@dataclass(frozen=True)
class BackgroundFile:
    """An image file as it lies in the folder, unread.

    Attributes:
        name: path below the folder, with slashes.
        size: bytes.
        mtime_ns: when it was changed.
    """

    name: str
    size: int
    mtime_ns: int


def background_files(folder: str) -> list[BackgroundFile]:
    """All image files of a folder and those below it, sorted by path.

    Raises:
        ConfigError: the folder is missing or holds no images, or a name that is not UTF-8.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError(f"{SETTING}: {folder} is no folder")
    found = []
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file()):
        name, stat = path.relative_to(root).as_posix(), path.stat()
        found.append(BackgroundFile(_plain(name), stat.st_size, stat.st_mtime_ns))
    if not found:
        raise ConfigError(f"{SETTING}: no images in {folder}")
    return found


def _plain(name: str) -> str:
    """A name that can be stored."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{SETTING}: the name of {name!r} is not UTF-8; rename the file") from None
    return name


def batches_of(files: Sequence[BackgroundFile]) -> dict[int, list[BackgroundFile]]:
    """By number of the batch, its files in the order given, at most MOST of them; there are 1, 2, 4, ... batches, none empty."""
    count = 1
    while True:
        found: dict[int, list[BackgroundFile]] = {}
        for file in files:
            found.setdefault(int(unit_hash(file.name) * count), []).append(file)
        if max(map(len, found.values()), default=0) <= MOST:
            return dict(sorted(found.items()))
        count *= 2


def stamps_digest(files: Sequence[BackgroundFile]) -> str:
    """Of names, sizes and times of change: what tells, without reading them, that files are to be looked at again."""
    return digest([(file.name, file.size, file.mtime_ns) for file in files])


@dataclass(frozen=True)
class Look:
    """What there is to say of a file before people are counted.

    Attributes:
        digest: of its bytes; None where they cannot be read.
        size: width and height, pixels; None where it is no image.
        picture: (s, s, 3) of LOOKED_AT_PX, in which people are counted; None where the image is refused already.
        reason: why it is refused; KEPT where that depends on its people.
    """

    digest: str | None
    size: tuple[int, int] | None
    picture: UInt8[np.ndarray, "s s 3"] | None
    reason: str


def look_at(path: Path, least_px: int) -> Look:
    """Read an image whole, and refuse it where it cannot be read or where a side has fewer than `least_px` pixels."""
    try:
        data = path.read_bytes()
    except OSError:
        return Look(None, None, None, UNREADABLE)
    own = bytes_digest(data)
    try:
        with opened(data) as image:
            pixels = np.asarray(image.convert("RGB"))
    except _DAMAGED:
        return Look(own, None, None, UNREADABLE)
    height, width = pixels.shape[:2]
    if min(height, width) < least_px:
        return Look(own, (width, height), None, TOO_SMALL)
    fitted, _ = letterbox(pixels[None], LOOKED_AT_PX, LOOKED_AT_PX)
    return Look(own, (width, height), fitted[0], KEPT)


def reason_of(size: tuple[int, int] | None, people: int | None, least_px: int) -> str:
    """Why an image is refused, or KEPT, from its width and height and its number of people."""
    if size is None:
        return UNREADABLE
    if min(size) < least_px:
        return TOO_SMALL
    return HAS_PEOPLE if people else KEPT


def bytes_digest(data: bytes) -> str:
    """Of a file's bytes."""
    return blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True)
class KeptBackgrounds:
    """The backgrounds that may be drawn from.

    Attributes:
        folder: that `names` are below.
        digests: by name, of the bytes that were looked at.
    """

    folder: Path
    digests: dict[str, str]

    @cached_property
    def names(self) -> list[str]:
        """Sorted as the files of the folder are, folder by folder."""
        return sorted(self.digests, key=PurePosixPath)

    def crop(self, rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """A random crop of a random image, resized to fill the picture.

        Raises:
            ConfigError: the file is not the one that people were counted in.
        """
        name = self.names[int(rng.integers(len(self.names)))]
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{SETTING}: {path} cannot be read any more: {error.strerror}; run again") from error
        if bytes_digest(data) != self.digests[name]:
            raise ConfigError(f"{SETTING}: {path} has changed since people were counted in it; run again")
        return photo_crop(data, rng, width, height)

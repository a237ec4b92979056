"""Files below a folder; names that are not UTF-8, spelt as text and found again."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

LICENCE_NAMES = ("LICENSE", "LICENCE", "licence.txt", "license.txt", "LICENSE.txt", "LICENCE.txt", "LICENSE.md")
"""Files beside poses that state their terms, the first first."""

_SPELT = re.compile(rb"\\x([0-9a-f]{2})")


def shown_path(path: Path | str) -> str:
    """A path as text that can be stored and printed: bytes that are not UTF-8 are spelt as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def actual_path(path: Path) -> Path:
    """The file that a path as `shown_path` spells it belongs to; the path itself where it is one."""
    if "\\x" not in str(path) or path.exists():
        return path
    return Path(os.fsdecode(_SPELT.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(path))))


def walk(root: Path) -> Iterator[Path]:
    """All files below a folder, through symbolic links but never twice through one folder; hidden ones are left out."""
    been: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(root, followlinks=True):
        try:
            stat = Path(place).stat()
        except OSError:
            folders.clear()
            continue
        if (stat.st_dev, stat.st_ino) in been:
            folders.clear()
            continue
        been.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(place) / name
            if not name.startswith(".") and file.is_file():  # not: dangling links, links to themselves, pipes
                yield file

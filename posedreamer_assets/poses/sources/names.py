"""File names that are not UTF-8, spelt as text and found again."""

import os
import re
from pathlib import Path

_SPELT = re.compile(rb"\\x([0-9a-f]{2})")


def shown_path(path: Path | str) -> str:
    """A path as text that can be stored and printed: bytes that are not UTF-8 are spelt as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def actual_path(path: Path) -> Path:
    """The file that a path as `shown_path` spells it belongs to; the path itself where it is one."""
    if "\\x" not in str(path) or path.exists():
        return path
    return Path(os.fsdecode(_SPELT.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(path))))

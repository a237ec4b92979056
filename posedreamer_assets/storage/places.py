"""Where the files of checkpoints may lie: `checkpoints/<name>/<digest of the request>-<digest of the files>`, nowhere else.

What names a place, a row of a table or an object in a store, may have been written by anybody: nothing outside the folder
of checkpoints is read, written or removed for it, through `..` or through symbolic links.
"""

import os
import re
from pathlib import Path

from posedreamer_assets.errors import StorageError

FOLDER = "checkpoints"
SCRATCH = ".writing-"
DIGEST_CHARACTERS = 12
_REQUEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PLACE = re.compile(rf"{FOLDER}/([a-z0-9]+(?:[-_][a-z0-9]+)*)/({_REQUEST.pattern})-[0-9a-f]{{{DIGEST_CHARACTERS}}}")


def check_request(name: str, request: str) -> None:
    """Raises StorageError unless the digest of a request can be part of a folder's name."""
    if not _REQUEST.fullmatch(request):
        raise StorageError(
            f"checkpoint {name!r}: bad digest {request!r}: expected letters, digits, '.', '-' and '_', at most 128"
        )


def is_place(place: str) -> bool:
    """Whether this can be the place of a checkpoint."""
    return _PLACE.fullmatch(place) is not None


def is_place_of(place: str, name: str, request: str) -> bool:
    """Whether this can be the place of this checkpoint and request."""
    match = _PLACE.fullmatch(place)
    return match is not None and match.groups() == (name, request)


def path_below(place: str, name: str) -> str:
    """The path of an object below a place; raises StorageError where its name leads elsewhere."""
    below = name.removeprefix(f"{place}/")
    if below == name or any(part in ("", ".", "..") for part in below.split("/")) or "\0" in below:
        raise StorageError(f"table 'checkpoints': {place} holds an object named {name!r}")
    return below


def check_links(folder: Path, what: str) -> None:
    """Raises StorageError where the folder is reached through a link beside other checkpoints, or holds one out of it."""
    if folder.is_symlink() or folder.parent.is_symlink():
        raise StorageError(f"{what}: {folder} is reached by a symbolic link, which this store never makes")
    inside = folder.resolve()
    for above, folders, files in os.walk(folder):
        for path in (Path(above, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise StorageError(f"{what}: {path} is a symbolic link out of its folder")

"""Paths that profiles name, and files that are written whole."""

import os
import threading
from contextlib import suppress
from pathlib import Path

PROFILES_DIR, WEIGHTS_DIR = (Path(__file__).parent.parent / name for name in ("profiles", "weights"))
_SHIPPED = "shipped:"


def local_path(path: str) -> Path:
    """A path of a profile; `shipped:NAME` is a folder of weights that comes with the package."""
    return WEIGHTS_DIR / path.removeprefix(_SHIPPED) if is_shipped(path) else Path(path).expanduser()


def is_shipped(path: str) -> bool:
    """Whether a path of a profile names weights that come with the package."""
    return path.startswith(_SHIPPED)


def cache_folder() -> Path:
    """Where this computer keeps what can be made or found again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posedreamer"


def share_files(one: str, other: str) -> bool:
    """Whether two folders are one, or one lies in the other; one elsewhere (`s3://...`) shares files with itself alone."""
    if "://" in one or "://" in other:
        return one.rstrip("/") == other.rstrip("/")
    a, b = (Path(path).expanduser().resolve() for path in (one, other))
    return a == b or a in b.parents or b in a.parents


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that another process reads the former content or the new one, never a part.

    Its permissions are those of any new file, so that colleagues can read it.

    Raises:
        OSError: the disk is full or must not be written; the error names the file, and the former content stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error

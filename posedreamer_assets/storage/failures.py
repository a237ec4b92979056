"""What went wrong, in one line with a remedy: Lance and the system tell it in texts, not in classes."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from lance.commit import CommitConflictError

from posedreamer_assets.errors import StorageError

_UNTOUCHED = "what was stored is untouched"
_REMEDIES = {
    errno.ENOSPC: f"free some space and run again; {_UNTOUCHED}",
    errno.EDQUOT: f"free some space and run again; {_UNTOUCHED}",
    errno.EROFS: f"make it writable, or name another place with --storage, and run again; {_UNTOUCHED}",
    errno.EACCES: f"allow this user to write there, or name another place with --storage; {_UNTOUCHED}",
    errno.ENOTDIR: "a file lies where a folder is expected: move it away, or name another place with --storage",
}
_WHERE_IN_LANCE = re.compile(r",? \S*/rust/\S+\.rs:\d+(:\d+)?$")


def is_failure(error: BaseException) -> bool:
    """Whether Lance says that it could not read or write. It has no error class of its own, and its code panics,
    which is no `Exception`, where a file's first bytes are damaged.
    """
    return isinstance(error, (OSError, ValueError, RuntimeError)) or type(error).__name__ == "PanicException"


def is_conflict(error: BaseException) -> bool:
    """Whether another commit came between; only some of Lance's functions have an error class for that."""
    return "commit conflict" in str(error).lower() or isinstance(error, CommitConflictError)


def first_line(error: BaseException) -> str:
    """The beginning of a message of Lance, whose end and later lines are places in its own code."""
    return _WHERE_IN_LANCE.sub("", str(error).splitlines()[0]) if str(error) else type(error).__name__


def explained(error: BaseException) -> str:
    """The message in one line, and what to do about it where that is known."""
    text = first_line(error)
    remedy = next((remedy for number, remedy in _REMEDIES.items() if os.strerror(number) in text), None)
    return f"{text}. To mend it: {remedy}" if remedy else text


def is_of_the_disk(error: OSError) -> bool:
    """Whether the disk is full or may not be written, whoever met it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def as_storage_errors(what: str) -> Iterator[None]:
    """Raise StorageErrors in place of the system's own."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {explained(error)}") from error

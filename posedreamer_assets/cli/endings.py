"""How a command ends when something outside of it goes wrong: one line and an exit code, no traceback.

A signal is not an error: what was finished stays, and the same command goes on. A full or read-only disk, a locked or
damaged file of Dagster's are named with what to do.
"""

import errno
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

_REMEDIES = {
    errno.ENOSPC: "the disk is full: make room, and run the same command again",
    errno.EDQUOT: "the quota of the disk is used up: make room, and run the same command again",
    errno.EROFS: "the file system is read-only: choose another --home, or mount it writable",
    errno.EACCES: "permission denied: choose another --home, or change the folder's permissions",
    errno.EPERM: "permission denied: choose another --home, or change the folder's permissions",
    errno.ENOTDIR: "a file stands where a folder should be: move it away, or choose another --home",
    errno.EIO: "the disk reports an error: look at the system's log",
}
_SQLITE = {
    "readonly": "Dagster's files cannot be written: choose another --home, or change their permissions",
    "unable to open": "Dagster's files cannot be opened: choose another --home, or change their permissions",
    "full": "the disk is full: make room, and run the same command again",
    "disk i/o": "the disk is full or reports an error: make room, and run the same command again",
    "malformed": "Dagster's event log is damaged: move <home>/dagster away; rows and images lie elsewhere",
    "not a database": "Dagster's event log is damaged: move <home>/dagster away; rows and images lie elsewhere",
    "locked": "another process holds Dagster's files: wait for it, and run the same command again",
}


class Signals:
    """Turns SIGTERM into what SIGINT does, and remembers which one came.

    Dagster puts handlers of its own in the place of ours while it runs, and forgets a signal that comes between two steps.
    So the numbers of all signals are written to a pipe, too, which `raise_if_signalled` reads.

    A background job of a script ignores SIGINT. Dagster would have it ignore SIGTERM as well, whose handler it replaces with
    that of SIGINT: a handler that tells the two apart stands there instead.
    """

    _pipe: tuple[int, int] | None = None
    _came: bytes = b""

    def __init__(self) -> None:
        if Signals._pipe is None:
            Signals._pipe = os.pipe()
            for end in Signals._pipe:
                os.set_blocking(end, False)
        self.came()
        Signals._came = b""
        signal.set_wakeup_fd(Signals._pipe[1], warn_on_full_buffer=False)
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            signal.signal(signal.SIGINT, _in_background)
        signal.signal(signal.SIGTERM, self._terminated)

    @property
    def exit_code(self) -> int:
        """Of a command that a signal ended."""
        return TERMINATED if signal.SIGTERM in self.came() else INTERRUPTED

    @classmethod
    def came(cls) -> bytes:
        """Numbers of the signals that came since the command began."""
        if cls._pipe is not None:
            with suppress(BlockingIOError):  # none came since
                cls._came += os.read(cls._pipe[0], 4096)
        return cls._came

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(number, frame)


def _in_background(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGINT:
        raise KeyboardInterrupt


def raise_if_signalled() -> None:
    """Go on only where no signal came that Dagster has swallowed.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """
    heeded = {signal.SIGTERM}
    if signal.getsignal(signal.SIGINT) is not _in_background:
        heeded.add(signal.SIGINT)
    if heeded & set(Signals.came()):
        raise KeyboardInterrupt


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal ended the work; Dagster has an exception of its own for that."""
    return any(
        isinstance(one, KeyboardInterrupt) or type(one).__name__ == "DagsterExecutionInterruptedError"
        for one in _causes(error)
    )


def in_one_line(error: BaseException, home: str = "") -> str | None:
    """What is wrong outside of this program and what to do, or None where the error is of another kind.

    Args:
        error: with its causes.
        home: the home's folder, which is named where the error names no file.
    """
    where = f"{home}: " if home else ""
    for one in _causes(error):
        if isinstance(one, OSError) and one.errno in _REMEDIES:
            return f"{one.filename}: {_REMEDIES[one.errno]}" if one.filename else f"{where}{_REMEDIES[one.errno]}"
        origin = getattr(one, "orig", one)  # SQLAlchemy wraps sqlite3's
        if isinstance(origin, sqlite3.Error):
            text = str(origin).lower()
            found = next((remedy for word, remedy in _SQLITE.items() if word in text), None)
            if found:
                return f"{where}{found} ({origin})"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

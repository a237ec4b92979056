"""Progress of long work, without the domain knowing who watches.

Domain loops wrap their iterable in `track`. Nothing is shown unless a caller (the command line) has installed a sink.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Sink(Protocol):
    """Receives progress: `advance(n, note)` after n more items of the current stage are done."""

    def advance(self, n: int, note: str = "") -> None: ...


_sink: ContextVar[Sink | None] = ContextVar("posedreamer_progress_sink", default=None)


@contextmanager
def watching(sink: Sink) -> Iterator[None]:
    """Send progress of the enclosed work to `sink`."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


def advance(n: int = 1, note: str = "") -> None:
    """Report n more finished items."""
    sink = _sink.get()
    if sink is not None:
        sink.advance(n, note)


def track(items: Iterable[T], weight: int = 1) -> Iterator[T]:
    """Yield the items, reporting `weight` finished units after each."""
    for item in items:
        yield item
        advance(weight)


class Display(Protocol):
    """Shows progress to a person."""

    def begin(self, stage: str, total: int) -> None: ...
    def advance(self, n: int, note: str = "") -> None: ...
    def end(self, stage: str, outcome: str) -> None: ...


class Silent:
    """A display that shows nothing."""

    def begin(self, stage: str, total: int) -> None:
        """Nothing."""

    def advance(self, n: int, note: str = "") -> None:
        """Nothing."""

    def end(self, stage: str, outcome: str) -> None:
        """Nothing."""

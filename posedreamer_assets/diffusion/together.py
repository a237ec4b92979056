"""How many rows go through a network together in training: half as many wherever a GPU's memory ends, and none of it is lost."""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from posedreamer_assets.diffusion.remembered import remember_training, remembered_training
from posedreamer_assets.errors import PoseDreamerError

Result = TypeVar("Result")


class Together:
    """The number of rows that training begins with, and with which it goes on after the memory of a GPU did not suffice.

    Work that did not fit is done anew as a whole, so that it ends as if it had begun with the smaller number. What is random
    about it has to be drawn beforehand.

    Attributes:
        rows: that go through the network together from now on.
        halves: whether fewer are tried where they do not fit; False where a certain number is to be measured, and torch's error
            is passed on.
        settings: as given.
    """

    def __init__(
        self,
        rows: int,
        *,
        what: str,
        noun: str,
        device: torch.device,
        settings: Mapping[str, Any],
        too_large: Callable[[str], PoseDreamerError],
    ) -> None:
        """Begin with `rows`, on a GPU with no more than have fitted before.

        Args:
            rows: as configured.
            what: is trained, for people.
            noun: what a row is, in the plural.
            device: where it is trained.
            settings: everything that decides on memory but the number of rows.
            too_large: the error where a single row does not fit, of the first line of what torch says.
        """
        self._what, self._noun, self._device, self.settings, self._too_large = what, noun, device, settings, too_large
        fitted = remembered_training(what, settings, device) if device.type == "cuda" else None
        self.rows, self.halves = min(rows, fitted or rows), True
        self._most = 0

    def parts(self, count: int) -> Iterator[slice]:
        """Which of `count` rows go through together."""
        for start in range(0, count, self.rows):
            end = min(start + self.rows, count)
            self._most = max(self._most, end - start)
            yield slice(start, end)

    def until_it_fits(self, work: Callable[[], Result], forget: Callable[[], None]) -> Result:
        """What `work` returns, which asks `parts`, once its parts fit.

        Args:
            work: done anew after each time that it did not fit.
            forget: drops what was kept of it by then.

        Raises:
            PoseDreamerError: `too_large`: a single row does not fit.
            torch.OutOfMemoryError: it does not fit, and nothing `halves`.
        """
        while True:
            self._most = 0
            try:
                return work()
            except torch.OutOfMemoryError as error:
                if not self.halves:
                    raise
                self._halve(error)
                forget()
                free()

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        """Half of the largest part that was tried: a small batch may have had none of `rows`."""
        tried, first = min(self.rows, self._most or self.rows), first_line(error)
        if tried == 1:
            raise self._too_large(first) from error
        error.__traceback__ = None  # its frames hold what did not fit
        self.rows = tried // 2
        remember_training(self._what, self.settings, self._device, self.rows)
        logging.getLogger(__name__).warning(
            "%s: the GPU's memory is too small for %d %s together, %d from now on: %s",
            self._what,
            tried,
            self._noun,
            self.rows,
            first,
        )


@contextmanager
def told(too_large: Callable[[str], PoseDreamerError]) -> Iterator[None]:
    """Within, memory that ends where no smaller number of rows would help is this project's error.

    Raises:
        PoseDreamerError: `too_large`, of the first line of what torch says.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise too_large(first_line(error)) from error


def free() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    """Of torch's long message."""
    return str(error).partition("\n")[0]

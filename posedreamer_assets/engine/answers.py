"""What a worker says to whoever gave it a job."""

import traceback
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from posedreamer_assets.engine.protocol import About, Job
from posedreamer_assets.errors import BackendError, EngineError, PoseDreamerError

ATTEMPTS = 3  # at one job, each by a worker that was started for it where the one before has ended


@dataclass(frozen=True)
class Done:
    """So many rows of the present job are painted."""

    rows: int


@dataclass(frozen=True)
class Painted:
    """The images of the job."""

    images: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Failed:
    """The job, or loading the generator, raised an error, and will again.

    Attributes:
        text: of the error.
        ours: whether it is one that this project raises on purpose, whose text says all.
        trace: where it came from.
    """

    text: str
    ours: bool
    trace: str = field(repr=False)

    @classmethod
    def by(cls, error: Exception) -> "Failed":
        """Of an error that was raised just now."""
        ours = isinstance(error, PoseDreamerError)
        text = str(error) if ours else f"{type(error).__name__}: {error}"
        return cls(text, ours, "".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class Broken:
    """The worker can do nothing more and ends; another may do the job."""

    text: str


Answer = About | Painted | Failed | Broken


def raise_failed(failed: Failed, label: str) -> NoReturn:
    """Raise a worker's error here.

    Raises:
        BackendError: what the generator says is wrong.
        EngineError: an error of another kind; the worker's own traceback is a note of it.
    """
    text = f"{label}: {failed.text}" if label else failed.text
    if failed.ours:
        raise BackendError(text)
    error = EngineError(text)
    error.add_note(f"In the worker:\n{failed.trace}")
    raise error


def gave_up(job: Job | None, reason: str) -> EngineError:
    """The error after ATTEMPTS workers have ended at the same job."""
    label = job.label or f"{len(job.seeds)} rows" if job else "loading the generator"
    return EngineError(f"{label}: {ATTEMPTS} workers have ended at the same chunk, the last one {reason}")

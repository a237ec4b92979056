"""What a reader of one kind of pose file is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.poses.sources.frames import PoseFrames
from posedreamer_assets.poses.sources.hands import HandSpace
from posedreamer_assets.poses.sources.npz import Arrays, NpzArrays, read_npy

UP_AXES = ("auto", "x", "y", "z", "-x", "-y", "-z")


@dataclass(frozen=True)
class ReadOptions:
    """What readers are told.

    Attributes:
        stride_s: time between two frames taken from a clip, seconds.
        seed: chooses the phase of the stride.
        licence: terms to record where the file does not bring its own.
        body: the body that poses are for.
        up_axis: the axis that points up in the files, one of `UP_AXES`; "auto" decides from each file.
        hands: hand components and mean hands of the body's own file, where it has some.
        sketches: of how many frames of each clip to keep the source's own skeleton.
    """

    stride_s: float
    seed: int
    licence: str
    body: BodyModel
    up_axis: str = "auto"
    hands: HandSpace | None = None
    sketches: int = 0


class PoseFile:
    """A file that readers look into; what one has read, the next does not read again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def arrays(self) -> Arrays:
        """The named arrays of an npz."""
        return NpzArrays(self.path)

    @cached_property
    def array(self) -> np.ndarray:
        """The array of an npy."""
        return read_npy(self.path)


@dataclass(frozen=True)
class Reader:
    """One kind of pose file.

    Attributes:
        kind: the kind as it is recorded with each pose: lower case, letters and digits.
        title: the kind in words.
        suffixes: of the file names, with their dots.
        reads: whether this reader understands the file; asked only where the suffix fits, and free to raise
            PoseFileError when the file is damaged.
        read: the clips of the file: one for each person; none where a file rightly holds no poses.
    """

    kind: str
    title: str
    suffixes: tuple[str, ...]
    reads: Callable[[PoseFile], bool]
    read: Callable[[PoseFile, ReadOptions], list[PoseFrames]]

"""What an engine is: it has images painted, here, in other processes or on other computers, by models that stay loaded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import UInt8

from posedreamer_assets.config import GeneratorConfig, ImageConfig

if TYPE_CHECKING:  # torch takes a second to import
    from posedreamer_assets.diffusion.generator import Generator


@dataclass(frozen=True)
class Job:
    """A chunk of rows to paint: the arguments of `Generator.generate`.

    Attributes:
        controls: control images (n, h, w, 3).
        captions: one per control image.
        seeds: one per control image.
        adapter_path: a DPO adapter on this computer; None for the generator as it is.
        control_strength: how much the control image says.
        label: what the rows belong to, for messages: `base/raw_generations[procedural-0003]`.
    """

    controls: UInt8[np.ndarray, "n h w 3"] = field(repr=False)
    captions: list[str] = field(repr=False)
    seeds: list[int] = field(repr=False)
    adapter_path: Path | None = None
    control_strength: float = 1.0
    label: str = ""


@dataclass(frozen=True)
class About:
    """What a loaded generator says of itself: `Generator.name` and `Generator.digest`."""

    name: str
    digest: str


class Engine(Protocol):
    """Has images painted. The bits of a row are those of `Generator.generate` in this process, whoever paints it."""

    def about(self, cfg: GeneratorConfig, image: ImageConfig) -> About:
        """What the generator is; it is loaded if it is not yet.

        Raises:
            BackendError: it cannot be loaded.
        """
        ...

    def rows_of_chunk(self, cfg: GeneratorConfig, image: ImageConfig, rows: int) -> int:
        """Into jobs of how many rows so many rows are best cut."""
        ...

    def paint(
        self, cfg: GeneratorConfig, image: ImageConfig, jobs: Iterable[Job]
    ) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        """The images of each job, in the order of the jobs; a few are under way at a time.

        Raises:
            BackendError: what the generator raises; the message begins with the job's label.
            EngineError: a worker ended too often at the same job, or its generator failed with an error of another kind.
        """
        ...

    def local(self, cfg: GeneratorConfig, image: ImageConfig) -> "Generator":
        """The generator in this process, to be trained; workers on its GPU are ended first."""
        ...

    def close(self) -> None:
        """End what this process started and unload what it loaded; what comes next starts and loads anew."""
        ...

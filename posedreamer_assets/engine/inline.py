"""The engine that paints in the process that asks."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.engine.painter import Model, Painter
from posedreamer_assets.engine.protocol import About, Job

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.generator import Generator


class Inline:
    """Paints here, with the generator that was last asked for; another one takes its place."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._painter: Painter | None = None

    def about(self, cfg: GeneratorConfig, image: ImageConfig) -> About:
        """See `Engine.about`."""
        return self._painting(cfg, image).about()

    def rows_of_chunk(self, cfg: GeneratorConfig, image: ImageConfig, rows: int) -> int:
        """All of them: nobody shares the work."""
        return rows

    def paint(self, cfg: GeneratorConfig, image: ImageConfig, jobs: Iterable[Job]) -> Iterator[np.ndarray]:
        """See `Engine.paint`; what the generator raises comes as it is."""
        yield from map(self._painting(cfg, image).paint, jobs)

    def local(self, cfg: GeneratorConfig, image: ImageConfig) -> "Generator":
        """See `Engine.local`."""
        return self._painting(cfg, image).generator

    def close(self) -> None:
        """See `Engine.close`."""
        if self._painter is not None:
            self._painter.unload()
        self._model = self._painter = None

    def _painting(self, cfg: GeneratorConfig, image: ImageConfig) -> Painter:
        model = Model.of(cfg, image)
        if self._painter is None or model != self._model:
            self.close()
            self._model, self._painter = model, Painter(model)
        return self._painter

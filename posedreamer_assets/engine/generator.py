"""An engine as a `Generator`: stages that paint see no difference."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.engine.protocol import Engine, Job
from posedreamer_assets.errors import BackendError


class EngineGenerator:
    """Paints through an engine.

    Args:
        engine: who paints.
        cfg: the generator.
        image: the size of its images.
        label: what is painted, for messages: `base/raw_generations[procedural-0003]`.
    """

    def __init__(self, engine: Engine, cfg: GeneratorConfig, image: ImageConfig, label: str = "") -> None:
        self._engine, self._cfg, self._image, self._label = engine, cfg, image, label

    @property
    def name(self) -> str:
        """See `Generator.name`."""
        return self._engine.about(self._cfg, self._image).name

    @property
    def digest(self) -> str:
        """See `Generator.digest`."""
        return self._engine.about(self._cfg, self._image).digest

    def generate(
        self,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        seeds: list[int],
        *,
        adapter_path: Path | None = None,
        control_strength: float = 1.0,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """See `Generator.generate`.

        Raises:
            BackendError: as there.
            EngineError: a worker ended too often at the same rows, or its generator failed with an error of another kind.
        """
        if not len(controls) == len(captions) == len(seeds):
            raise BackendError(f"{len(controls)} control images, {len(captions)} captions and {len(seeds)} seeds")
        rows = len(controls)
        if rows == 0:
            return np.empty_like(controls)
        step = self._engine.rows_of_chunk(self._cfg, self._image, rows)
        cut = [slice(first, first + step) for first in range(0, rows, step)]

        def jobs() -> Iterator[Job]:
            for part in cut:
                yield Job(controls[part], captions[part], seeds[part], adapter_path, control_strength, self._label)

        painted = self._engine.paint(self._cfg, self._image, jobs())
        if len(cut) == 1:
            (images,) = painted
            return images
        images = np.empty_like(controls)
        for part, some in zip(cut, painted, strict=True):
            images[part] = some
        return images

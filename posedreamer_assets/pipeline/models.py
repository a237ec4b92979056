"""Models, loaded once in a process and kept from one partition to the next."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from posedreamer_assets.config import CounterConfig, DetectorConfig, ImageConfig, Profile, SegmenterConfig

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel
    from posedreamer_assets.diffusion.generator import Generator
    from posedreamer_assets.scoring.detectors import KeypointDetector
    from posedreamer_assets.scoring.people import PersonCounter
    from posedreamer_assets.scoring.segmenter import Segmenter


@dataclass(frozen=True)
class Models:
    """The models that a profile names.

    Attributes:
        profile: names them.
        label: what is made with them, for messages of what paints: `base/raw_generations[procedural-0003]`.
    """

    profile: Profile
    label: str = ""

    @property
    def body(self) -> "BodyModel":
        """The body that labels are made with."""
        from posedreamer_assets.body.model import load_body

        return load_body(self.profile.body.model_path)

    @property
    def generator(self) -> "Generator":
        """What paints: here or elsewhere, as `POSEDREAMER_ENGINE` says."""
        from posedreamer_assets.engine.current import current_engine
        from posedreamer_assets.engine.generator import EngineGenerator

        return EngineGenerator(current_engine(), self.profile.generator, self.profile.image, self.label)

    @property
    def local_generator(self) -> "Generator":
        """The generator itself, in this process: what is trained. To paint with `generator` may unload it again."""
        from posedreamer_assets.engine.current import current_engine

        return current_engine().local(self.profile.generator, self.profile.image)

    @property
    def ranker(self) -> "KeypointDetector":
        """Ranks preference pairs."""
        return _detector(self.profile.ranker, self.profile.image)

    @property
    def judge(self) -> "KeypointDetector":
        """Judges images; trained apart from the ranker."""
        return _detector(self.profile.judge, self.profile.image)

    @property
    def outside_judge(self) -> "KeypointDetector | None":
        """A detector that this project never trained; None where the profile names none."""
        return None if self.profile.outside_judge is None else _detector(self.profile.outside_judge, self.profile.image)

    @property
    def counter(self) -> "PersonCounter":
        """Counts people."""
        return _counter(self.profile.counter)

    @property
    def segmenter(self) -> "Segmenter | None":
        """Draws silhouettes of people; None where the profile names none."""
        return None if self.profile.segmenter is None else _segmenter(self.profile.segmenter)


@lru_cache(maxsize=4)
def _detector(cfg: DetectorConfig, image: ImageConfig) -> "KeypointDetector":
    from posedreamer_assets.scoring.detectors import load_detector

    return load_detector(cfg, image)


@lru_cache(maxsize=1)
def _counter(cfg: CounterConfig) -> "PersonCounter":
    from posedreamer_assets.scoring.people import load_counter

    return load_counter(cfg)


@lru_cache(maxsize=1)
def _segmenter(cfg: SegmenterConfig) -> "Segmenter":
    from posedreamer_assets.scoring.segmenter import load_segmenter

    return load_segmenter(cfg)

"""Models, loaded once in a process and kept from one partition to the next."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from posedreamer_assets.config import CounterConfig, DetectorConfig, GeneratorConfig, ImageConfig, Profile

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel
    from posedreamer_assets.diffusion.generator import Generator
    from posedreamer_assets.scoring.detectors import KeypointDetector
    from posedreamer_assets.scoring.people import PersonCounter


@dataclass(frozen=True)
class Models:
    """The models that a profile names."""

    profile: Profile

    @property
    def body(self) -> "BodyModel":
        """The body that labels are made with."""
        from posedreamer_assets.body.model import load_body

        return load_body(self.profile.body.model_path)

    @property
    def generator(self) -> "Generator":
        """What paints."""
        return _generator(self.profile.generator, self.profile.image)

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


@lru_cache(maxsize=1)
def _generator(cfg: GeneratorConfig, image: ImageConfig) -> "Generator":
    from posedreamer_assets.diffusion.generator import load_generator

    return load_generator(cfg, image)


@lru_cache(maxsize=4)
def _detector(cfg: DetectorConfig, image: ImageConfig) -> "KeypointDetector":
    from posedreamer_assets.scoring.detectors import load_detector

    return load_detector(cfg, image)


@lru_cache(maxsize=1)
def _counter(cfg: CounterConfig) -> "PersonCounter":
    from posedreamer_assets.scoring.people import load_counter

    return load_counter(cfg)

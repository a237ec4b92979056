"""Models, loaded once in a process and kept from one partition to the next."""

from functools import lru_cache

from posedreamer_assets.config import DetectorConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.generator import Generator, load_generator
from posedreamer_assets.scoring.detectors import KeypointDetector, load_detector
from posedreamer_assets.scoring.people import PersonCounter, load_counter


@lru_cache(maxsize=1)
def generator_of(cfg: GeneratorConfig, image: ImageConfig) -> Generator:
    """The configured generator."""
    return load_generator(cfg, image)


@lru_cache(maxsize=4)
def detector_of(cfg: DetectorConfig, image: ImageConfig) -> KeypointDetector:
    """A configured detector."""
    return load_detector(cfg, image)


@lru_cache(maxsize=1)
def counter_of(image: ImageConfig) -> PersonCounter:
    """The shipped person counter."""
    return load_counter(image)

"""Sections of a profile that studies have, see `profile.py`."""

from dataclasses import dataclass
from typing import Literal

LEAST_STAND_IN_PX = 64
"""Smallest side of a stand-in: an adult six metres away has about as many pixels there as one who is annotated needs."""


@dataclass(frozen=True)
class LearningToTrainConfig:
    """The study `learning_to_train`: scenes of many people, and people painted into photographs. Off unless asked for."""

    enabled: bool = False
    scene_batches: int = 2
    photo_batches: int = 1


@dataclass(frozen=True)
class CrowdsConfig:
    """Scenes of many people (D_S): `people_mean` is that of a Poisson distribution, `size` that of the square image."""

    people_mean: float = 9.0
    pitch_min_deg: float = 0.0
    pitch_max_deg: float = 45.0
    size: int = 320  # pixels
    max_tries: int = 60  # places that are tried for a person before it is left out
    batch_size: int = 25  # scenes of a batch
    families: tuple[str, ...] = ()  # procedural families; empty means all


@dataclass(frozen=True)
class PhotosConfig:
    """Annotated photographs (D_R). `kind`: stand_in, a rendered domain that is held apart, or coco.

    `path`: folder of the photographs; `annotations`: COCO keypoints JSON. Both are needed for `coco`.
    """

    kind: Literal["stand_in", "coco"] = "stand_in"
    path: str | None = None
    annotations: str | None = None
    batch_size: int = 25  # photographs of a batch
    size: int = 288  # of stand-ins, pixels; LEAST_STAND_IN_PX or more
    val_share: float = 0.0
    test_share: float = 0.5


@dataclass(frozen=True)
class MixedConfig:
    """Synthetic people over photographs (D_M): the mean of a Poisson distribution, and mixtures of each photograph."""

    people_mean: float = 4.0
    variants: int = 2
    max_tries: int = 60


@dataclass(frozen=True)
class StyleConfig:
    """Synthetic people made like a photograph's (D_Style): the least region that colours are learnt from, pixels."""

    min_pixels: int = 50


@dataclass(frozen=True)
class UserTestSet:
    """A test set of students from the user's own files, see docs/students.md for what each kind holds.

    `name`: of its partition, bench-user-NAME. `path`: the annotations, or the folder of `ehf`. `images`: the folder that file
    names are relative to. `annotations`: of `neuralannot`, the COCO JSON with images and boxes. `camera`: of `ehf`, a JSON.
    """

    name: str = ""
    kind: Literal["coco", "humandata", "hmr2", "ehf", "3dpw", "eft", "neuralannot"] = "coco"
    path: str = ""
    images: str | None = None
    annotations: str | None = None
    camera: str | None = None
    licence: str = "not stated"
    people: int = 500  # at most; chosen by a hash of their names
    least_keypoints: int = 10  # of 2D annotations: people with fewer are left out
    least_px: int = 96  # longer side of the box; smaller people are left out


@dataclass(frozen=True)
class StudentsConfig:
    """What the data is worth. `study`: none, a shipped study (`pocket`, `ablation`), or a YAML file of recipes.

    `images`: what `budget` stands for in recipes, at most: fewer where the filter keeps fewer images of the base round.
    """

    study: str = "none"
    images: int = 320
    test_renders: int = 192  # test images of bench-renders, and of bench-looks, which has the same poses
    test_generated: int = 96  # of bench-generated
    pelvis: Literal["posed-mesh", "chain", "hips"] = "posed-mesh"  # where bodies are laid over each other
    test_sets: tuple[UserTestSet, ...] = ()  # of the user's own files

    @property
    def off(self) -> bool:
        """Whether no student is trained."""
        return self.study == "none"

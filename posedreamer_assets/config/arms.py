"""Arms of the study `learning_to_train`: what each student is trained on, all from one baseline and for equal steps."""

from dataclasses import dataclass
from typing import Literal

NONE, SCENES, MIXTURES, STYLED = "none", "ds", "dm", "style"
PITCH, DISTANCE = "pitch", "distance"
BASELINE = "baseline"
"""The start of all arms; it is predicted with and compared, but not trained."""


@dataclass(frozen=True)
class Arm:
    """What a student is trained on.

    Attributes:
        name: as in partition keys, `arm-<name>-<seed>`.
        about: in words.
        real: whether half of its samples, or all without synthetic ones, are people of photographs (D_R).
        synthetic: where the other half comes from: scenes (D_S), mixtures (D_M), or styled mixtures (D_Style). People of
            mixtures who are drawn are the annotated ones of the photograph.
        masked: whether what synthetic people would teach is left out of the loss.
        groups: what synthetic people are grouped by: pitch of the camera or distance to the nearest other person.
        taught: whether a teacher chooses the group; else groups are drawn uniformly.
        table: which of the report's tables it is in.
    """

    name: str
    about: str
    real: bool = True
    synthetic: Literal["none", "ds", "dm", "style"] = "none"
    masked: bool = False
    groups: Literal["pitch", "distance"] | None = None
    taught: bool = False
    table: int = 1


ARMS: tuple[Arm, ...] = (
    Arm("real", "photographs alone, continued for as many steps as all others"),
    Arm("ds", "scenes of many synthetic people alone", real=False, synthetic=SCENES),
    Arm("real-ds", "photographs and scenes", synthetic=SCENES),
    Arm("real-dm", "photographs and mixtures", synthetic=MIXTURES, table=2),
    Arm("real-dm-masks", "mixtures, loss of synthetic people left out", synthetic=MIXTURES, masked=True, table=2),
    Arm("real-style", "photographs and styled mixtures", synthetic=STYLED, table=2),
    Arm("real-style-masks", "styled mixtures, loss of synthetic people left out", synthetic=STYLED, masked=True, table=2),
    Arm("uniform-c", "groups of camera pitch drawn uniformly", synthetic=SCENES, groups=PITCH, table=3),
    Arm("teacher-c", "a teacher chooses groups of camera pitch", synthetic=SCENES, groups=PITCH, taught=True, table=3),
    Arm(
        "teacher-md", "a teacher chooses groups of distance", synthetic=SCENES, groups=DISTANCE, taught=True, table=3
    ),
)  # fmt: skip


def is_tested_on_scenes(arm: Arm) -> bool:
    """Whether people are looked for in held-out scenes as well: by arms of the first table, and their start."""
    return arm.table <= 1


_START = Arm(BASELINE, "the common start, without another step", real=False, table=0)


def arm_names() -> tuple[str, ...]:
    """All arms, in the order of the tables."""
    return tuple(arm.name for arm in ARMS)


def arm_called(name: str) -> Arm:
    """The arm of that name; the baseline is one that is trained on nothing.

    Raises:
        KeyError: no such arm.
    """
    return {arm.name: arm for arm in (_START, *ARMS)}[name]


@dataclass(frozen=True)
class Contrast:
    """Two arms that are compared, and by how much they differ in the paper, points of mAP; None where that is not known here."""

    a: str
    b: str
    paper: float | None = None


CONTRASTS: tuple[Contrast, ...] = (
    Contrast("ds", "real", -64.3),
    Contrast("real-ds", "real", 0.7),
    Contrast("real-dm", "real-ds", 0.0),
    Contrast("real-dm-masks", "real-dm", 0.5),
    Contrast("real-style", "real-dm"),
    Contrast("real-style-masks", "real", 1.4),
    Contrast("teacher-c", "real", 1.2),
    Contrast("teacher-c", "real-ds", 0.5),
    Contrast("teacher-c", "teacher-md", 0.2),
    Contrast("teacher-c", "uniform-c"),
    Contrast("uniform-c", "real-ds"),
)
PAPER: dict[str, float] = {"real": 77.7, "ds": 13.4}
"""mAP of the paper, as far as it is known here."""

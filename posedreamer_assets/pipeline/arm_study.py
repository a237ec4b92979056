"""Arms of the study `learning_to_train`: their partition keys, what each of them reads, and which settings it depends on."""

from dataclasses import asdict
from typing import Any

from posedreamer_assets.config import BASELINE, Arm, Profile, arm_called
from posedreamer_assets.config.arms import MIXTURES, NONE, SCENES, STYLED, is_tested_on_scenes
from posedreamer_assets.tables.keys import ARM, TEACHER, group_of, partition_key, source_of

TRAINED = (ARM, TEACHER)
"""Groups of all networks of the study."""
ARM_SETTING, TEACHER_SETTING = "arm.spec", "teacher"
# Of six stages: weights, gradients, moments and the process; a crop of so many pixels; an image of `predict.MOST_PIXELS`.
_WEIGHTS_GB, _CROP_GB, _CROP_PX, _LOOKING_GB = 1.0, 0.16, 368, 4.0
ARM_SETTINGS = (ARM_SETTING, TEACHER_SETTING)
"""Settings of which a partition depends on what concerns its arm alone."""


def training_gb(profile: Profile) -> float:
    """Memory that the training of one network takes, about: that of layout vgg19 was measured on a CPU, in float32."""
    cfg = profile.pose2d
    return 2.0 if cfg.layout == "pocket" else _WEIGHTS_GB + _CROP_GB * cfg.batch * (cfg.size / _CROP_PX) ** 2


def looking_gb(profile: Profile) -> float:
    """Memory that it takes to look for people in the largest image that is looked at, likewise."""
    return 2.0 if profile.pose2d.layout == "pocket" else _LOOKING_GB


def arm_key(arm: str, seed: int) -> str:
    """`arm-<arm>-<seed>`, `arm-real-ds-0002`."""
    return partition_key(f"{ARM}-{arm}", seed)


def arm_of(key: str) -> tuple[Arm, int]:
    """Arm and number of the training seed of a key.

    Raises:
        KeyError: no such arm.
    """
    return arm_called(source_of(key).removeprefix(f"{ARM}-")), int(key.rpartition("-")[2])


def arm_keys(profile: Profile) -> dict[str, list[str]]:
    """The partition keys that a profile asks for, by group: the baseline once, and every arm with every seed."""
    asked = profile.learning_to_train
    if not asked.arms:
        return {}
    keys = [arm_key(BASELINE, 0), *(arm_key(arm, seed) for arm in asked.arms for seed in range(asked.seeds))]
    return {group: [key for key in keys if group_of(key) == group] for group in TRAINED}


def reads_photos(key: str) -> bool:
    """Whether an arm is trained on photographs, or on mixtures, of which those of test photographs are left out."""
    return arm_of(key)[0].real or reads_mixtures(key)


def reads_people_of_photos(key: str) -> bool:
    """Whether an arm is trained on people of photographs."""
    return arm_of(key)[0].real


def reads_scenes(key: str) -> bool:
    """Whether an arm is trained on scenes (D_S)."""
    return arm_of(key)[0].synthetic == SCENES


def reads_mixtures(key: str) -> bool:
    """Whether an arm is trained on people over photographs, in whatever style."""
    return arm_of(key)[0].synthetic in (MIXTURES, STYLED)


def reads_styles(key: str) -> bool:
    """Whether an arm is trained on styled mixtures (D_Style)."""
    return arm_of(key)[0].synthetic == STYLED


def looks_at_scenes(key: str) -> bool:
    """Whether a network looks for people in held-out scenes."""
    return is_tested_on_scenes(arm_of(key)[0])


def trained_on_two(arm: Arm) -> bool:
    """Whether half of the samples come from each of two sources."""
    return arm.real and arm.synthetic != NONE


def arm_setting(profile: Profile, name: str, key: str) -> Any:
    """What of the study a network depends on: other arms change nothing in it, and a teacher those that have one alone."""
    if not key:
        return None
    arm = arm_of(key)[0]
    if name == ARM_SETTING:
        return {field: value for field, value in asdict(arm).items() if field not in ("about", "table")}
    return asdict(profile.teacher) if arm.groups else None

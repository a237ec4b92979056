"""Curriculum rounds, and the partition keys that a profile asks for.

Round 0, `base`, paints the poses of the library. Each further one, `hard`, `hard2`, ..., paints poses that a difficulty
model expects to fail, which has learnt from the scores of all rounds before it. How many there are is a setting,
`curriculum.rounds`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline.arm_study import arm_keys
from posedreamer_assets.pipeline.stage import Stage
from posedreamer_assets.pipeline.student_study import domain_of, study_keys
from posedreamer_assets.tables.keys import (
    ALIGN,
    BACKGROUND,
    BASE,
    DOMAIN,
    PHOTO,
    SCENE,
    SCENE_TEST,
    group_of,
    is_reserved,
    partition_key,
    round_name,
)


@dataclass(frozen=True)
class Round:
    """One pass of maps, images, scores and verdicts.

    Attributes:
        name: also the group of its partitions, and the first part of its assets' keys.
        learns_from: the rounds whose scores its difficulty model reads; none for the base round.
    """

    name: str
    learns_from: tuple[str, ...] = ()


def rounds(count: int) -> tuple[Round, ...]:
    """The base round and `count` - 1 others."""
    names = [round_name(i) for i in range(count)]
    return tuple(Round(name, tuple(names[:i])) for i, name in enumerate(names))


def rounds_of(profile: Profile) -> tuple[Round, ...]:
    """The rounds of a profile."""
    return rounds(1 + len(profile.curriculum.rounds))


def source_name(profile: Profile) -> str:
    """The `<source>` of the base round's keys: `procedural`, or a slug of the pose folder's name."""
    if profile.poses.source == "procedural":
        return "procedural"
    source = profile.poses.source
    name = PurePosixPath(source).name if "://" in source else Path(source).expanduser().resolve().name
    name = name.lower()
    slug = "-".join(filter(None, "".join(c if c.isascii() and c.isalnum() else " " for c in name).split()))
    if not slug:
        return "poses"
    return f"poses-{slug}" if is_reserved(slug) else slug


def planned_keys(profile: Profile, groups: Iterable[str]) -> list[str]:
    """The partition keys of these groups that the profile asks for, group by group.

    Raises:
        ConfigError: backgrounds are asked for, and their folder is missing or has no images.
    """
    groups = tuple(groups)
    source = source_name(profile)
    planned = {BASE: (source, profile.poses.batches), ALIGN: (f"{ALIGN}-{source}", profile.poses.align_batches)}
    study = profile.learning_to_train
    planned |= {SCENE: ("scenes", study.scene_batches), PHOTO: ("photos", study.photo_batches)}
    planned |= {SCENE_TEST: ("scenes-test", study.test_scene_batches if study.arms else 0)}
    for number, hard in enumerate(profile.curriculum.rounds, start=1):
        planned[round_name(number)] = (round_name(number), hard.batches)
    of_studies = {**study_keys(profile), **arm_keys(profile)}
    if BACKGROUND in groups:
        of_studies[BACKGROUND] = _background_keys(profile)
    own = {group: keys for group, keys in of_studies.items() if group in groups}
    return [key for keys in own.values() for key in keys] + [
        partition_key(*of) for group in groups if group in planned for of in _numbered(*planned[group])
    ]


def _background_keys(profile: Profile) -> list[str]:
    """Of the images that lie in the folder now; none where scenes have procedural backgrounds."""
    from posedreamer_assets.scenes.background_files import background_files, batches_of

    folder = profile.scenes.backgrounds
    return [partition_key("backgrounds", number) for number in batches_of(background_files(folder))] if folder else []


def planned_of(profile: Profile, stage: Stage) -> list[str]:
    """The partitions of a stage that the profile asks for: those of its groups, and of renders maybe the first few alone."""
    keys = planned_keys(profile, stage.groups)
    return keys[: profile.scenes.reference_batches] if stage.key == "rendered_scenes" else keys


def check_planned(profile: Profile) -> None:
    """Find numbers that the whole graph could do nothing with, before a pose is made.

    Raises:
        ConfigError: no poses, or none to align with; names the setting and the remedy.
    """
    without = "; alignment learns from them: set alignment.method to none to go without"
    least = [("poses.batches", profile.poses.batches, ""), ("poses.batch_size", profile.poses.batch_size, "")]
    least += [] if profile.alignment.off else [("poses.align_batches", profile.poses.align_batches, without)]
    for place, hard in enumerate(profile.curriculum.rounds):
        least += [(f"curriculum.rounds[{place}].{name}", count, "") for name, count in vars(hard).items()]
    for name, count, remedy in least:
        if count < 1:
            raise ConfigError(f"{name} is {count}; expected 1 or more{remedy}")


def _numbered(source: str, count: int) -> list[tuple[str, int]]:
    return [(source, number) for number in range(count)]


def poses_of_batch(profile: Profile, key: str) -> int:
    """How many poses a partition has."""
    if group_of(key) == DOMAIN and (domain := domain_of(profile, key)) is not None:
        return domain.size
    sizes = {round_name(i): hard.size for i, hard in enumerate(profile.curriculum.rounds, start=1)}
    return sizes.get(group_of(key), profile.poses.batch_size)


def has_pose_files(profile: Profile, key: str) -> bool:
    """Whether a batch's poses come from files, as all do but `procedural-*`, and hard rounds and domains of procedural poses."""
    if group_of(key) == DOMAIN:
        domain = domain_of(profile, key)
        return domain is not None and not domain.procedural
    if group_of(key) not in (BASE, ALIGN):
        return profile.poses.source != "procedural"
    return not key.removeprefix(f"{ALIGN}-").startswith("procedural-")

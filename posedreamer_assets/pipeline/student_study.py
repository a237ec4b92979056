"""The study of a profile: which students there are, and which settings each of them depends on."""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posedreamer_assets.config import Profile, UserTestSet, share_files
from posedreamer_assets.errors import ConfigError, RecipeError
from posedreamer_assets.tables.keys import (
    BENCH,
    BENCH_CLIPS,
    BENCH_DOMAIN,
    BENCH_GENERATED,
    BENCH_LOOKS,
    BENCH_RENDERS,
    BENCH_USER,
    DOMAIN,
    STUDENT,
    partition_key,
    source_of,
)

if TYPE_CHECKING:
    from posedreamer_assets.students.recipes import Domain, Study
    from posedreamer_assets.students.spec import StudentSpec

RECIPE, SPEC, FEATURES, CONTRASTS = "study.recipe", "study.student", "study.features", "study.all"
TEST_SET, OF_DOMAIN = "study.test_set", "study.domain"
STUDY_SETTINGS = (RECIPE, SPEC, FEATURES, CONTRASTS, TEST_SET, OF_DOMAIN)
"""Names that stages may give among their settings: parts of the study, as far as a partition depends on them."""


def study_of(profile: Profile) -> "Study | None":
    """The study that the profile names; None without one.

    Raises:
        RecipeError: it cannot be read.
    """
    if profile.students.off:
        return None
    path = Path(profile.students.study).expanduser()
    return _load(profile.students.study, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=8)
def _load(name: str, mtime_ns: int) -> "Study":
    from posedreamer_assets.students.study_files import load_study

    return load_study(name)


def check_study(profile: Profile) -> None:
    """Find what cannot work in the study, before a pose is made.

    Raises:
        RecipeError: its file cannot be read.
        ConfigError: a test set that cannot be one, or a folder of test poses that is not there or that a domain draws from.
    """
    if study_of(profile) is None:
        return
    user_sets(profile)
    clips = profile.students.test_poses
    if clips is None:
        return
    if not Path(clips).expanduser().is_dir():
        raise ConfigError(
            f"students.test_poses: {clips} is no folder; it is to hold pose files that no batch draws from"
        )
    for domain in domains_of(profile):
        if not domain.procedural and share_files(domain.source, clips):
            raise ConfigError(
                f"students.test_poses {clips} and the source {domain.source} of domain {domain.name} share files; give clips "
                "that no batch draws from"
            )


def needed_study(profile: Profile) -> "Study":
    """The study, where there must be one.

    Raises:
        RecipeError: the profile names none.
    """
    study = study_of(profile)
    if study is None:
        raise RecipeError("students.study is none: name a study, such as pocket")
    return study


def study_keys(profile: Profile) -> dict[str, list[str]]:
    """The partition keys that the profile's study asks for, by group."""
    study = study_of(profile)
    if study is None:
        return {}
    cfg = profile.students
    students = [
        student_key(name, draw, seed)
        for name in study.recipes
        for draw in range(study.draws)
        for seed in range(study.seeds)
    ]
    return {
        BENCH: [partition_key(name, 0) for name in (BENCH_RENDERS, BENCH_LOOKS)],
        BENCH_GENERATED: [partition_key(BENCH_GENERATED, 0)] if cfg.test_generated else [],
        BENCH_DOMAIN: [
            partition_key(f"{BENCH_DOMAIN}-{one.name}", 0) for one in study.domains.values() if one.procedural
        ],
        BENCH_CLIPS: [partition_key(BENCH_CLIPS, 0)] if cfg.test_poses else [],
        BENCH_USER: [partition_key(name, 0) for name in user_sets(profile)],
        DOMAIN: [key for one in study.domains.values() for key in domain_keys(one)],
        STUDENT: students,
    }


def extras_of(profile: Profile) -> tuple[str, ...]:
    """What the profile's study needs beside the rounds: images without alignment, domains."""
    study = study_of(profile)
    if study is None:
        return ()
    return (*(("unaligned",) if study.unaligned else ()), *(("domains",) if study.domains else ()))


def domains_of(profile: Profile) -> "list[Domain]":
    """Kinds of poses that the profile's study paints beside the rounds."""
    study = study_of(profile)
    return [] if study is None else list(study.domains.values())


def domain_keys(domain: "Domain") -> list[str]:
    """Its partitions."""
    return [partition_key(f"{DOMAIN}-{domain.name}", number) for number in range(domain.batches)]


def domain_of(profile: Profile, key: str) -> "Domain | None":
    """The domain of a partition of poses or of test images; None where the study has none of that name."""
    source = source_of(key)
    prefix = f"{BENCH_DOMAIN}-" if source.startswith(f"{BENCH_DOMAIN}-") else f"{DOMAIN}-"
    return next((one for one in domains_of(profile) if source == f"{prefix}{one.name}"), None)


def with_poses_of_domain(profile: Profile, key: str) -> Profile:
    """The profile with the pose source of a partition's domain.

    Raises:
        RecipeError: the study has no such domain.
    """
    domain = domain_of(profile, key)
    if domain is None:
        raise RecipeError(f"{key}: the study {profile.students.study!r} has no domain of that name")
    return replace(profile, poses=replace(profile.poses, source=domain.source, families=domain.families))


def user_sets(profile: Profile) -> dict[str, UserTestSet]:
    """The user's test sets by the source of their keys, `bench-user-NAME`.

    Raises:
        ConfigError: a name that cannot be one, or that two of them have.
    """
    found: dict[str, UserTestSet] = {}
    for one in profile.students.test_sets:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one.name):
            raise ConfigError(f"students.test_sets: name is {one.name!r}; expected a-z, 0-9 and '-'")
        if (source := f"{BENCH_USER}-{one.name}") in found:
            raise ConfigError(f"students.test_sets: two sets are named {one.name!r}")
        found[source] = one
    return found


def user_set_of(profile: Profile, key: str) -> UserTestSet | None:
    """The user's test set of a partition; None for other partitions."""
    return user_sets(profile).get(source_of(key))


def student_key(recipe: str, draw: int, seed: int) -> str:
    """`student-<recipe>-DDSS`."""
    return partition_key(f"{STUDENT}-{recipe}", 100 * draw + seed)


def student_of(key: str) -> tuple[str, int, int]:
    """Recipe, draw and seed of a student's key."""
    draw, seed = divmod(int(key.rpartition("-")[2]), 100)
    return source_of(key).removeprefix(f"{STUDENT}-"), draw, seed


def spec_of(profile: Profile) -> "StudentSpec":
    """How students are trained; of the default spec where there is no study."""
    from posedreamer_assets.students.spec import StudentSpec

    study = study_of(profile)
    return StudentSpec() if study is None else study.student


def sees_images(profile: Profile) -> bool:
    """Whether the study's students are trained on images."""
    return spec_of(profile).sees_images


def study_setting(profile: Profile, name: str, key: str) -> Any:
    """What of the study a partition depends on: other recipes change nothing in it."""
    if name == TEST_SET:
        own = user_set_of(profile, key)
        # Files are digested by what they hold: where they lie changes nothing.
        places = ("path", "images", "annotations", "camera")
        return None if own is None else {k: v is not None if k in places else v for k, v in asdict(own).items()}
    study = study_of(profile)
    if study is None:
        return None
    if name == OF_DOMAIN:
        domain = domain_of(profile, key)
        # Files are digested by what they hold.
        return None if domain is None else {"procedural": domain.procedural, "families": domain.families}
    if name == FEATURES:
        return {"init": study.student.init, "copies": study.student.copies}
    if name == SPEC:
        own = study.recipes.get(student_of(key)[0]) if key else None
        return {**study.student.settings(), "reseed": own is not None and own.reseed}
    if name == RECIPE:
        recipe = student_of(key)[0]
        if recipe not in study.recipes:
            return None
        return {one: _content(asdict(found)) for one, found in study.needed_by(recipe).items()}
    return {**{k: v for k, v in asdict(study).items() if k != "domains"}, "student": study.student.settings()}


def _content(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if name not in ("about", "paper", "reseed")}

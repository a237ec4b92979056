"""Profiles: everything that differs between a laptop and a cluster.

A profile is a YAML file under `profiles/` (or the user's own) that fills the frozen dataclasses of this package.
Domain functions take these dataclasses; nothing else reads YAML. Unknown keys and wrong types are errors.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from posedreamer_assets.config.arms import arm_names
from posedreamer_assets.config.bodies import YOUNGEST_YEARS, BodyConfig, CameraConfig, PosesConfig, ScenesConfig
from posedreamer_assets.config.captioning import CaptionsConfig
from posedreamer_assets.config.judging import (
    CounterConfig,
    CurationConfig,
    CurriculumConfig,
    DetectorConfig,
    QualityConfig,
    SegmenterConfig,
)
from posedreamer_assets.config.painting import PARKING, AlignmentConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.config.profile_paths import PROFILES_DIR, share_files, write_whole
from posedreamer_assets.config.studying import (
    LEAST_STAND_IN_PX,
    CrowdsConfig,
    LearningToTrainConfig,
    MixedConfig,
    PhotosConfig,
    Pose2dConfig,
    StudentsConfig,
    StyleConfig,
    TeacherConfig,
)
from posedreamer_assets.errors import ConfigError

ARM_STUDY = "arms"
"""Name of what the study `learning_to_train` trains on its data; there where the study names arms."""
BACKGROUND_STUDY = "backgrounds"
"""Name of what is made of the user's backgrounds before that study; there where `scenes.backgrounds` names a folder."""
# Backends that Flow-DPO cannot train, and why.
NOT_ALIGNED = {
    "sdxl": "predicts noise and alignment.method flow_dpo needs a flow-matching model",
    "zimage": "takes captions of a length each, which alignment.method flow_dpo does not",
    "klein": "sees the control image as a reference, which alignment.method flow_dpo has no place for",
    "qwenimage": "takes captions of a length each, which alignment.method flow_dpo does not",
}
# Backends of many steps whose blocks diffusers' cache knows; the others paint in a few, or are built otherwise.
CACHING = ("flux", "qwenimage")


@dataclass(frozen=True)
class Profile:
    """The whole configuration of a run."""

    name: str = "pocket"
    seed: int = 0
    image: ImageConfig = field(default_factory=ImageConfig)
    body: BodyConfig = field(default_factory=BodyConfig)
    poses: PosesConfig = field(default_factory=PosesConfig)
    cameras: CameraConfig = field(default_factory=CameraConfig)
    captions: CaptionsConfig = field(default_factory=CaptionsConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    ranker: DetectorConfig = field(default_factory=DetectorConfig)
    judge: DetectorConfig = field(default_factory=lambda: DetectorConfig(path="shipped:judge"))
    outside_judge: DetectorConfig | None = None
    counter: CounterConfig = field(default_factory=CounterConfig)
    segmenter: SegmenterConfig | None = None
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    curation: CurationConfig = field(default_factory=CurationConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    students: StudentsConfig = field(default_factory=StudentsConfig)
    learning_to_train: LearningToTrainConfig = field(default_factory=LearningToTrainConfig)
    crowds: CrowdsConfig = field(default_factory=CrowdsConfig)
    photos: PhotosConfig = field(default_factory=PhotosConfig)
    mixed: MixedConfig = field(default_factory=MixedConfig)
    style: StyleConfig = field(default_factory=StyleConfig)
    pose2d: Pose2dConfig = field(default_factory=Pose2dConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    @property
    def studies(self) -> tuple[str, ...]:
        """Names of the studies that are asked for, students first, and of what `learning_to_train` has before and after it."""
        asked = (*(() if self.students.off else ("students",)), *(n for n in study_names() if getattr(self, n).enabled))
        if not self.learning_to_train.enabled:
            return asked
        before = (BACKGROUND_STUDY,) if self.scenes.backgrounds else ()
        return (*before, *asked, *((ARM_STUDY,) if self.learning_to_train.arms else ()))


def study_names() -> tuple[str, ...]:
    """Studies that are made alone: the sections of a profile that can be enabled."""
    sections = typing.get_type_hints(Profile).items()
    return tuple(name for name, kind in sections if hasattr(kind, "enabled"))


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(p.stem for p in PROFILES_DIR.glob("*.yaml"))


def load_profile(name_or_path: str | Path = "pocket", overrides: dict[str, Any] | None = None) -> Profile:
    """Read a profile by name or path; `overrides` maps dotted keys ("poses.batches") to values.

    Raises:
        ConfigError: no such profile, bad YAML, an unknown key, a value of the wrong type, or values that exclude each other.
    """
    path = PROFILES_DIR / f"{name_or_path}.yaml"
    if not path.exists():
        path = Path(name_or_path)
    if not path.is_file():
        raise ConfigError(
            f"no profile {str(name_or_path)!r}; shipped ones: {', '.join(profile_names())}, or give a path"
        )
    text = path.read_text()
    return _profile_of(text, str(path), overrides) if overrides else _plain_profile_of(text, str(path))


@lru_cache(maxsize=8)
def _plain_profile_of(text: str, where: str) -> Profile:
    """A step of a run reads its home's profile several times, and YAML is slow to read."""
    return _profile_of(text, where, {})


def _profile_of(text: str, where: str, overrides: dict[str, Any]) -> Profile:
    try:
        tree = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error
    for dotted, value in overrides.items():
        _set_dotted(tree, dotted, value)
    profile = _build(Profile(), tree, where)
    _check_together(profile, where)
    return profile


def _check_together(profile: Profile, where: str) -> None:
    """Find what cannot work before anything is painted."""
    if (why := NOT_ALIGNED.get(profile.generator.backend)) and profile.alignment.method == "flow_dpo":
        raise ConfigError(
            f"{where}: generator.backend {profile.generator.backend} {why}; "
            "set alignment.method to none, or take another backend"
        )
    _check_large(profile, where)
    if not 0 <= profile.generator.control_strength <= 2:
        raise ConfigError(
            f"{where}: generator.control_strength is {profile.generator.control_strength:g}; expected 0 to 2"
        )
    if profile.photos.kind == "stand_in" and (profile.photos.path or profile.photos.annotations):
        raise ConfigError(
            f"{where}: photos.path and photos.annotations name photographs, and photos.kind is stand_in; set it to coco or mpii"
        )
    if profile.photos.groups is not None and profile.photos.kind != "mpii":
        raise ConfigError(f"{where}: photos.groups is for photos.kind mpii; found {profile.photos.kind}")
    if profile.photos.test_groups is not None and profile.photos.test_groups < 1:
        raise ConfigError(
            f"{where}: photos.test_groups is {profile.photos.test_groups}; expected 1 or more, or null to go by photos.test_share"
        )
    if profile.photos.size < LEAST_STAND_IN_PX:
        raise ConfigError(
            f"{where}: photos.size is {profile.photos.size}; expected {LEAST_STAND_IN_PX} or more: people of a stand-in would be "
            "too small to be annotated"
        )
    if (profile.style.kind == "wct2") != (profile.style.weights is not None):
        raise ConfigError(
            f"{where}: style.kind wct2 and style.weights go together; found {profile.style.kind} and {profile.style.weights}"
        )
    if profile.crowds.cycles_samples < 1:
        raise ConfigError(f"{where}: crowds.cycles_samples is {profile.crowds.cycles_samples}; expected 1 or more")
    if profile.crowds.min_background_px < 1:
        raise ConfigError(
            f"{where}: crowds.min_background_px is {profile.crowds.min_background_px}; expected 1 or more"
        )
    _check_renders(profile, where)
    _check_captions(profile.captions, where)
    _check_test_poses(profile, where)
    _check_arms(profile, where)
    ages = profile.poses.ages
    if len(ages) != 2 or not YOUNGEST_YEARS <= ages[0] <= ages[1]:
        raise ConfigError(
            f"{where}: poses.ages is {list(ages)}; expected [youngest, oldest] in years, both from {YOUNGEST_YEARS:g} on"
        )
    if not 0 <= profile.poses.val_share < 1:
        raise ConfigError(f"{where}: poses.val_share is {profile.poses.val_share:g}; expected a share below 1")
    for name in ("micro_pairs", "save_every", "reference_every"):
        if (count := getattr(profile.alignment, name)) < 0:
            raise ConfigError(f"{where}: alignment.{name} is {count}; expected 0 or more")
    if (held_out := profile.alignment.val_share + profile.alignment.test_share) >= 1:
        raise ConfigError(
            f"{where}: alignment.val_share and alignment.test_share are {held_out:g} together and leave no poses to train on"
        )


def _check_large(profile: Profile, where: str) -> None:
    """Settings of memory and speed that the backend has no place for, or that exclude each other."""
    cfg = profile.generator
    if cfg.memory == "park_text" and cfg.backend not in PARKING:
        raise ConfigError(f"{where}: generator.memory park_text is for {', '.join(PARKING)}; found {cfg.backend}")
    if cfg.cache_interval and cfg.backend not in CACHING:
        raise ConfigError(f"{where}: generator.cache is for {' and '.join(CACHING)}; found {cfg.backend}")
    if cfg.cache_interval and cfg.compile:
        raise ConfigError(
            f"{where}: generator.cache leaves blocks out that generator.compile has compiled; set one of the two"
        )
    if cfg.block < 1:
        raise ConfigError(f"{where}: generator.batch_size is {cfg.batch_size}; expected 1 or more, or auto")
    usual = GeneratorConfig()
    for name in ("loras", "precision", "bake", "compile", "attention"):
        if cfg.backend == "pocket" and getattr(cfg, name) != getattr(usual, name):
            raise ConfigError(f"{where}: generator.{name} is for large generators; found pocket")
    if not all(lora.path for lora in cfg.loras):
        raise ConfigError(f"{where}: generator.loras: each needs a path")
    if cfg.precision in ("auto", "fp8") and profile.alignment.method == "flow_dpo":
        may = ", which generator.precision auto may be" if cfg.precision == "auto" else ""
        raise ConfigError(
            f"{where}: alignment.method flow_dpo cannot train over weights in fp8{may}; set generator.precision to bf16, int8 or "
            "nf4, or alignment.method to none"
        )
    if cfg.bake is False and cfg.precision != "bf16" and cfg.backend == "flux" and cfg.control_lora_path:
        raise ConfigError(
            f"{where}: generator.bake false: a control LoRA is merged before weights are stored in {cfg.precision}; set auto"
        )


def _check_renders(profile: Profile, where: str) -> None:
    """Some batches alone may be rendered only where nothing else needs the renders of all."""
    batches, curation = profile.scenes.reference_batches, profile.curation
    if batches is None:
        return
    if batches < 1:
        raise ConfigError(
            f"{where}: scenes.reference_batches is {batches}; expected 1 or more, or null for all batches"
        )
    if curation.relative_oks or curation.min_render_oks:
        raise ConfigError(
            f"{where}: curation.relative_oks and curation.min_render_oks go by renders of every pose; set "
            "scenes.reference_batches to null"
        )
    if not profile.students.off:
        raise ConfigError(f"{where}: students learn from renders of every batch; set scenes.reference_batches to null")


def _check_test_poses(profile: Profile, where: str) -> None:
    """What is tested on is never trained on."""
    tested, drawn = profile.students.test_poses, profile.poses.source
    if tested is not None and drawn != "procedural" and share_files(drawn, tested):
        raise ConfigError(
            f"{where}: students.test_poses {tested} and poses.source {drawn} share files; give clips that no batch draws from"
        )


def _check_captions(captions: CaptionsConfig, where: str) -> None:
    if (captions.kind != "grammar") != (captions.path is not None):
        raise ConfigError(
            f"{where}: captions.kind file (or vlm) and captions.path go together; found {captions.kind} "
            f"and {captions.path}"
        )
    if (captions.kind == "vlm") != (captions.model is not None):
        raise ConfigError(f"{where}: captions.kind vlm and captions.model go together; found {captions.model}")
    for name, least in (("batch_size", 1), ("max_tokens", 1), ("photo_side", 56)):
        if getattr(captions, name) < least:
            raise ConfigError(f"{where}: captions.{name} is {getattr(captions, name)}; expected {least} or more")


def _check_arms(profile: Profile, where: str) -> None:
    asked = profile.learning_to_train
    if unknown := [name for name in asked.arms if name not in arm_names()]:
        raise ConfigError(f"{where}: learning_to_train.arms: no arm {unknown[0]!r}; there are {', '.join(arm_names())}")
    if len(set(asked.arms)) < len(asked.arms):
        raise ConfigError(f"{where}: learning_to_train.arms names an arm twice: {', '.join(asked.arms)}")
    if profile.pose2d.baseline is None and profile.pose2d.layout == "pocket":
        raise ConfigError(f"{where}: pose2d.baseline null is for layout vgg19; found pocket")
    for name, least in (("seeds", 1), ("bootstrap", 1), ("test_scene_batches", 1)):
        if getattr(asked, name) < least:
            raise ConfigError(f"{where}: learning_to_train.{name} is {getattr(asked, name)}; expected {least} or more")


def profile_to_dict(profile: Any) -> dict[str, Any]:
    """The profile (or a section of it) as plain values, for YAML, JSON and digests."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(profile).items()}


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile that `load_profile` reads back equal."""
    plain = yaml.safe_load(yaml.safe_dump(_plain(dataclasses.asdict(profile))))
    write_whole(path, yaml.safe_dump(plain, sort_keys=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _set_dotted(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for key in parents:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{dotted}: {key!r} is a value, not a section")
    tree[last] = value


def _build(defaults: Any, tree: Any, where: str) -> Any:
    """`defaults`, a dataclass instance, with the fields that the tree names exchanged."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: expected a mapping, found {tree!r}")
    hints = typing.get_type_hints(type(defaults))
    unknown = sorted(set(tree) - set(hints))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(hints)}")
    changed = {k: _convert(hints[k], v, f"{where}: {k}", getattr(defaults, k)) for k, v in tree.items()}
    return dataclasses.replace(defaults, **changed)


def _convert(hint: Any, value: Any, where: str, default: Any) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    words = [o for o in options if typing.get_origin(o) is Literal] if len(options) > 1 else []
    if any(value in typing.get_args(word) for word in words):
        return value
    (kind,) = [o for o in options if o is not type(None) and o not in words]
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        named = ", ".join(str(c).lower() if isinstance(c, bool) else c for c in choices)
        raise ConfigError(f"{where}: expected one of {named}, found {value!r}")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build(default if isinstance(default, kind) else kind(), value, where)
    if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        element = typing.get_args(kind)[0]
        return tuple(_convert(element, v, where, None) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: expected {hint}, found {value!r}")

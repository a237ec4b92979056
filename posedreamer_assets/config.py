"""Profiles: everything that differs between a laptop and a cluster.

A profile is a YAML file under `profiles/` (or the user's own) that fills the frozen dataclasses below.
Domain functions take these dataclasses; nothing else reads YAML. Unknown keys and wrong types are errors.
"""

import dataclasses
import os
import threading
import types
import typing
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from posedreamer_assets.errors import ConfigError
from posedreamer_assets.study_config import (
    LEAST_STAND_IN_PX,
    CrowdsConfig,
    LearningToTrainConfig,
    MixedConfig,
    PhotosConfig,
    StudentsConfig,
    StyleConfig,
)

PROFILES_DIR, WEIGHTS_DIR = (Path(__file__).parent / name for name in ("profiles", "weights"))
_SHIPPED = "shipped:"


def local_path(path: str) -> Path:
    """A path of a profile; `shipped:NAME` is a folder of weights that comes with the package."""
    return WEIGHTS_DIR / path.removeprefix(_SHIPPED) if is_shipped(path) else Path(path).expanduser()


def is_shipped(path: str) -> bool:
    """Whether a path of a profile names weights that come with the package."""
    return path.startswith(_SHIPPED)


YOUNGEST_YEARS = 6.0
"""Of bodies: the shipped one was made of adults, and its smaller ones are adults' proportions."""


@dataclass(frozen=True)
class ImageConfig:
    """Size of every control map and image, in pixels."""

    width: int = 128
    height: int = 128
    format: str = "png"  # how generated images are stored: png (lossless) or jpeg


@dataclass(frozen=True)
class BodyConfig:
    """`model_path`: an SMPL-X npz; null means the shipped free body."""

    model_path: str | None = None


@dataclass(frozen=True)
class PosesConfig:
    """How many poses are made and from what."""

    source: str = "procedural"  # `procedural`, or a folder (or s3:// URI) of BVH / AMASS npz / fit npz files
    files_per_batch: int = 16  # pose files that one batch draws its frames from, at most
    families: tuple[str, ...] = ()  # procedural families; empty means all
    batch_size: int = 96
    batches: int = 5
    align_batches: int = 5
    up_axis: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"  # of pose files; auto decides from each file
    frame_stride_s: float = 0.5  # smallest time between two frames taken from one mocap clip
    val_share: float = 0.05  # of clips, and of procedural poses, whose images are of split val; all others are train
    ages: tuple[float, float] = (18.0, 65.0)  # years, youngest (from 6) and oldest; of bodies whose source has no shape


@dataclass(frozen=True)
class CameraConfig:
    """Ranges that cameras are sampled from; angles in degrees, lengths in multiples of the image height."""

    focal_min: float = 1.2
    focal_max: float = 2.2
    pitch_min_deg: float = 0.0
    pitch_max_deg: float = 45.0
    roll_std_deg: float = 4.0
    fill_min: float = 0.62  # share of the frame that the body's larger side fills
    fill_max: float = 0.9
    truncated_share: float = 0.1  # share of samples framed with a limb or more cut off on purpose


@dataclass(frozen=True)
class ScenesConfig:
    """Rendered scenes; `backgrounds`: a folder of images, null means procedural ones."""

    backgrounds: str | None = None
    reference_share: float = 0.5  # share of scenes held out as FID reference
    supersample: int = 2


@dataclass(frozen=True)
class GeneratorConfig:
    """The image generator. `backend`: pocket, flux or sdxl; paths are null for shipped weights.

    `control`: which map of the body it is given: `mesh`, the mesh-to-RGB image of the pocket generator and of the paper's
    control LoRA; `depth` or `normals`, for what was trained on those. `revision`: commit or tag of `model_path` on the model
    hub, where that is a name and no folder; null is the newest, which may be another tomorrow.
    """

    backend: str = "pocket"
    model_path: str | None = None
    control_lora_path: str | None = None
    revision: str | None = None
    control: Literal["mesh", "depth", "normals"] = "mesh"
    steps: int = 4
    guidance: float = 1.0
    batch_size: int = 16
    dtype: str = "auto"  # bfloat16 where the device multiplies in it, else float32
    device: str = "auto"


@dataclass(frozen=True)
class DetectorConfig:
    """One keypoint detector. `kind`: vitpose, heatmap, or onnx (MoveNet, RTMPose and YOLO-pose files)."""

    kind: str = "heatmap"
    path: str = "shipped:ranker"  # a folder of weights or an ONNX file; `shipped:NAME` comes with the package
    batch_size: int = 32
    on_photographs: bool = (
        False  # let a shipped one, which has seen renderings alone, judge what a large generator paints
    )


@dataclass(frozen=True)
class CounterConfig:
    """Counts the people of an image. `path`: the shipped one, a folder of weights, or an ONNX file of a detector of several
    people (MoveNet multi-pose, YOLO-pose). `threshold`: the least score of a person; null is the weights' own."""

    path: str = "shipped:counter"
    threshold: float | None = None
    batch_size: int = 32


@dataclass(frozen=True)
class AlignmentConfig:
    """Preference pairs and Flow-DPO (paper section 3.2).

    `method`: flow_dpo, or none, which uses the generator as it is and paints no candidates.
    `candidate_strengths`: one candidate of each pose per entry, painted with the control image at that strength; the
    paper's are all 1. Images of a weaker control, or of none, show what not following it looks like, which candidates of
    a small model at full strength, whose poses differ by chance alone, hardly do.
    `max_epochs`: training ends after so many passes over the training pairs, or after `steps`: few pairs shown often are
    learnt by heart, and images get worse while the loss on validation pairs still falls.
    `body_weight`: how much more a token full of body counts in the errors; 0 is the paper's mean. `half_images`: train on
    the half of each image that shows most of the body, which the generator must have been trained on, too.
    """

    method: Literal["flow_dpo", "none"] = "flow_dpo"
    candidate_strengths: tuple[float, ...] = (1.0, 1.0, 0.5, 0.0)
    min_gap: float = 0.05
    min_winner: float = 0.5
    val_share: float = 0.1
    test_share: float = 0.5
    test_draws: int = 4  # images of each test pose at most, without and with the adapter; half where those settle it
    beta: float = 500.0
    learning_rate: float = 1e-3
    lora_rank: int = 16
    batch_size: int = 16
    steps: int = 60
    max_epochs: float = 1.0
    eval_every: int = 30
    body_weight: float = 4.0
    half_images: bool = True
    latent_cache: bool = True

    @property
    def off(self) -> bool:
        """Whether the generator is used as it is."""
        return self.method == "none"


@dataclass(frozen=True)
class CurationConfig:
    """Thresholds of the filter; a sample is kept when it passes all of them."""

    min_oks: float = 0.8
    relative_oks: float = 0.0  # if above 0: share of the judge's OKS on a render that is asked for where there is one
    min_render_oks: float = 0.0  # of poses: the judge cannot read those whose render it reads worse than that
    per_family_quota: float = 0.0  # share of a family's images in a batch that is kept at least, the best by OKS
    max_people: int = 1
    max_head_error_deg: float = 45.0


@dataclass(frozen=True)
class RoundConfig:
    """A round of hard poses: so many batches of so many poses."""

    batches: int = 1
    size: int = 96


@dataclass(frozen=True)
class CurriculumConfig:
    """Difficulty models and the rounds of hard poses, `hard`, `hard2`, ...; each learns from all rounds before it."""

    rounds: tuple[RoundConfig, ...] = (RoundConfig(),)
    pool_size: int = 3072
    min_distance: float = 0.15  # smallest pose distance between two hard samples, in the difficulty model's features
    boost_rounds: int = 200
    learning_rate: float = 0.05
    folds: int = 5


@dataclass(frozen=True)
class QualityConfig:
    """`reference`: a folder of real images, null means the held-out rendered scenes."""

    reference: str | None = None
    bootstrap: int = 200
    neighbours: int = 3
    max_images: int = 4096


@dataclass(frozen=True)
class Profile:
    """The whole configuration of a run."""

    name: str = "pocket"
    seed: int = 0
    image: ImageConfig = field(default_factory=ImageConfig)
    body: BodyConfig = field(default_factory=BodyConfig)
    poses: PosesConfig = field(default_factory=PosesConfig)
    cameras: CameraConfig = field(default_factory=CameraConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    ranker: DetectorConfig = field(default_factory=DetectorConfig)
    judge: DetectorConfig = field(default_factory=lambda: DetectorConfig(path="shipped:judge"))
    outside_judge: DetectorConfig | None = None
    counter: CounterConfig = field(default_factory=CounterConfig)
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

    @property
    def studies(self) -> tuple[str, ...]:
        """Names of the studies that are asked for, students first."""
        return (*(() if self.students.off else ("students",)), *(n for n in study_names() if getattr(self, n).enabled))


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
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    for dotted, value in (overrides or {}).items():
        _set_dotted(tree, dotted, value)
    profile = _build(Profile(), tree, str(path))
    _check_together(profile, str(path))
    return profile


def _check_together(profile: Profile, where: str) -> None:
    """Find what cannot work before anything is painted."""
    if profile.generator.backend == "sdxl" and profile.alignment.method == "flow_dpo":
        raise ConfigError(
            f"{where}: generator.backend sdxl predicts noise and alignment.method flow_dpo needs a flow-matching model; "
            "set alignment.method to none, or take another backend"
        )
    if profile.photos.kind == "coco" and not (profile.photos.path and profile.photos.annotations):
        raise ConfigError(f"{where}: photos.kind coco needs photos.path and photos.annotations")
    if profile.photos.size < LEAST_STAND_IN_PX:
        raise ConfigError(
            f"{where}: photos.size is {profile.photos.size}; expected {LEAST_STAND_IN_PX} or more: people of a stand-in would be "
            "too small to be annotated"
        )
    ages = profile.poses.ages
    if len(ages) != 2 or not YOUNGEST_YEARS <= ages[0] <= ages[1]:
        raise ConfigError(
            f"{where}: poses.ages is {list(ages)}; expected [youngest, oldest] in years, both from {YOUNGEST_YEARS:g} on"
        )
    if not 0 <= profile.poses.val_share < 1:
        raise ConfigError(f"{where}: poses.val_share is {profile.poses.val_share:g}; expected a share below 1")
    if (held_out := profile.alignment.val_share + profile.alignment.test_share) >= 1:
        raise ConfigError(
            f"{where}: alignment.val_share and alignment.test_share are {held_out:g} together and leave no poses to train on"
        )


def profile_to_dict(profile: Any) -> dict[str, Any]:
    """The profile (or a section of it) as plain values, for YAML, JSON and digests."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(profile).items()}


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile that `load_profile` reads back equal."""
    plain = yaml.safe_load(yaml.safe_dump(_plain(dataclasses.asdict(profile))))
    write_whole(path, yaml.safe_dump(plain, sort_keys=False))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that another process reads the former content or the new one, never a part.

    Its permissions are those of any new file, so that colleagues can read it.

    Raises:
        OSError: the disk is full or must not be written; the error names the file, and the former content stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


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
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    (kind,) = [o for o in options if o is not type(None)]
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        raise ConfigError(f"{where}: expected one of {', '.join(choices)}, found {value!r}")
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

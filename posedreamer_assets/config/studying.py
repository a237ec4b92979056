"""Sections of a profile that studies have, see `profile.py`."""

from dataclasses import dataclass
from typing import Literal

from posedreamer_assets.config.arms import arm_names

LEAST_STAND_IN_PX = 64
"""Smallest side of a stand-in: an adult six metres away has about as many pixels there as one who is annotated needs."""


@dataclass(frozen=True)
class LearningToTrainConfig:
    """The study `learning_to_train`: scenes of many people, people painted into photographs, and what is learnt from them. Off
    unless asked for.

    `arms`: what networks are trained on, see `arms.py`; none leaves it at the data. `seeds`: trainings of each arm.
    `test_scene_batches`: of scenes that nothing is trained on, which arms without mixtures and groups are tested on.
    `bootstrap`: resamples of photographs and seeds that intervals come from.
    """

    enabled: bool = False
    scene_batches: int = 4
    test_scene_batches: int = 1
    photo_batches: int = 6
    arms: tuple[str, ...] = arm_names()
    seeds: int = 3
    bootstrap: int = 1000


@dataclass(frozen=True)
class CrowdsConfig:
    """Scenes of many people (D_S): `people_mean` is that of a Poisson distribution, `size` that of the square image.

    `renderer`: of the pictures alone, whatever makes them labels are the same: raster, or cycles, which is Blender's and needs
    `cycles_python`, a Python that has `bpy` (or POSEDREAMER_CYCLES_PYTHON), see docs/scenes.md.
    `shadows_on_people`: whether the rasteriser lets people of scenes and mixtures shade each other and themselves.
    `min_background_px`: of the smaller side of images in `scenes.backgrounds`; smaller ones are refused.
    """

    people_mean: float = 9.0
    pitch_min_deg: float = 0.0
    pitch_max_deg: float = 45.0
    size: int = 320  # pixels
    max_tries: int = 60  # places that are tried for a person before it is left out
    batch_size: int = 25  # scenes of a batch
    families: tuple[str, ...] = ()  # procedural families; empty means all
    renderer: Literal["raster", "cycles"] = "raster"
    cycles_python: str | None = None
    cycles_samples: int = 64  # light paths of a pixel
    shadows_on_people: bool = True
    min_background_px: int = 512


@dataclass(frozen=True)
class PhotosConfig:
    """Annotated photographs (D_R). `kind`: stand_in, a rendered domain that is held apart, coco or mpii.

    `path`: folder of the photographs; `annotations`: COCO keypoints JSON, or MPII's .mat file. Both are needed for both, before
    anything is made.
    Of mpii alone: `groups`, its toolkit's groups_v12.mat (without it, people who stand together are groups); `test_groups`, how
    many groups are tested on, in place of `test_share`: photographs that are drawn by a hash of their names.
    """

    kind: Literal["stand_in", "coco", "mpii"] = "stand_in"
    path: str | None = None
    annotations: str | None = None
    groups: str | None = None
    test_groups: int | None = None
    batch_size: int = 25  # photographs of a batch
    size: int = 288  # of stand-ins, pixels; LEAST_STAND_IN_PX or more
    stand_in: Literal["raster", "traced"] = "raster"  # who draws them: the scenes' rasteriser, or Mitsuba, an extra
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
    """Synthetic people made like a photograph's (D_Style). `kind`: closed_form, or wct2, a network whose weights are in the
    safetensors file `weights`, see docs/scenes.md. `min_pixels`: the least region that colours are learnt from.
    """

    min_pixels: int = 50
    kind: Literal["closed_form", "wct2"] = "closed_form"
    weights: str | None = None


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
class Pose2dConfig:
    """The 2D pose student of `learning_to_train`, see docs/pose2d.md. Defaults fit 150 steps into about 75 CPU seconds.

    `layout`: pocket, a narrow encoder-decoder at stride 4, or vgg19, the first ten layers of VGG19 at stride 8. `baseline`:
    folder of the weights of the whole network that arms start from; null, of layout vgg19 alone, starts from VGG19's layers in
    the safetensors file `vgg19` (torchvision's names) and draws the rest. A teacher as wide as VGG19 starts from that file,
    too. `masks`: what of synthetic people is masked in arms with masks: the cells of their `targets`, or their `silhouette`.
    Lengths with `_px` are pixels of a crop.
    """

    layout: Literal["pocket", "vgg19"] = "pocket"
    width: int = 24  # channels of the pocket layout at stride 4
    stages: int = 2
    size: int = 128  # of square crops, pixels; a multiple of 32, of 8 for vgg19
    sigma_px: float = 5.0  # of heat maps
    limb_px: float = 4.0  # half the width of a limb in affinity fields
    person_share: float = 0.6  # of the crop's side that the person in its middle is long, before scaling
    scale_min: float = 0.6
    scale_max: float = 1.4
    rotate_deg: float = 30.0
    shift_share: float = 0.136  # of the crop's side, at most, in x and y
    batch: int = 16  # half real, half synthetic
    steps: int = 150
    frozen: int = 4  # first convolutions that an arm leaves as the baseline has them
    foreground: float = 12.0  # how much more a peak weighs than empty cells; half as much for limbs; 0 is plain L2
    learning_rate: float = 3e-4
    beta1: float = 0.9
    decay_steps: int = 20_000  # after so many the rate is a third
    average: float = 0.97  # of the weights, per step; 0 keeps those of the last step
    masks: Literal["targets", "silhouette"] = "targets"
    baseline: str | None = "shipped:pose2d"
    vgg19: str | None = None
    scales: tuple[float, ...] = (1.0,)  # of an image, times what brings its people to the size that crops have


@dataclass(frozen=True)
class TeacherConfig:
    """Who chooses the groups of synthetic people that a student trains on: a network (`adversarial`), or chance (`uniform`).

    The paper's authors have windows of 20 steps, a history of 10, alpha 0.01 and a rate of 5e-5; 150 steps need larger ones.
    """

    kind: Literal["adversarial", "uniform"] = "adversarial"
    groups: int = 10
    window: int = 5  # steps that one choice lasts
    history: int = 5  # windows that eq. 1 looks back
    alpha: float = 0.2  # of eq. 2
    epsilon: float = 0.1  # share of choices that are made at random
    spread: Literal["variance_rad", "tenth_of_range"] = "variance_rad"
    min_samples: int = 32  # people of a group that may be chosen
    narrow: int = 4  # what the widths of the authors' network are divided by
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class StudentsConfig:
    """What the data is worth. `study`: none, a shipped study (`pocket`, `ablation`, `paper`), or a YAML file of recipes.

    `images`: what `budget` stands for in recipes, at most: fewer where the filter keeps fewer images of the base round.
    `test_poses`: a folder of pose files that no batch draws from, whose poses become the test set bench-clips.
    """

    study: str = "none"
    images: int = 320
    test_renders: int = 192  # test images of bench-renders, and of bench-looks, which has the same poses
    test_generated: int = 96  # of bench-generated
    pelvis: Literal["posed-mesh", "chain", "hips"] = "posed-mesh"  # where bodies are laid over each other
    test_poses: str | None = None
    test_clips: int = 96  # of bench-clips
    test_sets: tuple[UserTestSet, ...] = ()  # of the user's own files

    @property
    def off(self) -> bool:
        """Whether no student is trained."""
        return self.study == "none"

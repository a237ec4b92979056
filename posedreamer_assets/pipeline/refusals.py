"""What is refused before anything is made, whoever asks for it: the command line, a backfill of the UI, a sensor.

Nothing is loaded for it. What fails so would fail hours later, or at each of a thousand partitions.
"""

from collections.abc import Iterable

from posedreamer_assets.config import Profile, is_shipped, local_path
from posedreamer_assets.errors import CaptionError, DetectorError, PoseDreamerError, StudentError
from posedreamer_assets.hub import DETECTORS, is_hub_name
from posedreamer_assets.pipeline.rounds import check_planned
from posedreamer_assets.pipeline.stage import Stage
from posedreamer_assets.pipeline.student_study import sees_images, spec_of
from posedreamer_assets.students.archs import RANDOM

_DETECTORS = ("ranker", "judge", "outside_judge", "counter")
_MODELS = ("generator", "captions", "students", *_DETECTORS)
"""Sections of a profile that name models."""


def refuse_unmakeable(profile: Profile, stage: Stage) -> None:
    """Refuse a stage that the profile plans nothing for, or whose models are missing.

    Raises:
        ConfigError: no poses, or none to align with, where the stage learns from them.
        BackendError: as `require_models`, for the generator where the stage paints.
        DetectorError: as `require_models`, for the detectors that the stage looks with.
        PhotoError: as `require_study_files`.
        RenderError: as `require_renderer`.
        StudentError: as `require_models` and `require_study_files`, for what students start from.
    """
    require_renderer(profile, (stage,))
    require_study_files(profile, (stage,))
    if "alignment" in stage.settings:  # others have no partitions then, and nothing to refuse
        check_planned(profile)
    names = [name for name in stage.settings if name in _MODELS]
    require_models(profile, [*names, "students"] if "student_init" in stage.files else names)


def require_renderer(profile: Profile, stages: Iterable[Stage]) -> None:
    """Refuse to begin without Blender, Mitsuba or a network for style where one of these stages makes pictures with it.

    Raises:
        RenderError: no Python is named that has Blender, no Mitsuba is installed, or the network's file is missing or not
            of its layout.
    """
    settings = {name for stage in stages for name in stage.under(stage, profile).settings}
    if "crowds.renderer" in settings:
        from posedreamer_assets.scenes.blender import python_of

        python_of(profile.crowds)
    if "photos.stand_in" in settings:
        from posedreamer_assets.scenes.traced import require_mitsuba

        require_mitsuba()
    if "style.kind" in settings and profile.style.weights is not None:
        from posedreamer_assets.scenes.wct2_file import layout_of

        layout_of(profile.style.weights)


def require_study_files(profile: Profile, stages: Iterable[Stage]) -> None:
    """Refuse to begin without the photographs and weights that some of these stages read; nothing is opened.

    Raises:
        PhotoError: photographs that are not named or not there.
        StudentError: no weights that a 2D pose student starts from, likewise.
    """
    files = {name for stage in stages for name in stage.files}
    if "photos" in files:
        from posedreamer_assets.scenes.photo_files import require_named

        require_named(profile.photos)
    if "pose2d" in files:
        from posedreamer_assets.people2d.start import require_start

        require_start(profile.pose2d)


def try_study_files(profile: Profile, stages: Iterable[Stage]) -> None:
    """Refuse what these stages would fail with after hours that others take: annotations and weights are read.

    Raises:
        PhotoError: annotations of another kind, fewer photographs than batches are asked for, or files that are not there.
        StudentError: weights of another network.
    """
    files = {name for stage in stages for name in stage.files}
    if "photos" in files and profile.photos.kind != "stand_in":
        from posedreamer_assets.scenes.photo_files import require_batches

        require_batches(profile.photos, profile.learning_to_train.photo_batches)
    if "pose2d" in files:
        from posedreamer_assets.people2d.network import load_baseline

        load_baseline(profile.pose2d)


def require_models(profile: Profile, names: Iterable[str] = _MODELS) -> None:
    """Refuse to begin without the models that images are described, painted and judged with; nothing is loaded.

    Args:
        profile: that names them.
        names: sections of the profile whose models are needed.

    Raises:
        BackendError: a generator that is neither on this computer nor to be downloaded, or too large for the GPU.
        AlignmentError: Flow-DPO that the GPU has no room for.
        CaptionError: a model that describes photographs, likewise.
        DetectorError: a detector's file that is missing, or a shipped one that would judge photographs.
        StudentError: a checkpoint that students which see images start from, likewise.
    """
    from posedreamer_assets.diffusion.memory import gpu_gb, require_room
    from posedreamer_assets.diffusion.sources import require
    from posedreamer_assets.diffusion.training_plan import require_training_room

    names = tuple(names)
    if "generator" in names and profile.generator.backend != "pocket":
        require(profile.generator)
        require_room(profile.generator, profile.image, gpu_gb())
        require_training_room(profile.generator, profile.image, profile.alignment, gpu_gb())
    if "captions" in names and (model := profile.captions.model) is not None and not local_path(model).is_dir():
        _require_hub_model("captions.model", model, profile.captions.revision, CaptionError)
    if "students" in names and sees_images(profile):
        spec = spec_of(profile)
        if spec.init != RANDOM and not local_path(spec.init).is_dir():
            _require_hub_model(
                "student.init", spec.init, spec.revision or None, StudentError, "its section in the study"
            )
    for name in (one for one in _DETECTORS if one in names):
        detector = getattr(profile, name)
        if detector is None:
            continue
        if is_hub_name(detector.path) and detector.kind in DETECTORS:
            _require_hub_model(f"{name}.path", detector.path, detector.revision, DetectorError)
        elif not local_path(detector.path).exists():
            raise DetectorError(
                f"{name}.path: nothing at {local_path(detector.path)}: --set {name}.path=FILE; docs/generators.md names some"
            )
    for name in ("judge",) if profile.alignment.off else ("judge", "ranker"):
        detector = getattr(profile, name)
        photographs = profile.generator.backend != "pocket" and not detector.on_photographs
        if name in names and photographs and is_shipped(detector.path):
            raise DetectorError(
                f"{name}.path: {detector.path} has seen renderings alone, and {profile.generator.backend} paints photographs: "
                f"--set {name}.kind=onnx --set {name}.path=FILE (docs/generators.md), or --set {name}.on_photographs=true"
            )


def _require_hub_model(
    setting: str, model: str, revision: str | None, kind: type[PoseDreamerError], place: str = ""
) -> None:
    """`place` is where a folder may be named instead; a setting of the profile by default."""
    from posedreamer_assets.hub import ask, is_here

    if not is_hub_name(model):
        raise kind(f"{setting}: no folder {model}, which is no name on the model hub (owner/model) either")
    if not is_here(model, revision) and (why := ask(model, revision)):
        remedy = f"name a folder in {place}" if place else f"--set {setting}=FOLDER"
        raise kind(f"{setting}: {model} is not on this computer, and {why}; or {remedy}")

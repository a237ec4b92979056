"""`posedreamer doctor`: what is there, what is missing, and how to get it."""

import ctypes.util
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posedreamer_assets.cli.doctor_studies import (
    look_at_blender,
    look_at_mitsuba,
    look_at_photographs,
    look_at_pose2d,
    look_at_style,
)
from posedreamer_assets.cli.finding import Finding
from posedreamer_assets.config import CounterConfig, DetectorConfig, Pose2dConfig, Profile
from posedreamer_assets.errors import AlignmentError, PoseDreamerError, StorageError
from posedreamer_assets.runtime.home import Home

if TYPE_CHECKING:
    from posedreamer_assets.poses.folder import Folder

NEEDED_DISK_GB = 2.0
POSE_FILES_TRIED = 40  # the first in the order of batches, which is mixed over the folder; all would take minutes
ONE_FRAME_S = 86400.0  # a stride longer than any clip


def examine(home: Home, profile: Profile, *, training: bool = False) -> list[Finding]:
    """Look at everything that the main job needs.

    Args:
        home: where it would run.
        profile: what it would run.
        training: plan the memory of Flow-DPO, too, which takes seconds; on a GPU that is done anyhow.
    """
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("OpenGL", look_at_gl),
        ("lightgbm", look_at_lightgbm),
        ("GPU", lambda: look_at_gpu(profile)),
        ("body model", lambda: look_at_body(profile)),
        ("poses", lambda: look_at_poses(profile)),
        ("captions", lambda: look_at_captions(profile)),
        ("generator weights", lambda: look_at_generator(profile)),
        ("generator licence", lambda: look_at_licence(profile)),
        ("generator memory", lambda: look_at_memory(profile)),
        ("ranking detector", lambda: look_at_detector(profile, "ranker")),
        ("judging detector", lambda: look_at_detector(profile, "judge")),
        ("person counter", lambda: look_at_counter(profile)),
        ("outside judge", lambda: look_at_outside_judge(profile)),
        ("storage", lambda: look_at_storage(home)),
        ("disk", lambda: look_at_disk(home, profile)),
    ]
    if training or (profile.generator.backend != "pocket" and not profile.alignment.off):
        after = [name for name, _ in looks].index("generator memory") + 1
        looks.insert(after, ("training memory", lambda: look_at_training(profile, training)))
    if profile.segmenter is not None:
        looks.append(("segmenter", lambda: look_at_segmenter(profile)))
    if profile.crowds.renderer == "cycles":
        looks.append(("Blender", lambda: look_at_blender(profile)))
    if profile.photos.kind == "stand_in" and profile.photos.stand_in == "traced":
        looks.append(("Mitsuba", look_at_mitsuba))
    if profile.photos.kind != "stand_in":
        looks.append(("photographs", lambda: look_at_photographs(profile)))
    if profile.photos.kind != "stand_in" or profile.pose2d.baseline != Pose2dConfig().baseline:
        looks.append(("2D pose weights", lambda: look_at_pose2d(profile)))
    if profile.style.weights is not None:
        looks.append(("style weights", lambda: look_at_style(profile)))
    return [_guarded(name, look) for name, look in looks]


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (PoseDreamerError, ImportError, OSError) as error:
        return Finding(name, False, str(error).splitlines()[0], "see the message")


def look_at_gl() -> Finding:
    """Draw one frame off-screen."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    from posedreamer_assets.render.gl import DEBIAN_PACKAGES, renderer

    remedy = f"sudo apt-get install -y {DEBIAN_PACKAGES}"
    if ctypes.util.find_library("EGL") is None and os.environ["PYOPENGL_PLATFORM"] == "egl":
        return Finding("OpenGL", False, "no EGL library", remedy)
    try:
        renderer()
    except PoseDreamerError as error:
        return Finding("OpenGL", False, str(error).splitlines()[0], remedy)
    from OpenGL.GL import GL_RENDERER, glGetString

    name = glGetString(GL_RENDERER)
    return Finding("OpenGL", True, name.decode() if isinstance(name, bytes) else "off-screen rendering works")


def look_at_lightgbm() -> Finding:
    """Whether what learns which poses are hard finds the system's OpenMP."""
    try:
        import lightgbm
    except OSError as error:
        return Finding("lightgbm", False, str(error), "sudo apt-get install -y libgomp1")
    return Finding("lightgbm", True, lightgbm.__version__)


def look_at_gpu(profile: Profile) -> Finding:
    """Whether torch sees one; the pocket generator needs none."""
    import torch

    if torch.cuda.is_available():
        return Finding("GPU", True, torch.cuda.get_device_name(0), required=False)
    needed = profile.generator.backend != "pocket"
    return Finding(
        "GPU",
        False,
        f"torch {torch.__version__} sees none; "
        + (
            f"{profile.generator.backend} on a CPU takes minutes an image"
            if needed
            else "the pocket profile needs none"
        ),
        "an NVIDIA GPU and torch built for CUDA",
        required=False,
    )


def look_at_body(profile: Profile) -> Finding:
    """Load the body model."""
    from posedreamer_assets.body.model import load_body

    remedy = "set body.model_path to an SMPLX_NEUTRAL.npz (https://smpl-x.is.tue.mpg.de), or to null for the free body"
    try:
        body = load_body(profile.body.model_path)
    except PoseDreamerError as error:
        return Finding("body model", False, str(error).splitlines()[0], remedy)
    return Finding("body model", True, f"{body.name}, {len(body.v_template)} vertices")


def look_at_poses(profile: Profile) -> Finding:
    """Whether the pose source exists, and how many of some of its files cannot be read."""
    if profile.poses.source == "procedural":
        return Finding("poses", True, "procedural families")
    from posedreamer_assets.poses.folder import Folder

    folder = Folder(profile.poses.source)
    files = folder.pose_paths()
    detail = f"{len(files)} files in {profile.poses.source}"
    if not files:
        return Finding("poses", False, detail, "put BVH, AMASS-style npz or fit npz files there, or give --poses DIR")
    tried = files[:POSE_FILES_TRIED]
    bad = _unreadable(profile, folder, tried)
    if len(tried) < len(files):
        detail += f", {len(tried)} tried"
    why = f"posedreamer poses inspect {profile.poses.source} tells why"
    detail += f", {bad} unreadable" + (f": {why}" if 0 < bad < len(tried) else "")
    return Finding("poses", bad < len(tried), detail, why)


def _unreadable(profile: Profile, folder: "Folder", paths: Sequence[str]) -> int:
    """How many of these files have no usable frame; of each clip one frame is solved."""
    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.poses.inspect import inspect_files

    found = inspect_files(
        folder,
        paths,
        stride_s=ONE_FRAME_S,
        seed=profile.seed,
        body=load_body(profile.body.model_path),
        up_axis=profile.poses.up_axis,
    )
    return sum(bool(finding.refused) and not finding.clips for finding in found)


def look_at_captions(profile: Profile) -> Finding:
    """Where captions come from, and whether a model that describes photographs is here or to be had."""
    from posedreamer_assets.pipeline.refusals import require_models

    cfg = profile.captions
    if cfg.kind == "grammar":
        return Finding("captions", True, f"the {cfg.grammar} grammar")
    if not Path(str(cfg.path)).expanduser().exists():
        return Finding("captions", False, f"nothing at {cfg.path}", "--set captions.path=PLACE")
    try:
        require_models(profile, ["captions"])
    except PoseDreamerError as error:
        return Finding("captions", False, str(error).splitlines()[0], "see docs/generators.md")
    return Finding("captions", True, str(cfg.path) if cfg.model is None else f"{cfg.model} describes {cfg.path}")


def look_at_generator(profile: Profile) -> Finding:
    """Whether the generator's files are here, or to be had; the small one is loaded, of large ones no weight is read."""
    from posedreamer_assets.diffusion.sources import needs, require

    name, cfg = "generator weights", profile.generator
    remedy = "posedreamer train-pocket makes the pocket weights; generator.model_path names others"
    try:
        if cfg.backend == "pocket":
            return Finding(name, True, _pocket_generator(profile))
        require(cfg)
        found = needs(cfg)
    except PoseDreamerError as error:
        return Finding(name, False, str(error).splitlines()[0], remedy if cfg.backend == "pocket" else "")
    places = (f"{need.name} ({'here' if need.here else 'downloaded by the first run'})" for need in found)
    return Finding(name, True, ", ".join(places))


def look_at_licence(profile: Profile) -> Finding:
    """What the generator's licence allows, said before anything is downloaded."""
    from posedreamer_assets.diffusion.sources import KNOWN

    name, cfg = "generator licence", profile.generator
    if cfg.backend == "pocket" and cfg.model_path is None:
        return Finding(name, True, "Apache-2.0, weights and images")
    named = [model for model in (cfg.model_path, cfg.control_lora_path) if model]
    known = [f"{model}: {KNOWN[model].licence}" for model in named if model in KNOWN]
    if len(known) < len(named):
        known.append("of your own files you know")
    return Finding(name, True, "; ".join(known), required=False)


def look_at_memory(profile: Profile) -> Finding:
    """The plan of the generator's memory for three sizes of GPU, and whether it fits the one that is here."""
    from posedreamer_assets.diffusion.memory import by_precision, fitting, gpu_gb, on_cards, plan
    from posedreamer_assets.diffusion.pocket_files import pocket_folder
    from posedreamer_assets.diffusion.sources import BYTES, stored_gigabytes

    name = "generator memory"
    if profile.generator.backend == "pocket":
        weights = stored_gigabytes(pocket_folder(profile.generator, profile.image), BYTES["float32"])
        return Finding(name, True, f"{1000 * sum(weights.values()):.0f} MB of weights")
    cfg, image = profile.generator, profile.image
    if (planned := plan(cfg, image)) is None:
        return Finding(name, False, "not known before the download", required=False)
    listed = ", ".join(f"{part} {size:.1f}" for part, size in planned.parts.items())
    detail = (
        f"{sum(planned.parts.values()):.1f} GB of weights ({listed}); planned: {on_cards(cfg, image)}; "
        f"at batch_size={cfg.batch_size} by precision: {by_precision(cfg, image)}"
    )
    room_gb = gpu_gb()
    if room_gb is None:
        return Finding(name, False, f"{detail}; no GPU", "a GPU with more memory than that", required=False)
    found = fitting(cfg, image, room_gb)
    remedy = "a smaller generator.precision, a GPU with more memory, or another profile"
    takes = f" and takes {found}" if found else ""
    return Finding(name, found is not None, f"{detail}; the GPU has {room_gb:.1f} GB{takes}", remedy)


def look_at_training(profile: Profile, asked: bool) -> Finding:
    """The plan of Flow-DPO's memory for three sizes of GPU, and whether it fits the one that is here.

    Without a GPU nothing is counted but where it was `asked` for. Only alignment that is on needs it.
    """
    from posedreamer_assets.diffusion.memory import gpu_gb
    from posedreamer_assets.diffusion.training_plan import require_training_room, training_on_cards, training_plan

    name, needed = "training memory", not profile.alignment.off
    room_gb, sections = gpu_gb(), (profile.generator, profile.image, profile.alignment)
    if room_gb is None and not asked:
        return Finding(name, False, "not planned without a GPU", "posedreamer doctor --training", required=False)
    if (planned := training_plan(*sections)) is None:
        what = "planned for flux in bf16, int8 and nf4, where sizes are known without a download"
        return Finding(name, False, what, required=False)
    listed = ", ".join(f"{part} {size:.1f}" for part, size in planned.parts.items())
    detail = f"Flow-DPO: {planned} ({listed}); planned: {training_on_cards(*sections)}"
    if room_gb is None:
        return Finding(name, False, f"{detail}; no GPU", "a GPU with more memory than that", required=False)
    try:
        require_training_room(*sections, room_gb)
    except AlignmentError as error:
        return Finding(name, False, f"{detail}; the GPU has {room_gb:.1f} GB", str(error), needed)
    return Finding(name, True, f"{detail}; the GPU has {room_gb:.1f} GB", required=needed)


def _pocket_generator(profile: Profile) -> str:
    """Of the shipped one its files are opened: loading it takes seconds and tells no more."""
    if profile.generator.model_path is not None:
        from posedreamer_assets.diffusion.generator import load_generator

        generator = load_generator(profile.generator, profile.image)
        return f"{generator.name} {generator.digest[:12]}"
    from posedreamer_assets.diffusion.pocket_files import check_weights, pocket_digest, pocket_folder

    folder = pocket_folder(profile.generator, profile.image)
    check_weights(folder)
    return f"pocket:shipped {pocket_digest(folder)[:12]}"


def look_at_detector(profile: Profile, which: str) -> Finding:
    """Load a detector: `ranker` or `judge`."""
    from posedreamer_assets.scoring.detectors import load_detector

    name = {"ranker": "ranking detector", "judge": "judging detector"}[which]
    remedy = f"posedreamer train-pocket makes the pocket detectors; {which}.path names another (kind: onnx)"
    if (found := _to_be_fetched(name, getattr(profile, which), which)) is not None:
        return found
    try:
        detector = load_detector(getattr(profile, which), profile.image)
    except PoseDreamerError as error:
        return Finding(name, False, str(error).splitlines()[0], remedy)
    return Finding(name, True, f"{detector.name} {detector.digest[:12]}")


def _to_be_fetched(name: str, cfg: DetectorConfig | CounterConfig, section: str) -> Finding | None:
    """Of a model of the hub that is not here: whether it is to be had; None of all others, which are loaded."""
    from posedreamer_assets.hub import DETECTORS, ask, is_here, is_hub_name

    if cfg.kind not in DETECTORS or not is_hub_name(cfg.path) or is_here(cfg.path, cfg.revision):
        return None
    why = ask(cfg.path, cfg.revision)
    detail = f"{cfg.path}: {why}" if why else f"{cfg.path} (downloaded by the first run)"
    return Finding(name, not why, detail, f"give a folder: --set {section}.path=DIR")


def look_at_counter(profile: Profile) -> Finding:
    """Load the person counter."""
    from posedreamer_assets.scoring.people import load_counter

    name, remedy = "person counter", "counter.path names one: a folder, or an ONNX file of a detector of several people"
    if (found := _to_be_fetched(name, profile.counter, "counter")) is not None:
        return found
    try:
        counter = load_counter(profile.counter)
    except PoseDreamerError as error:
        return Finding(name, False, str(error).splitlines()[0], remedy)
    return Finding(name, True, f"{counter.name} {counter.digest[:12]}")


def look_at_segmenter(profile: Profile) -> Finding:
    """Load what draws silhouettes, where it is here; only `posedreamer train-control` needs it."""
    from posedreamer_assets.hub import ask, is_here, is_hub_name
    from posedreamer_assets.pipeline.models import Models

    cfg, remedy = profile.segmenter, "give a folder: --set segmenter.path=DIR"
    if cfg is not None and is_hub_name(cfg.path) and not is_here(cfg.path, cfg.revision):
        why = ask(cfg.path, cfg.revision)
        detail = f"{cfg.path}: {why}" if why else f"{cfg.path} (downloaded when it is used)"
        return Finding("segmenter", not why, detail, remedy, required=False)
    try:
        segmenter = Models(profile).segmenter
    except PoseDreamerError as error:
        return Finding("segmenter", False, str(error).splitlines()[0], remedy, required=False)
    return Finding("segmenter", True, segmenter.name if segmenter else "none", required=False)


def look_at_outside_judge(profile: Profile) -> Finding:
    """Load the outside judge where one is configured."""
    remedy = (
        "--set outside_judge.kind=onnx --set outside_judge.path=movenet.onnx adds a judge that was trained elsewhere"
    )
    if profile.outside_judge is None:
        return Finding("outside judge", False, "none configured", remedy, required=False)
    if (found := _to_be_fetched("outside judge", profile.outside_judge, "outside_judge")) is not None:
        return found
    from posedreamer_assets.scoring.detectors import load_detector

    try:
        detector = load_detector(profile.outside_judge, profile.image)
    except PoseDreamerError as error:
        return Finding("outside judge", False, str(error).splitlines()[0], remedy)
    return Finding("outside judge", True, detector.name)


def look_at_storage(home: Home) -> Finding:
    """Write and remove a file in the home, and an object in the object store where one is set."""
    try:
        home.path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home.path):
            detail = f"{home.path} is writable"
    except OSError as error:
        return Finding("storage", False, f"{home.path}: {error.strerror}", "give --home DIR, or set POSEDREAMER_HOME")
    remote = "://" in home.storage_root
    try:
        store = home.store()
        store.partitions("pose_library")  # of a place that is one
        store.probe()
    except StorageError as error:
        remedy = "check AWS_... variables and the bucket, or give --storage, see docs/storage.md" if remote else ""
        return Finding("storage", False, str(error).splitlines()[0], remedy)
    if not remote:
        return Finding("storage", True, detail)
    return Finding("storage", True, f"{detail}; {home.storage_root} is, and keeps what concurrent writers commit")


def look_at_disk(home: Home, profile: Profile) -> Finding:
    """Free space where the home lies, against what a run writes and what it downloads first."""
    from posedreamer_assets.diffusion.sources import needs

    place = next(p for p in (home.path, *home.path.parents) if p.exists())
    free_gb = shutil.disk_usage(place).free / 1e9
    large = [] if profile.generator.backend == "pocket" else needs(profile.generator)
    wanted_gb = NEEDED_DISK_GB + sum(sum(need.gigabytes.values()) for need in large if not need.here)
    detail = f"{free_gb:.1f} GB free, {wanted_gb:.0f} GB wanted"
    return Finding("disk", free_gb >= wanted_gb, detail, "free some space, or give --home on another disk")

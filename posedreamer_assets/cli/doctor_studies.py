"""What `posedreamer doctor` looks at for the study `learning_to_train`: renderers, photographs, weights."""

from posedreamer_assets.cli.finding import Finding
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import PoseDreamerError


def look_at_blender(profile: Profile) -> Finding:
    """Whether the Python that renders scenes has Blender."""
    from posedreamer_assets.scenes.blender import blender_version, python_of

    try:
        python = python_of(profile.crowds)
    except PoseDreamerError as error:
        return Finding("Blender", False, str(error).splitlines()[0], "see docs/scenes.md")
    return Finding("Blender", True, f"{blender_version(python)} in {python}")


def look_at_mitsuba() -> Finding:
    """Whether Mitsuba is installed, which traces stand-ins."""
    from posedreamer_assets.scenes.traced import require_mitsuba

    return Finding("Mitsuba", True, require_mitsuba())


def look_at_photographs(profile: Profile) -> Finding:
    """Whether annotated photographs are there, and as many as batches are asked for."""
    from posedreamer_assets.scenes.photo_files import require_batches, require_named

    cfg, batches = profile.photos, profile.learning_to_train.photo_batches
    require_named(cfg)
    count = require_batches(cfg, batches)
    taken = min(count, batches * cfg.batch_size)
    return Finding(
        "photographs", True, f"{count} with annotated people in {cfg.annotations}, of which {taken} are taken"
    )


def look_at_pose2d(profile: Profile) -> Finding:
    """Whether weights that the 2D pose student starts from fit it, and whether a teacher as wide as VGG19 has its weights."""
    from posedreamer_assets.people2d.network import load_baseline

    cfg = profile.pose2d
    weights = load_baseline(cfg)
    count = sum(value.numel() for value in weights.values()) / 1e6
    start = cfg.baseline if cfg.baseline is not None else f"VGG19 of {cfg.vgg19}, all other layers are drawn"
    alone = (
        "; the teacher starts from nothing without pose2d.vgg19"
        if profile.teacher.narrow == 1 and not cfg.vgg19
        else ""
    )
    return Finding("2D pose weights", True, f"{count:.1f} M for {cfg.layout}, {cfg.stages} stages: {start}{alone}")


def look_at_style(profile: Profile) -> Finding:
    """Whether the file of the network for style has its tensors."""
    from posedreamer_assets.scenes.wct2_file import layout_of

    layout = layout_of(profile.style.weights or "")
    widths = ", ".join(map(str, layout.widths))
    return Finding(
        "style weights", True, f"{profile.style.weights}: widths {widths}, {'' if layout.joined else 'not '}joined"
    )

"""`posedreamer train-control`."""

import json
from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option, profile_option, resolve, set_option

SHOWN = 12  # held-out poses on the sheet
FIGURES = {
    "oks": "OKS with the control image",
    "oks_black": "with a black one",
    "gain": "gain",
    "iou": "silhouette IoU with it",
    "iou_black": "with a black one",
    "iou_gain": "gain",
}


@click.command("train-control")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Default: <home>/control_lora, or control_net of a ControlNet.",
)
@click.option(
    "--pairs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Folder of photographs with fits beside them (a.jpg, a.npz) in the place of the home's rendered scenes.",
)
@click.option("--steps", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--rank", type=click.IntRange(min=1), default=32, show_default=True, help="Of a LoRA.")
@click.option(
    "--learning-rate", type=float, default=2e-3, show_default=True, help="1e-4 where the base has billions of weights."
)
@click.option("--gradient-checkpointing", is_flag=True, help="Less memory, more time.")
@click.option(
    "--micro-rows",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Images that go through the network together; 0 is generator.batch_size on a GPU. Halved where its memory ends.",
)
@home_option
@profile_option
@set_option
def train_control(
    out: Path | None,
    pairs: Path | None,
    steps: int,
    batch_size: int,
    rank: int,
    learning_rate: float,
    gradient_checkpointing: bool,
    micro_rows: int,
    home: Path | None,
    profile_name: str | None,
    settings: tuple[str, ...],
) -> None:
    """Train control: teach a model to paint over control images.

    Of flux and pocket a control LoRA is trained, of zimage a ControlNet: the one that generator.control_lora_path names learns
    on, or, with --set generator.control_lora_path=null, one that begins with the base's own layers. Learns from the rendered
    scenes of a home (posedreamer run makes them), of which the split val is held out, or from --pairs, of which a tenth is. The
    base is generator.model_path; generator.control_lora_path takes what is trained. Goes on where it was stopped.
    """
    import numpy as np

    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.diffusion.control_training import ControlTraining, train_control
    from posedreamer_assets.diffusion.generator import load_base
    from posedreamer_assets.pipeline.control_pairs import fidelity, photographs_with_fits, rendered_scenes
    from posedreamer_assets.pipeline.models import Models
    from posedreamer_assets.progress import watching
    from posedreamer_assets.tables.images import encode_png

    place = find_home(home)
    profile = resolve(profile_name, settings, {})
    what = "ControlNet" if profile.generator.backend == "zimage" else "control LoRA"
    folder = (out or place.path / ("control_net" if what == "ControlNet" else "control_lora")).resolve()
    judges = Models(profile).judge, Models(profile).segmenter  # what cannot be loaded is told before hours of training
    generator = load_base(profile.generator, profile.image)
    scenes = rendered_scenes(place.store(), profile) if pairs is None else photographs_with_fits(pairs, profile)
    cfg = ControlTraining(
        steps=steps,
        batch_size=batch_size,
        rank=rank,
        learning_rate=learning_rate,
        gradient_checkpointing=gradient_checkpointing,
        micro_rows=micro_rows,
        seed=profile.seed,
    )
    with TerminalDisplay() as display, watching(display):
        display.begin(what, steps)
        result = train_control(scenes.data, generator, cfg, folder)
        display.end(what, "trained")
        display.begin("held-out poses", 2 * len(scenes.painted))
        found = fidelity(scenes, generator, profile)
        display.end("held-out poses", "painted")
    (folder / "held_out.png").write_bytes(encode_png(np.concatenate(found.pictures[:SHOWN], axis=0)))
    facts = {
        "base": generator.name,
        "base_digest": generator.digest,
        "control": profile.generator.control,
        "images": len(scenes.ids),
        "held_out": int(scenes.data.held_out.sum()),
        "held_out_loss": [result.loss_before, result.loss_after],
        "judge": judges[0].name,
        "segmenter": judges[1].name if judges[1] else None,
        **found.as_figures(),
    }
    (folder / "control.json").write_text(json.dumps(facts, indent=1))
    click.echo(f"held-out loss {result.loss_before:.3f} -> {result.loss_after:.3f}")
    for name, words in FIGURES.items():
        if (interval := getattr(found, name)) is not None:
            click.echo(f"{words:<34} {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    click.echo(f"{folder}  (held_out.png: control, black control, control, render)")
    click.echo(f"paint with it: --set generator.control_lora_path={result.file}")

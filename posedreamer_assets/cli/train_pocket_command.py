"""`posedreamer train-pocket`."""

from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option, profile_option, resolve, set_option


@click.command("train-pocket")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["scenes", "generator", "detectors", "pose2d"]),
    help="Only this part; can be given many times. Default: all, in order.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="Default: <home>/pocket")
@click.option("--scenes", type=click.IntRange(min=8), default=12_288, show_default=True, help="Renders of each set.")
@click.option("--generator-minutes", type=float, default=300.0, show_default=True, help="Time to train the generator.")
@click.option("--detector-minutes", type=float, default=25.0, show_default=True, help="Time to train each detector.")
@click.option(
    "--photos", type=click.IntRange(min=4), default=600, show_default=True, help="Stand-ins that it learns from."
)
@click.option(
    "--pose2d-minutes", type=float, default=40.0, show_default=True, help="Time to train the 2D pose baseline."
)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads of torch.")
@click.option("--ship", is_flag=True, help="Then put the trained models in the place of the shipped ones.")
@home_option
@profile_option
@set_option
def train_pocket(
    parts: tuple[str, ...],
    out: Path | None,
    scenes: int,
    generator_minutes: float,
    detector_minutes: float,
    photos: int,
    pose2d_minutes: float,
    threads: int,
    ship: bool,
    home: Path | None,
    profile_name: str | None,
    settings: tuple[str, ...],
) -> None:
    """Train the pocket models from renders: generator, two keypoint detectors, person counter, segmenter, 2D pose
    baseline.

    Goes on where it stopped. Trained folders take the shipped ones' places when they are named in the profile
    (generator.model_path, ranker.path, judge.path, segmenter.path, pose2d.baseline), or with --ship.
    """
    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.defs.local.runner import train_pocket_models

    place = find_home(home)
    folder = (out or place.path / "pocket").resolve()
    config = {
        "folder": str(folder),
        "scenes": scenes,
        "generator_minutes": generator_minutes,
        "detector_minutes": detector_minutes,
        "threads": threads,
        "photos": photos,
        "pose2d_minutes": pose2d_minutes,
    }
    with TerminalDisplay() as display:
        train_pocket_models(place, resolve(profile_name, settings, {}), parts, config, display)
    click.echo(str(folder))
    if ship:
        from posedreamer_assets.config import WEIGHTS_DIR
        from posedreamer_assets.pocket.recipe import PARTS
        from posedreamer_assets.pocket.recipe import ship as ship_models

        for name, megabytes in ship_models(folder, WEIGHTS_DIR, parts or PARTS).items():
            click.echo(f"{name:<10} {megabytes:6.1f} MB  {WEIGHTS_DIR / name}")

"""`posedreamer students`."""

import re
from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option
from posedreamer_assets.errors import ConfigError


@click.group()
def students() -> None:
    """What the data is worth: recipes of a study, and networks trained elsewhere under the same protocol."""


@students.command("recipes")
@click.argument("study", default="pocket")
def recipes(study: str) -> None:
    """List the recipes of a study; a mistake in a study's file is named with its line."""
    from posedreamer_assets.students.study_files import load_study

    found = load_study(study)
    times = f"{found.seeds} seeds x {found.draws} draws, {found.student.samples_seen} samples seen by each student"
    click.echo(f"{found.name}: {len(found.recipes)} recipes, {times}")
    for name, recipe in found.recipes.items():
        budget = recipe.size or f"poses of {recipe.same_poses_as}"
        click.echo(f"{name:<16} {budget:<22} {recipe.about}")


@students.command("bench-export")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@home_option
def bench_export(out: Path, home: Path | None) -> None:
    """Write the test images with their intrinsics, and no labels, for a network that is trained elsewhere."""
    from posedreamer_assets.runtime.foreign_students import export_test_images

    place = find_home(home)
    count = export_test_images(place.store(), place.profile(), out)
    click.echo(f"{count} images, and images.csv with focal lengths and principal points  {out}")


@students.command("import")
@click.argument("name")
@click.argument("predictions", type=click.Path(dir_okay=False, path_type=Path))
@home_option
def import_predictions(name: str, predictions: Path, home: Path | None) -> None:
    """Score predictions of the test images (npz, see docs/students.md) as the study's own students are scored."""
    from posedreamer_assets.runtime.foreign_students import score_predictions

    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ConfigError(f"{name!r}: expected letters, digits, '.', '_' and '-'")
    place = find_home(home)
    out = place.reports / "students" / f"{name}.json"
    figures = score_predictions(place.store(), place.profile(), name, predictions, out)
    for test_set, of in figures["test_sets"].items():
        for metric, one in of.items():
            low, high = one["ci95"]
            click.echo(f"{test_set:<18} {metric:<16} {one['mean']:8.1f} [{low:.1f}, {high:.1f}]")
    click.echo(f"figures  {out}")


@students.command("export")
@click.argument("recipe")
@click.option(
    "--format", "form", required=True, metavar="NAME", help="humandata, hmr2, coco or another of docs/exports.md."
)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@click.option("--draw", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the draw of data.")
@click.option(
    "--pickle/--no-pickle",
    "pickles",
    default=True,
    show_default=True,
    help="humandata and hmr2: write the pickles that their own readers insist on.",
)
@click.option("--keypoints-only", is_flag=True, help="hmr2 without SMPL files: keypoints alone, see docs/exports.md.")
@click.option("--mean-hands", is_flag=True, help="Hands relative to the model's mean hand, not to the flat hand.")
@home_option
def export_recipe(
    recipe: str,
    form: str,
    out: Path,
    draw: int,
    pickles: bool,
    keypoints_only: bool,
    mean_hands: bool,
    home: Path | None,
) -> None:
    """Write the very samples of a recipe for another trainer, and train.md with the keys of its configuration.

    See docs/exports.md for what each format can hold.
    """
    from posedreamer_assets.cli.export_command import write_export
    from posedreamer_assets.config import write_whole
    from posedreamer_assets.export.run import Request
    from posedreamer_assets.export.shards import Options
    from posedreamer_assets.runtime.recipe_export import ManifestReader
    from posedreamer_assets.students.elsewhere import train_notes

    place = find_home(home)
    reader = ManifestReader(place.store(), place.profile(), recipe, draw)
    request = Request(form, out, mean_hands=mean_hands)
    what = f"samples of recipe {recipe}, draw {draw}"
    options = Options(pickles=pickles, keypoints_only=keypoints_only)
    write_export(place, request, options, len(reader), reader, what)
    notes = train_notes(form, recipe, draw, len(reader), out)
    if notes is not None:
        write_whole(out / "train.md", notes)
        click.echo(f"keys of the trainer's configuration  {out / 'train.md'}")

"""`posedreamer export`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from posedreamer_assets.cli.options import find_home, home_option
from posedreamer_assets.errors import ConfigError

if TYPE_CHECKING:
    from posedreamer_assets.export.run import Request
    from posedreamer_assets.export.shards import Options
    from posedreamer_assets.export.source import VersionedReader
    from posedreamer_assets.runtime.home import Home


@click.command("export")
@click.option(
    "--format", "form", required=True, metavar="NAME", help="humandata, hmr2, coco or another of docs/exports.md."
)
@click.option(
    "--of",
    "source",
    type=click.Choice(["dataset", "ds", "dm", "style"]),
    default="dataset",
    show_default=True,
    help="What to write: the dataset, or scenes of many people of the study learning_to_train, see docs/scenes.md.",
)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@click.option("--split", "splits", multiple=True, help="Only this split; can be given many times. Default: all.")
@click.option(
    "--shard-size", type=click.IntRange(min=1), default=None, help="Samples of a shard. Default: the format's."
)
@click.option("--version", "version", default=None, help="A version or tag of the table. Default: the newest.")
@click.option(
    "--pickle/--no-pickle",
    "pickles",
    default=True,
    show_default=True,
    help="humandata and hmr2: write the pickles that their own readers insist on.",
)
@click.option("--keypoints-only", is_flag=True, help="hmr2 without SMPL files: keypoints alone, see docs/exports.md.")
@click.option("--mean-hands", is_flag=True, help="Hands relative to the model's mean hand, not to the flat hand.")
@click.option("--smpl", type=click.Path(dir_okay=False, path_type=Path), default=None, help="SMPL model, npz.")
@click.option(
    "--smpl-transfer", type=click.Path(dir_okay=False, path_type=Path), default=None, help="SMPL-X to SMPL, npz."
)
@click.option("--verify", is_flag=True, help="Only compare a finished export with its checksums.")
@home_option
def export_command(
    form: str,
    source: str,
    out: Path,
    splits: tuple[str, ...],
    shard_size: int | None,
    version: str | None,
    pickles: bool,
    keypoints_only: bool,
    mean_hands: bool,
    smpl: Path | None,
    smpl_transfer: Path | None,
    verify: bool,
    home: Path | None,
) -> None:
    """Write the dataset in a format that others train from. Run it again and it goes on where it stopped.

    docs/exports.md says what the conventions of each format are, and what it cannot hold.
    """
    from posedreamer_assets.errors import ExportError
    from posedreamer_assets.export.records import damaged_files
    from posedreamer_assets.export.run import Request
    from posedreamer_assets.export.shards import Options

    if source != "dataset":
        of_dataset: dict[str, object] = {
            "--split": splits,
            "--shard-size": shard_size,
            "--version": version,
            "--keypoints-only": keypoints_only,
            "--mean-hands": mean_hands,
            "--smpl": smpl,
            "--smpl-transfer": smpl_transfer,
            "--verify": verify,
        }
        if given := [name for name, value in of_dataset.items() if value]:
            raise ConfigError(f"--of {source} takes no {given[0]}: scenes are written whole, see docs/scenes.md")
        _export_scenes(find_home(home), source, form, out)
        return
    if verify:
        wrong = damaged_files(out)
        for name, what in wrong.items():
            click.echo(f"{what:<8} {name}")
        if wrong:
            raise ExportError(f"{len(wrong)} files are not what was written; export again to write them")
        click.echo(f"ok  {out}")
        return
    if (smpl is None) != (smpl_transfer is None):
        raise ConfigError("--smpl and --smpl-transfer go together")
    files = (smpl, smpl_transfer) if smpl and smpl_transfer else None
    place = find_home(home)
    chosen = int(version) if version and version.isdigit() else version
    request = Request(form, out, chosen, mean_hands, files)
    rows = sum(info.rows for info in place.store().partitions("dataset").values())
    write_export(place, request, Options(shard_size, splits, pickles, keypoints_only), rows)


def write_export(
    place: "Home",
    request: "Request",
    options: "Options",
    rows: int,
    reader: "VersionedReader | None" = None,
    what: str = "samples",
) -> None:
    """Export with progress, and say what was written and what the format could not hold.

    Args:
        place: the home.
        request, options, reader: as for `export_dataset`.
        rows: how many there are, about.
        what: they are.
    """
    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.export.formats import FORMATS
    from posedreamer_assets.export.run import export_dataset
    from posedreamer_assets.progress import watching

    with TerminalDisplay() as display, watching(display):
        display.begin(f"export {request.form}", rows)
        result = export_dataset(place.store(), place.profile(), request, options, reader)
    done = f"{result.written} shards written, {result.complete} complete before"
    click.echo(f"{result.samples} {what}, {done}  {request.folder}")
    for note in FORMATS[request.form].notes(options, result.subject):
        click.echo(f"{request.form}: {note.replace('**', '').replace('`', '')}")


def _export_scenes(place: "Home", source: str, form: str, out: Path) -> None:
    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.export.scenes import export_scenes, partitions_of
    from posedreamer_assets.progress import watching

    store = place.store()
    with TerminalDisplay() as display, watching(display):
        display.begin(f"export {source}", sum(infos[0].rows for infos in partitions_of(store, source).values()))
        done = export_scenes(store, place.profile(), source, form, out)
    click.echo(
        f"{done.people} people in {done.images} images, {done.written} partitions written, {done.complete} complete before  {out}"
    )

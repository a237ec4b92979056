"""`posedreamer publish`."""

from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option


@click.command("publish")
@click.option(
    "--repo", required=True, metavar="OWNER/NAME", help="Data set repository on the hub; made if there is none."
)
@click.option("--format", "form", default="parquet", show_default=True, metavar="NAME", help="As for export.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="Folder of the export, kept."
)
@click.option("--split", "splits", multiple=True, help="Only this split; can be given many times. Default: all.")
@click.option("--version", "version", default=None, help="A version or tag of the table. Default: the newest.")
@click.option("--tag", default=None, help="Revision that the hub gives the upload, such as v1.")
@click.option("--private", is_flag=True, help="Make the repository private, where it is made.")
@home_option
def publish_command(
    repo: str,
    form: str,
    out: Path | None,
    splits: tuple[str, ...],
    version: str | None,
    tag: str | None,
    private: bool,
    home: Path | None,
) -> None:
    """Export the dataset and upload it to a hub, with its card, checksums and the licence of every row.

    The hub wants a token that may write: `hf auth login`, or HF_TOKEN. Run it again and complete shards are not written again.
    """
    from posedreamer_assets.export.hub import publish
    from posedreamer_assets.export.run import Request, export_dataset
    from posedreamer_assets.export.shards import Options

    place = find_home(home)
    folder = out or place.path / "published" / repo.replace("/", "--")
    chosen = int(version) if version and version.isdigit() else version
    result = export_dataset(
        place.store(), place.profile(), Request(form, folder, chosen), Options(splits=splits, pickles=False)
    )
    commit = publish(folder, result.index, repo, tag, private=private)
    at = f", tagged {tag}" if tag else ""
    click.echo(f"{result.samples} people, {result.images} images: {repo} at {commit[:12]}{at}")

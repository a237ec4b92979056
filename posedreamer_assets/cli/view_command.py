"""`posedreamer view`."""

from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option


@click.command()
@click.argument("table")
@click.argument("partition", required=False)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Default: TABLE.html")
@click.option("--limit", type=click.IntRange(min=1), default=96, show_default=True, help="At most this many samples.")
@click.option("--hardest", is_flag=True, help="Those with the lowest predicted or measured OKS, lowest first.")
@home_option
def view(table: str, partition: str | None, out: Path | None, limit: int, hardest: bool, home: Path | None) -> None:
    """Write a gallery of a table, or of one partition of it, as one HTML file.

    Shows what the tables know of each sample: control map, image, keypoints and mesh overlay, scores, verdict. The page
    filters by verdict and OKS, sorts by any figure, and has three views: cards, contact sheet, kept beside rejected.
    Tables without samples, `quarantine`, `pose_notes` and `pose_files` among them, are shown as rows. TABLE is a table or
    an asset.
    """
    from posedreamer_assets.report.view import write_view

    path = out or Path(f"{'-'.join(filter(None, (table.replace('/', '-'), partition)))}.html")
    count = write_view(find_home(home), table, partition, path, limit=limit, hardest=hardest)
    click.echo(f"{count} rows  {path}")

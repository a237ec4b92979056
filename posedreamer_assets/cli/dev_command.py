"""`posedreamer dev`."""

from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option


@click.command()
@home_option
@click.option("--port", type=int, default=3000, show_default=True, help="Of Dagster's UI.")
@click.option("--pages-port", type=int, default=0, help="Of reports, galleries and data docs. Default: a free one.")
def dev(home: Path | None, port: int, pages_port: int) -> None:
    """Dagster's UI on a home, with its reports and data docs beside it over HTTP. Ctrl-C ends all of it."""
    from posedreamer_assets.cli.dev import require_free, serve

    require_free(port, "--port")
    require_free(pages_port, "--pages-port")
    raise SystemExit(serve(find_home(home), port, pages_port))

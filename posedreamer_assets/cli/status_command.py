"""`posedreamer status`."""

from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option


@click.command()
@click.option("--prepare", is_flag=True, help="Also make the home's folders and settings where they are missing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document in place of a table.")
@home_option
def status(prepare: bool, as_json: bool, home: Path | None) -> None:
    """Each asset: partitions done, stale, missing and failed, rows, size, and the checks' last results."""
    import dataclasses
    import json

    from posedreamer_assets.cli.status import as_lines, pose_file_lines, status_of

    place = find_home(home)
    if prepare:
        from posedreamer_assets.defs.local.register_planned import register_planned

        place.prepare()
        register_planned(place)
    found = status_of(place, place.store())
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(stage) for stage in found], indent=2))
        return
    profile = place.profile()
    click.echo(f"{place.path}, profile {profile.name}, seed {profile.seed}")
    click.echo("\n".join([*as_lines(found), *pose_file_lines(place.store())]))

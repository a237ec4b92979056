"""`posedreamer doctor`."""

import sys
from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option, profile_option, resolve, set_option


@click.command()
@click.option(
    "--training", is_flag=True, help="Plan the memory of Flow-DPO, too; takes seconds. On a GPU that is done anyhow."
)
@home_option
@profile_option
@set_option
def doctor(training: bool, home: Path | None, profile_name: str | None, settings: tuple[str, ...]) -> None:
    """Say what is there, what is missing and how to get it. Exit code 1 when something needed is missing."""
    from posedreamer_assets.cli.doctor import examine

    place = find_home(home)
    profile = place.profile() if profile_name is None and not settings else resolve(profile_name, settings, {})
    findings = examine(place, profile, training=training)
    for finding in findings:
        click.echo(f"{finding.mark:<8} {finding.name:<18} {finding.detail}")
        if not finding.ok and finding.remedy:
            click.echo(f"{'':<8} {'':<18} -> {finding.remedy}")
    if any(finding.required and not finding.ok for finding in findings):
        sys.exit(1)

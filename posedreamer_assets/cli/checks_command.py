"""`posedreamer checks`."""

from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option
from posedreamer_assets.errors import CheckError


@click.group()
def checks() -> None:
    """Data checks: one YAML file for each asset in dbt_like_checks/."""


@checks.command("validate")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=None, help="Of check files.")
def checks_validate(folder: Path | None) -> None:
    """Read all check files; an unknown test, table or column is an error, named with file and line."""
    from posedreamer_assets.checks import load_checks, mistakes

    if found := mistakes(folder):
        for line in found:
            click.echo(line, err=True)
        raise CheckError(f"{len(found)} check files cannot be used")
    loaded = load_checks(folder)
    click.echo(f"{sum(len(c.checks) for c in loaded.values())} checks of {len(loaded)} tables are well-formed")


@checks.command("list")
@click.argument("table", required=False)
@click.option("--kinds", is_flag=True, help="List the kinds of tests instead, with their arguments.")
def checks_list(table: str | None, kinds: bool) -> None:
    """List all checks, or those of one table, with severity and meaning."""
    from posedreamer_assets.checks import KINDS, load_checks, load_table_checks

    if kinds:
        for name, kind in KINDS.items():
            words = ", ".join(f"{n.rstrip('!')}{'' if n.endswith('!') else '?'}" for n in kind.args)
            click.echo(f"{name:<28} {'table ' if kind.accepts is None else 'column'}  {words}")
        return
    for loaded in [load_table_checks(table)] if table else load_checks().values():
        for check in loaded.checks:
            click.echo(f"{loaded.table:<24} {check.name:<36} {check.severity:<6} {check.description}")


@checks.command("run")
@click.argument("table", required=False)
@click.argument("partition", required=False)
@click.option("--docs/--no-docs", default=True, show_default=True, help="Write the results into <home>/checks too.")
@home_option
def checks_run(table: str | None, partition: str | None, docs: bool, home: Path | None) -> None:
    """Run checks on what is stored. Exit code 1 when one of severity error fails."""
    from posedreamer_assets.runtime.checking import check_store
    from posedreamer_assets.runtime.site import page_of_stage, show_checked

    place = find_home(home)
    store = place.store()
    run = bad = 0
    page = None
    for stage, key, checked in check_store(store, place.profile(), table, partition):
        failed = [outcome for outcome in checked.outcomes if not outcome.passed]
        run += len(checked.outcomes)
        bad += len(checked.bad)
        name = f"{stage.key}{f'[{key}]' if key else ''}"
        click.echo(f"{'FAILED' if failed else 'ok':<8} {name}: {len(checked.outcomes)} checks")
        for outcome in failed:
            ids = f" ({', '.join(outcome.failing_ids[:3])})" if outcome.failing_ids else ""
            click.echo(f"{'':<8} {outcome.severity:<6} {outcome.name}: {outcome.observed}{ids}")
        if docs:
            show_checked(place, store, stage, key, checked)
            page = page_of_stage(place, stage, key)
    if page is not None:
        click.echo(f"pages    {place.checks / 'index.html'}")
    if bad:
        raise CheckError(f"{bad} of {run} checks failed")

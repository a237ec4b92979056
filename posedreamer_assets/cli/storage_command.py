"""`posedreamer storage`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posedreamer_assets.cli.options import find_home, home_option

if TYPE_CHECKING:
    from posedreamer_assets.progress import Display
    from posedreamer_assets.runtime.home import Home
    from posedreamer_assets.storage import LanceStore, Plan, Upkeep


@click.group()
def storage() -> None:
    """Tables and checkpoints: upkeep, and reading everything back."""


_tables = click.option("--table", "tables", multiple=True, help="Only this table; can be given many times.")


@storage.command("maintain")
@_tables
@click.option(
    "--keep-days",
    type=click.FloatRange(min=1 / 24),
    default=7.0,
    show_default=True,
    help="Versions of the last days stay, and tagged ones for ever. Longer than any writer or reader takes.",
)
@click.option(
    "--rows-per-file", type=click.IntRange(min=1), default=65_536, show_default=True, help="Merge up to this."
)
@click.option(
    "--keep-checkpoints",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Superseded checkpoints of each name that stay besides those that a release, a tag or stored images name.",
)
@click.option(
    "--keep-releases", type=click.IntRange(min=0), help="The same of datasets; all stay unless this is given."
)
@home_option
def storage_maintain(
    tables: tuple[str, ...],
    keep_days: float,
    rows_per_file: int,
    keep_checkpoints: int,
    keep_releases: int | None,
    home: Path | None,
) -> None:
    """Merge small files along partitions, index, delete old versions and checkpoints. Safe while the graph is running.

    Worthwhile after every few hundred partitions; `make dev` also does it by the schedule storage_upkeep.
    """
    from datetime import timedelta

    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.runtime.upkeep import remove_superseded
    from posedreamer_assets.storage import Plan

    plan = Plan(
        rows=rows_per_file, keep=timedelta(days=keep_days), checkpoints=keep_checkpoints, releases=keep_releases
    )
    with TerminalDisplay() as display:
        done = _maintain(find_home(home), tables, plan, display)
    freed = sum(upkeep.bytes_freed for upkeep in done)
    before, after = (sum(getattr(u, name) for u in done) for name in ("files_before", "files_after"))
    click.echo(
        f"{len(done)} tables: {before} files are now {after}; {sum(u.versions_removed for u in done)} versions removed, "
        f"{freed / 1e6:.1f} MB freed, {sum(u.postponed for u in done)} merges left for the next time"
    )
    if not tables:
        removed = remove_superseded(find_home(home).store(), plan)
        click.echo(
            f"checkpoints: {len(removed.folders)} superseded ones removed, {len(removed.tags)} tags, {removed.leftovers} "
            f"leftovers of killed writers, {removed.bytes_freed / 1e6:.1f} MB freed"
        )
        for place in removed.folders:
            click.echo(f"{'':<8} {place}")


@storage.command("verify")
@_tables
@click.option("--drop", is_flag=True, help="Take damaged files out; what was in them is missing and can be made again.")
@home_option
def storage_verify(tables: tuple[str, ...], drop: bool, home: Path | None) -> None:
    """Read every row and compare it with the digest it was written with. Exit code 1 when one differs."""
    from posedreamer_assets.errors import StorageError

    damaged = 0
    for store, table in _stored(find_home(home), tables):
        found = store.drop_damaged(table) if drop else list(store.verify(table))
        damaged += len(found)
        click.echo(f"{'ok' if not found else 'DAMAGED':<8} {table}, version {store.version(table)}")
        for damage in found:
            click.echo(f"{'':<8} {' or '.join(damage.files)}: {damage.what}")
    if damaged:
        done = "taken out; run again to make what was in them" if drop else "see above; --drop takes them out"
        raise StorageError(f"{damaged} damaged places, {done}")


@storage.command("migrate")
@home_option
def storage_migrate(home: Path | None) -> None:
    """Give stored tables the columns of this release; tables of a former layout are set aside, not deleted."""
    from posedreamer_assets.runtime.upkeep import migrate_store, set_aside

    place = find_home(home)
    for name, target in set_aside(place).items():
        click.echo(f"set aside  {name} -> {target}")
    for done in migrate_store(place.store()):
        changes = [
            f"{word} {', '.join(names)}" for word, names in (("added", done.added), ("dropped", done.dropped)) if names
        ]
        click.echo(f"{'; '.join(changes) or 'as it should be':<40} {done.table}, version {done.version}")


def _stored(home: "Home", names: Sequence[str]) -> "Iterator[tuple[LanceStore, str]]":
    """The store with the name of each table that was written; of the named ones where names are given."""
    from posedreamer_assets.runtime.upkeep import written

    store = home.store()
    for table in names or written(store):
        if store.version(table) is not None:
            yield store, table


def _maintain(home: "Home", names: Sequence[str], plan: "Plan", display: "Display") -> "list[Upkeep]":
    """Upkeep of all tables, or of the named ones; see `storage/upkeep.py`."""
    from posedreamer_assets.progress import watching

    done = []
    for store, table in _stored(home, names):
        display.begin(table, len(store.groups_to_merge(table, plan)) + 1)
        with watching(display):
            upkeep = store.maintain(table, plan)
        display.end(
            table, f"{upkeep.files_before} files -> {upkeep.files_after}, {upkeep.bytes_freed / 1e6:.1f} MB freed"
        )
        done.append(upkeep)
    return done

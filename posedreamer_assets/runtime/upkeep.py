"""Upkeep of a store: which tables there are, and which checkpoints stored rows still name."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from posedreamer_assets.pipeline import STUDIES, graph
from posedreamer_assets.runtime.home import Home, former_tables
from posedreamer_assets.tables.fields import SCHEMAS

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore, Migration, Plan, Removed


def written(store: "LanceStore") -> list[str]:
    """The tables that were ever written."""
    return [table for table in SCHEMAS if store.version(table) is not None]


def remove_superseded(store: "LanceStore", plan: "Plan") -> "Removed":
    """Remove checkpoints that nothing names any more. Rows of every round name theirs in one table."""
    from posedreamer_assets.storage import Reference

    stages = graph(2, tuple(STUDIES))
    named = {(*s.names_checkpoint, s.table) for s in stages if s.names_checkpoint and s.table}
    references = [Reference(checkpoint, table, column) for checkpoint, column, table in sorted(named)]
    releases = [stage.checkpoint_name for stage in stages if stage.releases]
    return store.remove_superseded(plan, references, releases)


def migrate_store(store: "LanceStore") -> "Iterator[Migration]":
    """Give each table that was written the columns of this release."""
    for table in written(store):
        yield store.migrate(table)


def set_aside(home: Home) -> dict[str, Path]:
    """Move all tables and checkpoints of a former layout beside the present ones; returns where they are.

    Rows of the same names in both layouts were made by other code versions, so they go as well.
    """
    root = home.storage_root
    if "://" in root or not former_tables(root):
        return {}
    target = Path(root) / f"before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    target.mkdir()
    moved = [path for path in sorted(Path(root).iterdir()) if path.suffix == ".lance" or path.name == "checkpoints"]
    for path in moved:
        shutil.move(path, target / path.name)
    return {path.name: target for path in moved}

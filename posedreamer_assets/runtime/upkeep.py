"""Upkeep of a store: which tables there are, and which checkpoints stored rows still name."""

from typing import TYPE_CHECKING

from posedreamer_assets.pipeline import graph
from posedreamer_assets.tables.fields import SCHEMAS

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore, Plan, Removed


def written(store: "LanceStore") -> list[str]:
    """The tables that were ever written."""
    return [table for table in SCHEMAS if store.version(table) is not None]


def remove_superseded(store: "LanceStore", plan: "Plan") -> "Removed":
    """Remove checkpoints that nothing names any more. Rows of every round name theirs in one table."""
    from posedreamer_assets.storage import Reference

    stages = graph(2)
    named = {(*s.names_checkpoint, s.table) for s in stages if s.names_checkpoint and s.table}
    references = [Reference(checkpoint, table, column) for checkpoint, column, table in sorted(named)]
    releases = [stage.checkpoint_name for stage in stages if stage.releases]
    return store.remove_superseded(plan, references, releases)

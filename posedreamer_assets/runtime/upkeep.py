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

    stages = [stage for stage in graph(2) if stage.names_checkpoint or stage.releases]
    references = list(
        dict.fromkeys(Reference(s.names_checkpoint[0], s.table, s.names_checkpoint[1]) for s in stages if s.names_checkpoint and s.table)
    )
    releases = [stage.checkpoint_name for stage in stages if stage.releases]
    return store.remove_superseded(plan, references=references, releases=releases)

"""Partition sets. Keys are `<source>-<number>`, a few hundred to a few thousand poses each.

A pose batch is either a base batch, which images are made for, or an alignment batch, which preference pairs are made
from. Poses and control maps exist for both, so there is one set of all and one of each, and one for each further round.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from posedreamer_assets.pipeline import Graph
from posedreamer_assets.pipeline.stage import POSES
from posedreamer_assets.tables.keys import of_groups

if TYPE_CHECKING:  # `posedreamer status` names the sets without it, in less time than the import takes
    import dagster as dg


def set_name(groups: tuple[str, ...]) -> str:
    """The name of the partition set of these groups."""
    return "pose_batches" if set(groups) == set(POSES) else f"{'_'.join(groups)}_batches"


def partition_set(groups: tuple[str, ...]) -> "dg.DynamicPartitionsDefinition":
    """The partitions of these groups."""
    import dagster as dg

    return dg.DynamicPartitionsDefinition(name=set_name(groups))


def all_groups(graph: Graph) -> list[tuple[str, ...]]:
    """The groups of every partition set of a graph, each once."""
    return list(dict.fromkeys(stage.groups for stage in graph if stage.groups))


def new_keys(instance: "dg.DagsterInstance", graph: Graph, keys: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    """By the groups of a set, those of the keys that belong to it and that Dagster does not know."""
    keys = list(keys)
    found: dict[tuple[str, ...], list[str]] = {}
    for groups in all_groups(graph):
        known = set(instance.get_dynamic_partitions(set_name(groups)))
        new = [key for key in of_groups(keys, groups) if key not in known]
        if new:
            found[groups] = new
    return found


def register(instance: "dg.DagsterInstance", graph: Graph, keys: Iterable[str]) -> None:
    """Add keys to every set that they belong to."""
    for groups, new in new_keys(instance, graph, keys).items():
        instance.add_dynamic_partitions(set_name(groups), new)

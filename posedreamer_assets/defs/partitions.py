"""Partition sets. Keys are `<source>-<number>`, a few hundred to a few thousand poses each.

A pose batch is either a base batch, which images are made for, or an alignment batch, which preference pairs are made
from. Poses and control maps exist for both, so there is one set of all and one of each.
"""

from collections.abc import Iterable

import dagster as dg

from posedreamer_assets.pipeline.graph import Group, in_group

POSE_BATCHES = dg.DynamicPartitionsDefinition(name="pose_batches")
BASE_BATCHES = dg.DynamicPartitionsDefinition(name="base_batches")
ALIGN_BATCHES = dg.DynamicPartitionsDefinition(name="align_batches")
HARD_BATCHES = dg.DynamicPartitionsDefinition(name="hard_batches")

BY_GROUP: dict[Group, dg.DynamicPartitionsDefinition] = {
    "pose": POSE_BATCHES,
    "base": BASE_BATCHES,
    "align": ALIGN_BATCHES,
    "hard": HARD_BATCHES,
}


def register(instance: dg.DagsterInstance, keys: Iterable[str]) -> None:
    """Add keys to every set that they belong to."""
    keys = list(keys)
    for group, definition in BY_GROUP.items():
        known = set(instance.get_dynamic_partitions(str(definition.name)))
        new = [key for key in keys if in_group(key, group) and key not in known]
        if new:
            instance.add_dynamic_partitions(str(definition.name), new)

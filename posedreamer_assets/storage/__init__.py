"""Rows in Lance tables, one table per asset, partitions replaced whole. The one package that imports lance.

store.py        `LanceStore`: what everybody uses
arriving.py     rows on their way in: fitted to the table's schema and digested, a few at a time
commits.py      the one commit that replaces a partition, whoever else commits meanwhile
checkpoints.py  folders of files: in place on a disk, uploaded to and fetched from an object store
upkeep.py       compaction along partitions, indexes, cleanup
superseded.py   checkpoints that nothing names any more
listing.py      the partitions in each file, remembered
damage.py       which file of a table is damaged
"""

from posedreamer_assets.storage.arriving import table_schema
from posedreamer_assets.storage.store import CheckpointInfo, LanceStore, PartitionInfo
from posedreamer_assets.storage.superseded import Removed
from posedreamer_assets.storage.upkeep import Plan, Upkeep

__all__ = ["LanceStore", "PartitionInfo", "CheckpointInfo", "Plan", "Upkeep", "Removed", "table_schema"]

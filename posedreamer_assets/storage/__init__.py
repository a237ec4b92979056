"""Rows in Lance tables, one table per asset, partitions replaced whole. The one package that imports lance.

store.py        `LanceStore`: what everybody uses
infos.py        what it says of partitions and checkpoints
opening.py      tables as Lance opens them, and errors that name the manifest
reading.py      rows of one version: selected, complete, in the order of their ids
columns.py      columns that came or went since a table was made; `migrate`
arriving.py     rows on their way in: fitted to the table's schema and digested, a few at a time
commits.py      the one commit that replaces a partition, whoever else commits meanwhile
tags.py         names of versions
checkpoints.py  folders of files: in place on a disk, uploaded to and fetched from an object store
recorded.py     the row that points to such a folder
upkeep.py       compaction along partitions, indexes, cleanup
superseded.py   checkpoints that nothing names any more
listing.py      the partitions in each file, remembered
newest.py       the newest version that each table had, so that a lost manifest is noticed
damage.py       which file of a table is damaged
verifying.py    whether rows are those that were written
failures.py     errors in one line, with a remedy
probing.py      whether an object store keeps what concurrent writers commit
"""

from posedreamer_assets.storage.arriving import table_schema
from posedreamer_assets.storage.columns import Migration
from posedreamer_assets.storage.infos import CheckpointInfo, PartitionInfo
from posedreamer_assets.storage.store import LanceStore
from posedreamer_assets.storage.superseded import Reference, Removed
from posedreamer_assets.storage.upkeep import Plan, Upkeep

__all__ = [
    "LanceStore",
    "PartitionInfo",
    "CheckpointInfo",
    "Migration",
    "Plan",
    "Reference",
    "Removed",
    "Upkeep",
    "table_schema",
]

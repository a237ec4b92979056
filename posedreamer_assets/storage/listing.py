"""What the files of a table say of its partitions, read once in a process: files never change.

A stage looks at the partitions of everything that it reads each time it runs. So only files that have come since are read:
a file is known by its own name and that of its deletion file, both of which Lance draws at random.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from lance.fragment import LanceFragment

from posedreamer_assets.digests import content_digest
from posedreamer_assets.storage.damage import files_of

COLUMNS = ["partition_key", "row_digest", "input_digest"]
MOST_FILES = 20_000  # that are remembered, of all tables


@dataclass(frozen=True)
class Part:
    """A partition's rows in one file; `content` and `rows` as in `PartitionInfo`."""

    rows: int
    input_digest: str
    content: str


class Listing:
    """The partitions in each file that was seen."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, ...], dict[str, Part]] = OrderedDict()

    def unknown(self, table: str, fragments: Iterable[LanceFragment]) -> list[LanceFragment]:
        """Those that have to be read."""
        return [fragment for fragment in fragments if _name(table, fragment) not in self._seen]

    def learn(self, table: str, fragments: Sequence[LanceFragment], scan: pa.Table) -> None:
        """Remember these fragments, of which `scan` holds COLUMNS and the row addresses."""
        rows: dict[int, dict[str, list[str]]] = {fragment.fragment_id: {} for fragment in fragments}
        inputs: dict[tuple[int, str], str] = {}
        where = (scan["_rowaddr"].to_numpy() >> 32).tolist()  # the upper half is the fragment
        for fragment, *row in zip(where, *(scan[name].to_pylist() for name in COLUMNS), strict=True):
            key, row_digest, made_from = row
            rows[fragment].setdefault(key, []).append(row_digest)
            inputs[fragment, key] = made_from
        for fragment in fragments:
            own = rows[fragment.fragment_id].items()
            parts = {k: Part(len(r), inputs[fragment.fragment_id, k], content_digest(r)) for k, r in own}
            self._seen[_name(table, fragment)] = parts
        while len(self._seen) > MOST_FILES:
            self._seen.popitem(last=False)

    def parts(self, table: str, fragments: Iterable[LanceFragment]) -> dict[str, list[Part]] | None:
        """By partition, its parts in these fragments; None where one of them is not remembered."""
        found: dict[str, list[Part]] = {}
        for fragment in fragments:
            parts = self._seen.get(_name(table, fragment))
            if parts is None:
                return None
            for key, part in parts.items():
                found.setdefault(key, []).append(part)
        return found


def _name(table: str, fragment: LanceFragment) -> tuple[str, ...]:
    return (table, *files_of(fragment))

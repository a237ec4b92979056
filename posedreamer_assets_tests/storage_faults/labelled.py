"""Partitions whose every row follows from a key and a label, so that a stored one is whole or it is not."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.keys import sample_id

TABLE = "rendered_scenes"


def row_count(label: str) -> int:
    """Rows of a partition with this label: labels differ in size, so that a mixture shows."""
    return 10 + random.Random(label).randrange(30)


def rows(key: str, label: str) -> pa.Table:
    """The partition's rows, about 2 kB each."""
    drawn = random.Random(f"{key} {label}")
    count = row_count(label)
    return pa.table(
        {
            "sample_id": [sample_id(key, i) for i in range(count)],
            "caption": [label] * count,
            "image": pa.array([drawn.randbytes(2000) for _ in range(count)], pa.large_binary()),
        }
    )


@dataclass
class Tally:
    """What was found wrong with stored partitions.

    Attributes:
        lost: rows that should be there and are not.
        doubled: rows that are there more than once.
        torn: partitions whose rows are of several writes, or not those that were written.
        damaged: files that cannot be read, or rows that differ from their digests.
    """

    lost: int = 0
    doubled: int = 0
    torn: int = 0
    damaged: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.torn or self.damaged)


def labels(store: LanceStore, tally: Tally, table: str = TABLE) -> dict[str, str]:
    """The label of each stored partition; what is wrong goes into the tally."""
    found = store.read(table, columns=["sample_id", "partition_key", "caption", "image"], missing_ok=True)
    names = found.column("sample_id").to_pylist()
    doubled = sum(count - 1 for count in Counter(names).values())
    tally.doubled += doubled
    stored: dict[str, str] = {}
    for key in sorted(set(found.column("partition_key").to_pylist())):
        part = found.filter(pc.field("partition_key") == key)
        seen = set(part.column("caption").to_pylist())
        label = max(seen)
        wanted = rows(key, label)
        missing = wanted.num_rows - part.num_rows
        if len(seen) > 1 or not part.select(wanted.column_names).equals(
            wanted.cast(part.select(wanted.column_names).schema)
        ):
            tally.torn += 1
            tally.notes.append(f"{key}: labels {sorted(seen)}, {part.num_rows} rows of {wanted.num_rows}")
        tally.lost += max(0, missing)
        stored[key] = label
    return stored


def damage(store: LanceStore, tally: Tally, tables: tuple[str, ...]) -> None:
    """Read everything back against its digests."""
    for table in tables:
        if store.version(table) is not None:
            found = list(store.verify(table))
            tally.damaged += len(found)
            tally.notes += [f"{table}: {d.files} {d.what}" for d in found]


def write_checkpoint(store: LanceStore, name: str, label: str) -> None:
    """A checkpoint of three files that follow from its label."""

    def write(folder: Path) -> dict[str, str]:
        for i in range(3):
            (folder / f"{i}.bin").write_bytes(random.Random(f"{label} {i}").randbytes(50_000))
        return {"label": label}

    store.write_checkpoint(name, label, write, input_digest=label)


def checkpoint_label(store: LanceStore, name: str, tally: Tally) -> str | None:
    """The label of the current checkpoint, its files compared."""
    found = store.checkpoint(name)
    if found is None:
        return None
    label = found.metrics["label"]
    for i in range(3):
        file = found.path / f"{i}.bin"
        if not file.is_file() or file.read_bytes() != random.Random(f"{label} {i}").randbytes(50_000):
            tally.torn += 1
            tally.notes.append(f"checkpoint {name}: {file}")
    return label

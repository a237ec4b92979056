"""Rows that tests of the store write, and what they read of it."""

from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from lance import LanceDataset

from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import sample_id

TABLE = "rendered_scenes"
KEY, OTHER = "procedural-0000", "cmu-0017"


def opened_again(store: LanceStore, cache: Path | None = None) -> LanceStore:
    """The same store, opened anew."""
    return LanceStore(store.root, store.storage_options, cache=cache)


def dataset_of(store: LanceStore, version: int | None = None) -> LanceDataset:
    return lance.dataset(store.uri(TABLE), version, storage_options=store.storage_options)


def with_values(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, pa.field(name, values.type), [values])


def some_rows(key: str = KEY, n: int = 5, label: str = "a", image_bytes: int = 50) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "sample_id": [sample_id(key, i) for i in range(n)],
            "partition_key": [key] * n,
            "image_id": [sample_id(key, i) for i in range(n)],
            "image": pa.array([rng.bytes(image_bytes) for _ in range(n)], pa.large_binary()),
            "caption": [f"{label} {i}" for i in range(n)],
            "seed": list(range(n)),
            "split": ["train"] * n,
        },
        schema=SCHEMAS[TABLE],
    )


def stored_captions(store: LanceStore, key: str = KEY) -> list[str]:
    return store.read(TABLE, [key], ["caption"]).column("caption").to_pylist()

"""Label arrays that grow batch by batch and end in one npz."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posedreamer_assets.export.shards import Shard


class Columns:
    """Arrays of a shard's labels, by name; images never pass through here, so a shard of labels is small."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def add(self, **arrays: np.ndarray) -> None:
        """Append the arrays of some samples."""
        for name, values in arrays.items():
            self._parts.setdefault(name, []).append(values)

    def arrays(self) -> dict[str, np.ndarray]:
        """One array for each name, samples first."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def save_npz(shard: Shard, path: str, arrays: Mapping[str, Any]) -> None:
    """Write a compressed npz; equal arrays give equal bytes. Objects are pickled, so callers pass them on request only."""
    with shard.file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)

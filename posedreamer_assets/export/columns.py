"""Label arrays that grow batch by batch and end in one npz."""

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from posedreamer_assets.export.pickles import object_npy
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
    """Write a compressed npz; equal arrays give equal bytes. Dictionaries are pickled: callers pass them on request only."""
    with shard.file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, value in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                if isinstance(value, dict):
                    file.write(object_npy(value))
                else:
                    np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)

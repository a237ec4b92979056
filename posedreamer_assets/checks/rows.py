"""Rows under test: columns as arrays, each image decoded once however many checks look at it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from PIL import UnidentifiedImageError

from posedreamer_assets.errors import ImageError
from posedreamer_assets.tables.images import opened

T = TypeVar("T")
UNREADABLE = (ImageError, UnidentifiedImageError, OSError, SyntaxError, ValueError)
"""Pillow's various ways to say that a file is broken, and ours that it is too large."""


@dataclass(frozen=True)
class Picture:
    """A decoded image: Pillow's mode and (h, w) or (h, w, 3) pixels."""

    mode: str
    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


class Rows:
    """A table whose columns are converted once."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._pictures: dict[tuple[str, str | None], list[Picture | None]] = {}
        self._found: dict[tuple[str, ...], Any] = {}

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def ids(self) -> list[str]:
        """Sample ids."""
        return self.values("sample_id")

    def values(self, column: str) -> list[Any]:
        """Python values."""
        return self.table.column(column).to_pylist()

    def present(self, column: str) -> np.ndarray:
        """Where the column is not null: (n,)."""
        return self.table.column(column).is_valid().to_numpy()

    def numbers(self, column: str, width: int | None = None) -> np.ndarray:
        """A numeric or boolean column as float64 (n,), (n, k) for fixed-size lists, (n, k / width, width) if asked.

        NaN stands for nulls, which no bound admits.
        """
        found = numbers(self.table.column(column))
        return found if width is None else found.reshape(len(found), found.shape[1] // width, width)

    def files(self, column: str, pick: str | None = None) -> list[bytes | None]:
        """Files of a column; of a list of files, the one whose number stands in the column `pick`."""
        if pick is None:
            return self.values(column)
        chosen = zip(self.values(column), self.values(pick), strict=True)
        return [of[i] if of is not None and i is not None and 0 <= i < len(of) else None for of, i in chosen]

    def pictures(self, column: str, pick: str | None = None) -> list[Picture | None]:
        """The decoded images of `files`; None for nulls and for files whose pixels cannot all be read."""
        if (column, pick) not in self._pictures:
            blobs = self.files(column, pick)
            self._pictures[column, pick] = [None if blob is None else decode(blob) for blob in blobs]
        return self._pictures[column, pick]

    def once(self, name: tuple[str, ...], make: Callable[[], T]) -> T:
        """What `make` returns, asked for once however many checks use it."""
        if name not in self._found:
            self._found[name] = make()
        return self._found[name]

    def matched(self, other: pa.Table) -> "Rows":
        """The rows of another table with these sample ids, in this order; nulls where it has none."""
        place = {name: i for i, name in enumerate(other.column("sample_id").to_pylist())}
        return Rows(other.take(pa.array([place.get(name) for name in self.ids], pa.int64())))

    def take(self, indices: np.ndarray) -> "Rows":
        """Some rows."""
        return Rows(self.table.take(pa.array(indices)))


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """See `Rows.numbers`."""
    array = column.combine_chunks()
    kind = array.type
    if not pa.types.is_fixed_size_list(kind):
        return array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    flat = np.full((len(array), kind.list_size), np.nan)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    flat[present] = array.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False).reshape(-1, kind.list_size)
    return flat


def decode(blob: bytes) -> Picture | None:
    """The image; None where not all of its pixels can be read."""
    try:
        with opened(blob) as image:
            return Picture(image.mode, np.asarray(image))
    except UNREADABLE:
        return None

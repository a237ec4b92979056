"""Where exported rows come from."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pyarrow as pa

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

TABLE = "dataset"
# What a plan and the card need to know of every row; images and labels are read a few rows at a time.
INDEX_COLUMNS = (
    *("sample_id", "row_digest", "split", "round", "source", "family", "licence", "oks"),
    *("width", "height", "cam_pitch_deg", "focal_px", "bbox", "keypoints_visible"),
)


@runtime_checkable
class Reader(Protocol):
    """Gives rows of `records.DATASET`; all of one version of the table, so that an export is of one moment."""

    def index(self) -> pa.Table:
        """`INDEX_COLUMNS` of all rows, ordered by sample id."""
        ...

    def batches(self, ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These rows with all columns, in the order given, a few at a time."""
        ...


class StoreReader:
    """Reads a version of the table `dataset` from a store.

    Args:
        store: where the table is.
        version: a version or tag; None takes the newest, and keeps to it.
    """

    def __init__(self, store: "LanceStore", version: int | str | None = None, rows_at_a_time: int = 64) -> None:
        self._store = store
        self._version = store.version(TABLE) if version is None else version
        self._rows = rows_at_a_time

    @property
    def version(self) -> int | str | None:
        """The version that is read."""
        return self._version

    def index(self) -> pa.Table:
        return self._store.read(TABLE, columns=INDEX_COLUMNS, version=self._version)

    def batches(self, ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(ids), self._rows):
            some = ids[start : start + self._rows]
            quoted = ", ".join(f"'{name}'" for name in some)
            keys = sorted({name.rpartition("/")[0] for name in some})
            found = self._store.read(TABLE, keys, filter=f"sample_id IN ({quoted})", version=self._version)
            yield from found.combine_chunks().to_batches()

"""Where exported rows come from: labels of people from `dataset`, images from `raw_generations`, at one moment.

An image is stored once. A row of `dataset` names its image by `image_id` and by `image_digest`, the digest of the row
that held the image when the label was chosen. Here the two are joined, and nowhere else.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from posedreamer_assets.errors import ExportError
from posedreamer_assets.tables.fields import SCHEMAS

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

TABLE, IMAGE_TABLE = "dataset", "raw_generations"
# What a plan and the card need to know of every row; images and labels are read a few rows at a time.
INDEX_COLUMNS = (
    *("sample_id", "image_id", "person", "image_digest", "row_digest", "split", "round", "source", "family"),
    *("licence", "oks", "width", "height", "cam_pitch_deg", "focal_px", "bbox", "keypoints_visible"),
)
MADE_BY = ("generator", "adapter")
"""What made an image, as its row says; the index of a reader has it beside `INDEX_COLUMNS`."""


@dataclass(frozen=True)
class Batch:
    """People of a few images.

    Attributes:
        people: rows of `SCHEMAS["dataset"]`; images in the order asked for, the people of an image together and in their order.
        images: encoded images by image id.
    """

    people: pa.Table
    images: Mapping[str, bytes]


@runtime_checkable
class Reader(Protocol):
    """Gives rows of one version of the table, so that an export is of one moment."""

    def index(self) -> pa.Table:
        """`INDEX_COLUMNS` and `MADE_BY` of all rows, ordered by image id and person."""
        ...

    def batches(self, image_ids: Sequence[str]) -> Iterator[Batch]:
        """All people of these images, a few images at a time."""
        ...


class VersionedReader(Reader, Protocol):
    """A reader that says what it reads."""

    @property
    def versions(self) -> Mapping[str, int | str | None]:
        """The version that is read of each table."""
        ...


class Tables:
    """The two tables at the versions that belong together, opened anew in every process.

    Args:
        store: where they are.
        version: a version or tag of `dataset`; None takes the newest, and keeps to it. Where both tables have the tag,
            images are read at it, too; else from the newest version, and their digests tell whether they still are the
            images that the labels belong to.
    """

    def __init__(self, store: "LanceStore", version: int | str | None = None) -> None:
        self._store = store
        tagged = isinstance(version, str) and version in store.tags(IMAGE_TABLE)
        newest = store.version(IMAGE_TABLE)
        self.versions = {
            TABLE: store.version(TABLE) if version is None else version,
            IMAGE_TABLE: version if tagged else newest,
        }
        self._opened: tuple[int, dict[str, Any]] = os.getpid(), {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": (None, {})}

    def columns(self, table: str, names: Sequence[str]) -> pa.Table:
        """These columns of all rows of a table, in the order of `take`."""
        return self._read(table, lambda opened: opened.scanner(columns=list(names)).to_table())

    def take(self, table: str, places: Int[np.ndarray, " n"], names: Sequence[str]) -> pa.Table:
        """Rows of a table by place, in one request."""
        return self._read(table, lambda opened: opened.take(places, columns=list(names)))

    def _read(self, table: str, read: Any) -> pa.Table:
        opened = self._open(table)
        try:
            return read(opened)
        except (OSError, ValueError, RuntimeError) as error:
            where = f"table {table!r}, version {self.versions[table]}"
            raise ExportError(
                f"{where}: could not read rows, `posedreamer storage verify` tells more: {error}"
            ) from error

    def _open(self, table: str) -> Any:
        process, opened = self._opened
        if process not in (None, os.getpid()):
            raise ExportError(
                "the table was opened before a fork, which Lance does not survive; "
                'give the loader multiprocessing_context="spawn" or "forkserver"'
            )
        if table not in opened:
            found = self._store.table_at(table, self.versions[table])
            if found is None:
                raise ExportError(f"table {table!r} does not exist under {self._store.root}; materialise it first")
            opened[table] = found
        self._opened = os.getpid(), opened
        return opened[table]


def places_of_images(rows: pa.Table, images: pa.Table) -> Int[np.ndarray, " n"]:
    """Which row of `images` holds the image of each row of `rows`.

    Args:
        rows: `sample_id`, `image_id` and `image_digest`, of `dataset`.
        images: `image_id` and `row_digest`, of `raw_generations`.

    Raises:
        ExportError: an image is gone, or was made again after its label was chosen.
    """
    place = {name: i for i, name in enumerate(images.column("image_id").to_pylist())}
    digests = images.column("row_digest").to_pylist()
    names = rows.column("image_id").to_pylist()
    found = np.array([place.get(name, -1) for name in names], np.int64)
    if (found < 0).any():
        sample = rows.column("sample_id")[int(np.flatnonzero(found < 0)[0])].as_py()
        raise ExportError(
            f"sample {sample!r}: its image is not in table {IMAGE_TABLE!r} any more; make the dataset again"
        )
    wanted = rows.column("image_digest").to_pylist()
    stale = [i for i, (image, digest) in enumerate(zip(found, wanted, strict=True)) if digests[image] != digest]
    if stale:
        sample = rows.column("sample_id")[stale[0]].as_py()
        raise ExportError(
            f"sample {sample!r} and {len(stale) - 1} others: the image was made again since the dataset was; materialise "
            "'dataset' again, or give a tag that both tables have (--version)"
        )
    return found


class StoreReader:
    """Reads a version of the dataset from a store.

    Args:
        store: where the tables are.
        version: as for `Tables`.
        images_at_a_time: how many are in memory.

    Raises:
        StorageError: a table that cannot be opened.
    """

    def __init__(self, store: "LanceStore", version: int | str | None = None, images_at_a_time: int = 64) -> None:
        self._tables = Tables(store, version)
        self._images = images_at_a_time
        self._places: dict[str, tuple[list[int], int]] = {}

    @property
    def versions(self) -> Mapping[str, int | str | None]:
        """The version that is read of each table."""
        return self._tables.versions

    def index(self) -> pa.Table:
        rows = self._tables.columns(TABLE, INDEX_COLUMNS)
        images = self._tables.columns(IMAGE_TABLE, ("image_id", "row_digest", *MADE_BY))
        found = places_of_images(rows, images)
        for name in MADE_BY:
            rows = rows.append_column(name, images.column(name).take(found))
        images_of, persons = rows.column("image_id").to_pylist(), rows.column("person").to_pylist()
        order = sorted(range(rows.num_rows), key=lambda row: (images_of[row], persons[row]))
        self._places = {}
        for row in order:
            self._places.setdefault(images_of[row], ([], int(found[row])))[0].append(row)
        return rows.take(order)

    def batches(self, image_ids: Sequence[str]) -> Iterator[Batch]:
        if not self._places:
            self.index()
        for start in range(0, len(image_ids), self._images):
            some = image_ids[start : start + self._images]
            people = np.array([row for name in some for row in self._places[name][0]], np.int64)
            images = np.array([self._places[name][1] for name in some], np.int64)
            encoded = self._tables.take(IMAGE_TABLE, images, ["image"]).column("image").to_pylist()
            rows = self._tables.take(TABLE, people, [*SCHEMAS["dataset"].names, "row_digest"])
            yield Batch(rows, dict(zip(some, encoded, strict=True)))


class RandomRows:
    """Labels and images of people by number, ordered by sample id; a request reads each table once.

    Args:
        store: where the tables are.
        split: only this split; None reads all.
        columns: of each row; `image` is the encoded image.
        version: as for `Tables`.

    Raises:
        ExportError: there is no table, no row of the split, or an image that is not that of its label any more.
    """

    def __init__(
        self, store: "LanceStore", split: str | None, columns: Sequence[str], version: int | str | None = None
    ) -> None:
        self._tables = Tables(store, version)
        self.columns = list(columns)
        self.version = self._tables.versions[TABLE]
        rows = self._tables.columns(TABLE, ("sample_id", "split", "image_id", "image_digest"))
        wanted = np.arange(rows.num_rows)
        if split is not None:
            wanted = np.flatnonzero([found == split for found in rows.column("split").to_pylist()])
        if not len(wanted):
            raise ExportError(f"table {TABLE!r}, version {self.version}: no rows of split {split!r}")
        names = np.array(rows.column("sample_id").to_pylist(), dtype=str)
        self._places = wanted[np.argsort(names[wanted])]  # in the order of ids
        self._images = None
        if "image" in self.columns:
            images = self._tables.columns(IMAGE_TABLE, ("image_id", "row_digest"))
            self._images = places_of_images(rows.take(self._places), images)

    def __len__(self) -> int:
        return len(self._places)

    def fetch(self, numbers: Sequence[int] | np.ndarray) -> pa.Table:
        """The rows of these numbers, in that order."""
        chosen = np.asarray(numbers, np.int64)
        labels = [name for name in self.columns if name != "image"]
        rows = self._tables.take(TABLE, self._places[chosen], labels) if labels else None
        if self._images is None:
            return pa.table({}) if rows is None else rows
        images = self._tables.take(IMAGE_TABLE, self._images[chosen], ["image"])
        return images if rows is None else rows.append_column("image", images.column("image")).select(self.columns)

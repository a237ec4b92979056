"""What the store says of a partition and of a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PartitionInfo:
    """What is known of a partition without reading its content.

    Attributes:
        key: partition key.
        rows: number of rows.
        input_digest: of what the partition was made from.
        content_digest: of the set of its rows, whatever their order.
        version: the table's version in which this was seen.
    """

    key: str
    rows: int
    input_digest: str
    content_digest: str
    version: int


@dataclass(frozen=True)
class CheckpointInfo:
    """A trained model or report: a folder of files and a row in table `checkpoints`.

    Attributes:
        name: for example `dpo`.
        digest: of what the checkpoint was asked for; the caller's.
        place: its folder below the storage root; the last part names the request and the content of the files.
        metrics: what the training reported.
        input_digest: of the rows it was trained on.
    """

    name: str
    digest: str
    place: str
    metrics: Mapping[str, Any]
    input_digest: str
    _find: Callable[[str], Path] = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        """The local folder with its files, fetched from the object store when it is first asked for.

        Raises:
            StorageError: the files are gone or damaged, or cannot be fetched.
        """
        return self._find(self.place)

"""The row of a checkpoint in table `checkpoints`. Rows are not trusted: what they name lies in the checkpoints' folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.checkpoints import CheckpointFolders
from posedreamer_assets.storage.failures import explained, is_of_the_disk
from posedreamer_assets.storage.places import check_request, is_place_of
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PARTITION_KEY_PATTERN

TABLE = "checkpoints"
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Recorded:
    """What a row says; as in `CheckpointInfo`."""

    name: str
    digest: str
    place: str
    metrics: Mapping[str, Any]
    input_digest: str

    @property
    def rows(self) -> pa.Table:
        """The row, without its bookkeeping."""
        row = {
            "sample_id": f"{self.name}/{self.digest}",
            "partition_key": recorded_key(self.name),
            "name": self.name,
            "path": self.place,
            "metrics": json.dumps(self.metrics, sort_keys=True),
        }
        return pa.Table.from_pylist([row], schema=SCHEMAS[TABLE])


def recorded_key(name: str) -> str:
    """The partition of a checkpoint's row; raises StorageError where the name is bad."""
    key = f"checkpoint-{name.replace('_', '-')}-0000"
    if not PARTITION_KEY_PATTERN.fullmatch(key) or len(name) > _LONGEST_NAME:
        raise StorageError(f"bad checkpoint name {name!r}: expected a-z, 0-9, '-' and '_', at most {_LONGEST_NAME}")
    return key


def check_name(name: str, key_digest: str) -> None:
    """Raises StorageError unless a folder below the storage root can be named after both."""
    recorded_key(name)
    check_request(name, key_digest)


def record(
    folders: CheckpointFolders,
    name: str,
    key_digest: str,
    write: Callable[[Path], Mapping[str, Any]],
    input_digest: str,
) -> Recorded:
    """Let `write` fill a folder and put it into its place.

    Raises:
        StorageError: nothing written, or the disk or object store failed.
    """
    with folders.scratch(name) as scratch:
        try:
            metrics = dict(write(scratch))
        except OSError as error:
            if not is_of_the_disk(error):
                raise
            raise StorageError(f"checkpoint {name!r}: could not be written: {explained(error)}") from error
        if not any(scratch.iterdir()):
            raise StorageError(f"checkpoint {name!r}: nothing was written into its folder")
        place = folders.store(scratch, key_digest)
    return Recorded(name, key_digest, place, metrics, input_digest)


def parsed(name: str, rows: Sequence[Mapping[str, Any]]) -> Recorded:
    """What the row of a checkpoint says.

    Raises:
        StorageError: a row that no checkpoint of this name can have written.
    """
    row = rows[0]
    place, sample = row["path"] or "", row["sample_id"]
    digest = sample.removeprefix(f"{name}/")
    if len(rows) > 1:
        raise _foreign(name, f"{len(rows)} rows, expected one")
    if row["name"] != name or sample == digest:
        raise _foreign(name, f"a row of {row['name']!r} with the id {sample!r}")
    if not is_place_of(place, name, digest):
        raise _foreign(name, f"the place {place!r}, expected checkpoints/{name}/{digest}-<12 digits>")
    try:
        metrics = dict(json.loads(row["metrics"]))
    except (TypeError, ValueError) as error:
        raise _foreign(name, f"metrics that are no JSON object: {row['metrics']!r}") from error
    return Recorded(name, digest, place, metrics, row["input_digest"])


def _foreign(name: str, found: str) -> StorageError:
    return StorageError(f"table {TABLE!r}, checkpoint {name!r}: found {found}; materialise it again")

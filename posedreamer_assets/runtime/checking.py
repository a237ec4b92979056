"""Running the data checks on what is stored: shared by Dagster's asset checks and `posedreamer checks run`."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from posedreamer_assets.checks import CHECKPOINT_ASSETS, EXAMPLES, CheckOutcome, load_table_checks, run_checks
from posedreamer_assets.checks.pages import failed_checks, failing_pictures, page_of, record
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import CheckError, StorageError
from posedreamer_assets.pipeline.graph import STAGES, Snapshot, Stage
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import SCHEMAS

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel
    from posedreamer_assets.storage import LanceStore

_STAGE_OF_TABLE = {stage.table: stage for stage in STAGES.values()}


class Surroundings:
    """What surrounds a stored partition, see `checks.Around`; `key` None stands for all partitions."""

    def __init__(self, store: "LanceStore", profile: Profile | None, table: str, key: str | None) -> None:
        self._store = store
        self._profile = profile
        self._table = table
        self._key = key
        self._read: dict[tuple[str, tuple[str, ...]], pa.Table] = {}

    def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Rows of another table at the same partition; several checks ask for the same ones."""
        asked = (table, tuple(columns))
        if asked not in self._read:
            keys = None if self._key is None else [self._key]
            self._read[asked] = self._store.read(table, keys=keys, columns=columns, missing_ok=True)
        return self._read[asked]

    def before(self, columns: Sequence[str], batches: int, rows: int) -> list[pa.Table]:
        """Rows of earlier batches of the same source."""
        if self._key is None:
            return []
        source = self._key.rpartition("-")[0]
        earlier = [k for k in _keys(self._store, self._table) if k < self._key and k.rpartition("-")[0] == source]
        return [self._sample(key, columns, rows) for key in earlier[-batches:]]

    def _sample(self, key: str, columns: Sequence[str], rows: int) -> pa.Table:
        ids = self._store.read(self._table, keys=[key], columns=["sample_id"]).column("sample_id").to_pylist()
        if len(ids) <= rows:
            return self._store.read(self._table, keys=[key], columns=columns)
        chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, rows).astype(int)]
        quoted = ", ".join(f"'{name}'" for name in chosen)
        return self._store.read(self._table, keys=[key], columns=columns, filter=f"sample_id IN ({quoted})")

    def profile(self) -> Profile | None:
        """The profile, where the rows are up to date and so were made with it."""
        return self._profile

    def body(self) -> "BodyModel":
        """The profile's body."""
        from posedreamer_assets.body.model import load_body

        return load_body(self._profile.body.model_path if self._profile else None)

    def folder(self, place: str) -> Path | None:
        """The local folder of a checkpoint."""
        try:
            found = self._store.checkpoint(place.split("/")[1])
            return found.path if found is not None and found.place == place else None
        except StorageError:
            return None


def _keys(store: "LanceStore", table: str) -> list[str]:
    if store.version(table) is None:
        return []
    return sorted(set(store.read(table, columns=["partition_key"]).column("partition_key").to_pylist()))


def check_partition(
    store: "LanceStore", table: str, key: str | None, profile: Profile | None = None
) -> list[CheckOutcome]:
    """Outcomes of a table's checks on one partition, or on the whole table.

    Args:
        store: where the tables are.
        table: a table's name, or that of an unpartitioned asset, whose row in `checkpoints` is checked.
        key: partition key.
        profile: what the rows were made with; None where that is not known, which leaves some tests unjudged.
    """
    if table in CHECKPOINT_ASSETS:
        rows = store.read("checkpoints", filter=f"name = '{table}'")
        return run_checks(table, rows, Surroundings(store, profile, "checkpoints", None))
    rows = store.read(table, keys=None if key is None else [key])
    return run_checks(table, rows, Surroundings(store, profile, table, key))


@dataclass(frozen=True)
class Checked:
    """What the checks of an asset found, for showing.

    Attributes:
        outcomes: one for each check, over all partitions where the asset has none of its own.
        pictures: of failing samples, by id.
        page: the page of data docs with all of it.
    """

    outcomes: list[CheckOutcome]
    pictures: Mapping[str, np.ndarray]
    page: Path

    @property
    def bad(self) -> list[str]:
        """Names of failed checks of severity error."""
        return [outcome.name for outcome in self.outcomes if outcome.blocking and not outcome.passed]

    def pictures_of(self, outcome: CheckOutcome) -> np.ndarray | None:
        """Pictures of an outcome's failing samples that have one size: (n, h, w, 3)."""
        found = [self.pictures[name] for name in outcome.failing_ids if name in self.pictures]
        same = [picture for picture in found if picture.shape == found[0].shape]
        return np.stack(same) if same else None


def check_asset(home: Home, store: "LanceStore", table: str, key: str | None, profile: Profile) -> Checked:
    """Run an asset's checks, keep what they found in the home's data docs, and return it for showing.

    An asset without partitions whose table has some (`dataset`) is checked one partition at a time.
    """
    snapshot = Snapshot(profile, store)
    keys = [key] if key is not None or table in CHECKPOINT_ASSETS else [*_keys(store, table)] or [None]
    parts: list[list[CheckOutcome]] = []
    pictures: dict[str, np.ndarray] = {}
    for part in keys:
        outcomes = check_partition(store, table, part, _known(snapshot, table, part))
        record(home, store, table, part, outcomes, pages=part is keys[-1])
        parts.append(outcomes)
        failing = [name for outcome in outcomes if not outcome.passed for name in outcome.failing_ids]
        if part is not None and failing:
            pictures |= failing_pictures(store, table, part, list(dict.fromkeys(failing)))
    page = page_of(home, table, keys[0]) if len(keys) == 1 else page_of(home, table, None).with_name("index.html")
    return Checked(_merged(parts), pictures, page)


def _merged(parts: Sequence[Sequence[CheckOutcome]]) -> list[CheckOutcome]:
    """One outcome for each check over several partitions; the words are those of the first failure."""
    merged: list[CheckOutcome] = []
    for same in zip(*parts, strict=True):
        worst = next((outcome for outcome in same if not outcome.passed), same[0])
        ids = [name for outcome in same if not outcome.passed for name in outcome.failing_ids]
        counts = {name: sum(getattr(outcome, name) for outcome in same) for name in ("checked", "failed")}
        merged.append(dataclasses.replace(worst, failing_ids=tuple(ids[:EXAMPLES]), **counts))
    return merged


def refuse_bad_rows(home: Home, snapshot: Snapshot, stage: Stage, key: str | None) -> None:
    """Keep a stage from reading rows that failed a check of severity error.

    Raises:
        CheckError: an upstream partition is marked bad, and its rows are still those that failed.
    """
    asked = [(name, key) for name in stage.reads]
    asked += [(name, other) for name, group in stage.reads_all for other in snapshot.current_keys(STAGES[name], group)]
    for name, partition in asked:
        stored = snapshot.partitions(STAGES[name]).get(partition or "")
        bad = failed_checks(home, STAGES[name].table, partition, stored.content_digest) if stored else []
        if bad:
            raise CheckError(
                f"{stage.key} must not be made from {name}[{partition}], which failed {', '.join(bad)}; see "
                f"{page_of(home, STAGES[name].table, partition)}, and make that partition again"
            )


def check_store(
    store: "LanceStore", table: str | None = None, key: str | None = None, profile: Profile | None = None
) -> Iterator[tuple[str, str | None, list[CheckOutcome]]]:
    """Outcomes over a store, partition by partition: table, partition (None for a checkpoint asset), outcomes.

    Raises:
        CheckError: an unknown table, or one that holds nothing.
    """
    if table is not None:
        table = load_table_checks(table).table
    snapshot = None if profile is None else Snapshot(profile, store)
    for name in [table] if table else [*SCHEMAS, *CHECKPOINT_ASSETS]:
        stored = _stored(store, name)
        if table is not None and not stored:
            raise CheckError(f"table {name!r} holds nothing yet")
        if key is not None and table is not None and key not in stored:
            raise CheckError(f"table {name!r} has no partition {key!r}; there are {', '.join(map(str, stored))}")
        for partition in stored:
            if key is None or partition == key:
                yield name, partition, check_partition(store, name, partition, _known(snapshot, name, partition))


def _stored(store: "LanceStore", name: str) -> list[str | None]:
    if name in CHECKPOINT_ASSETS:
        return [None] if store.checkpoint(name) is not None else []
    return [*_keys(store, name)]


def _known(snapshot: Snapshot | None, table: str, key: str | None) -> Profile | None:
    """The profile where the partition is up to date with it."""
    stage = _STAGE_OF_TABLE.get(table)
    if snapshot is None or stage is None or (stage.group is None and key is not None):
        return None
    return snapshot.profile if snapshot.is_current(stage, key) else None

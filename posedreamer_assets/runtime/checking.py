"""Running the data checks on what is stored, wherever it is asked for: assets, command line, and stages that read rows which
nobody has looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from posedreamer_assets.checks.files import load_table_checks
from posedreamer_assets.checks.model import CheckOutcome
from posedreamer_assets.config import Profile
from posedreamer_assets.cores import one_core
from posedreamer_assets.errors import CheckError, StorageError
from posedreamer_assets.pipeline import Stage, graph_of
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.outcomes import EMPTY, record
from posedreamer_assets.tables.fields import SCHEMAS, WITHOUT_SAMPLES
from posedreamer_assets.tables.keys import image_of, source_of

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel
    from posedreamer_assets.storage import LanceStore

PICTURES = 8  # of failing samples
_OWN_PICTURES = ("image", "control")
_OTHER_PICTURES = (("raw_generations", "image"), ("control_maps", "control"), ("rendered_scenes", "image"))


class Surroundings:
    """What surrounds a stored partition, see `checks.model.Around`; `key` None stands for all partitions."""

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

    def everywhere(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Rows of another table at all partitions."""
        return self._store.read(table, columns=columns, missing_ok=True)

    def before(self, columns: Sequence[str], batches: int, rows: int) -> list[pa.Table]:
        """Rows of earlier batches of the same source."""
        if self._key is None:
            return []
        source = source_of(self._key)
        earlier = [k for k in self._store.partitions(self._table) if k < self._key and source_of(k) == source]
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


def check_partition(
    store: "LanceStore", name: str, key: str | None, profile: Profile | None = None, *, checkpoint: str | None = None
) -> list[CheckOutcome]:
    """Outcomes of the checks of `dbt_like_checks/<name>.yml` on one partition, on a whole table, or on a checkpoint.

    Args:
        store: where the tables are.
        name: a table, or a stage whose result is a checkpoint.
        key: partition key.
        profile: what the rows were made with; None where that is not known, which leaves some tests unjudged.
        checkpoint: name of the checkpoint in the store, where it is not the stage's.
    """
    from posedreamer_assets.checks.suite import run_checks

    if name not in SCHEMAS:
        rows = store.read("checkpoints", filter=f"name = '{checkpoint or name}'")
        return run_checks(name, rows, Surroundings(store, profile, "checkpoints", None))
    known = key is None or store.partition(name, key) is not None
    rows = store.read(name, keys=[key] if key and known else None if known else [], missing_ok=True)
    with one_core():
        return run_checks(name, rows, Surroundings(store, profile, name, key))


@dataclass(frozen=True)
class Checked:
    """What the checks of a partition found, for showing.

    Attributes:
        outcomes: one for each check.
        pictures: of failing samples, by id: (h, w, 3).
    """

    outcomes: list[CheckOutcome]
    pictures: Mapping[str, np.ndarray]

    @property
    def bad(self) -> list[str]:
        """Names of failed checks of severity error."""
        return [outcome.name for outcome in self.outcomes if outcome.blocking and not outcome.passed]

    def pictures_of(self, outcome: CheckOutcome) -> np.ndarray | None:
        """Pictures of an outcome's failing samples that have one size: (n, h, w, 3)."""
        found = [self.pictures[name] for name in outcome.failing_ids if name in self.pictures]
        same = [picture for picture in found if picture.shape == found[0].shape]
        return np.stack(same) if same else None


def check_asset(store: "LanceStore", stage: Stage, key: str | None, profile: Profile) -> Checked:
    """Run a stage's checks on what is stored of it, keep what they found in the store, and return it for showing."""
    snapshot = Snapshot(profile, store)
    stored = snapshot.stored(stage, key)
    known = profile if snapshot.is_fresh(stage, key) else None
    name = stage.table or stage.name
    outcomes = check_partition(store, name, key, known, checkpoint=stage.checkpoint_name)
    content = stored.content if stored else ""
    made_from = stored.input_digest if stored and content == EMPTY else ""
    record(store, stage.stored_as, key, content, outcomes, made_from)
    failing = list(dict.fromkeys(i for o in outcomes if not o.passed for i in o.failing_ids))[:PICTURES]
    pictures = failing_pictures(store, name, key, failing) if key is not None and failing else {}
    return Checked(outcomes, pictures)


def failing_pictures(store: "LanceStore", table: str, key: str, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """A picture of each sample, with its keypoints where the table has some; samples without one are left out."""
    from posedreamer_assets.checks.rows import decode
    from posedreamer_assets.pipeline.thumbnails import with_keypoints

    place = _picture_column(store, table, key)
    if not ids or place is None:
        return {}
    shown = {image_of(name): name for name in ids}
    rows = store.read(place[0], keys=[key], columns=["image_id", place[1]], filter=_among("image_id", shown))
    found = zip(rows.column("image_id").to_pylist(), rows.column(place[1]).to_pylist(), strict=True)
    decoded = {name: decode(blob) for name, blob in found if blob}
    drawn = {shown[name]: p.pixels for name, p in decoded.items() if p is not None and p.mode == "RGB"}
    points = _keypoints(store, table, key, ids)
    return {name: with_keypoints(drawn[name], points.get(name)) for name in ids if name in drawn}


def _picture_column(store: "LanceStore", table: str, key: str) -> tuple[str, str] | None:
    """Table and column with a picture of the samples of this table."""
    if table not in SCHEMAS or table in WITHOUT_SAMPLES:
        return None
    own = [(table, column) for column in _OWN_PICTURES if column in SCHEMAS[table].names]
    places = [*own, *_OTHER_PICTURES]
    return next((place for place in places if place[0] == table or store.partition(place[0], key)), None)


def _keypoints(store: "LanceStore", table: str, key: str, ids: Sequence[str]) -> dict[str, np.ndarray]:
    column = next((c for c in ("keypoints_2d", "detected") if c in SCHEMAS[table].names), None)
    if column is None:
        return {}
    rows = store.read(table, keys=[key], columns=["sample_id", column], filter=_among("sample_id", ids))
    found = zip(rows.column("sample_id").to_pylist(), rows.column(column).to_pylist(), strict=True)
    return {name: np.array(v, np.float32).reshape(17, -1)[:, :2] for name, v in found if v is not None}


def _among(column: str, values: Iterator[str] | Sequence[str] | Mapping[str, str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def check_store(
    store: "LanceStore", profile: Profile, asset: str | None = None, key: str | None = None
) -> Iterator[tuple[Stage, str | None, Checked]]:
    """Check what is stored, partition by partition, and keep what was found: stage, partition, outcomes.

    Args:
        store: where the rows are.
        profile: of the home.
        asset: an asset key, a table or a checkpoint; all by default.
        key: a partition; all by default.

    Raises:
        CheckError: an unknown asset, or one that holds nothing.
    """
    graph, snapshot = graph_of(profile), Snapshot(profile, store)
    chosen = [s for s in graph if asset is None or asset in (s.key, s.stored_as, s.name)]
    if not chosen:
        load_table_checks(asset or "")  # says which there are
        raise CheckError(f"{asset!r} is not made by a stage of this profile")
    found = [(stage, k) for stage in chosen for k in _stored(snapshot, stage) if key is None or k == key]
    if not found and asset is not None:
        have = ", ".join(str(k) for stage in chosen for k in _stored(snapshot, stage))
        raise CheckError(
            f"{asset!r} has no partition {key!r}; there are {have}" if have else f"{asset!r} holds nothing yet"
        )
    for stage, partition in found:
        yield stage, partition, check_asset(store, stage, partition, profile)


def _stored(snapshot: Snapshot, stage: Stage) -> list[str | None]:
    if stage.partitioned:
        return [*snapshot.partitions(stage)]
    return [None] if snapshot.checkpoint(stage) else []

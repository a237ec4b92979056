"""What a stage is: what it reads, which settings its rows depend on, where its columns come from, and how it is made.

Every stage has a file of its own in this package. Dagster's assets, column lineage, metadata and progress, up-to-date-ness,
data checks' tables, the tests' small tables and the benchmark's plain loop all come from these descriptions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import StorageError
from posedreamer_assets.tables.keys import ALIGN, BASE

if TYPE_CHECKING:
    from posedreamer_assets.pipeline.models import Models
    from posedreamer_assets.pipeline.pose_batches import PresentFiles

POSES = (BASE, ALIGN)
"""Groups of the pose batches that do not come from a difficulty model."""


def for_all(key: str) -> bool:
    """Whether a partition reads a table, where all of a stage do."""
    return True


@dataclass(frozen=True)
class Reads:
    """Rows of a table that a stage reads.

    Attributes:
        table: its name.
        columns: those that it reads; sample ids always come along.
        groups: every up-to-date partition of these groups; None means the partition that is made.
        when: whether the partition of that key reads them at all: what it does not read makes it not out of date. A stage may
            read other groups of one table for other keys, and one of them for each.
    """

    table: str
    columns: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    when: Callable[[str], bool] = for_all


class Checkpoint(Protocol):
    """The result of a stage without partitions, as other stages see it."""

    @property
    def digest(self) -> str:
        """Of what it was made from."""
        ...

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its figures."""
        ...

    @property
    def path(self) -> Path:
        """The local folder of its files."""
        ...


class Reader(Protocol):
    """Where `Inputs` come from: tables as they were listed, and checkpoints."""

    def rows(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Rows of partitions, ordered by sample id."""
        ...

    def take(self, table: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """The rows with these sample ids, in this order."""
        ...

    def keys(self, table: str, groups: Sequence[str]) -> list[str]:
        """Every up-to-date partition of these groups, sorted."""
        ...

    def contents(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        """Content digest of each partition."""
        ...

    def checkpoint(self, key: str) -> Checkpoint:
        """The result of a stage without partitions."""
        ...


@dataclass(frozen=True)
class Inputs:
    """What a stage's `make` is given: nothing else may be read.

    Attributes:
        stage: the stage.
        profile: the settings.
        reader: where rows come from.
        models: loaded when they are asked for.
        partition: the partition key; None where the stage has no partitions.
        pose_files: the files of this pose batch; None where its poses are procedural.
        folder: what a stage without partitions fills.
        unfinished: where a stage may keep what it goes on from after it failed or was killed: a folder, made by who writes
            into it, that lasts until the same thing has been made. None where nothing lasts.
    """

    stage: "Stage"
    profile: Profile
    reader: Reader = field(repr=False)
    models: "Models" = field(repr=False)
    partition: str | None = None
    pose_files: "PresentFiles | None" = None
    folder: Path | None = None
    unfinished: Path | None = None

    @property
    def key(self) -> str:
        """The partition key of a partitioned stage."""
        assert self.partition is not None, f"{self.stage.key} is not partitioned"
        return self.partition

    @property
    def place(self) -> Path:
        """The folder that a stage without partitions fills."""
        assert self.folder is not None, f"{self.stage.key} is partitioned"
        return self.folder

    def rows(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows that the stage declares to read of a table, ordered by sample id.

        Args:
            table: a table that the stage reads.
            columns: some of the declared columns; all by default. Sample ids come along.

        Raises:
            StorageError: a table or column that the stage does not declare, or no up-to-date partition.
        """
        return self.reader.rows(table, self.keys(table), self._declared(table, columns))

    def take(self, table: str, ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of these samples, in this order: for stages that read some of very many rows.

        Raises:
            StorageError: as `rows`.
        """
        return self.reader.take(table, ids, self._declared(table, columns))

    def keys(self, table: str) -> list[str]:
        """The partitions that the stage reads of a table.

        Raises:
            StorageError: a table that the stage does not declare, or no up-to-date partition.
        """
        found = self._reads(table)
        keys = [self.key] if found.groups is None else self.reader.keys(table, found.groups)
        if not keys:
            raise StorageError(f"{self.stage.key} needs {table}, which has no up-to-date partition")
        return keys

    def contents(self, table: str) -> dict[str, str]:
        """Content digest of each partition that the stage reads of a table."""
        return self.reader.contents(table, self.keys(table))

    def checkpoint(self, key: str) -> Checkpoint:
        """The result of an unpartitioned stage that this one declares to read.

        Raises:
            StorageError: it is not declared, or has not been made.
        """
        if key not in self.stage.checkpoints:
            raise StorageError(f"{self.stage.key} reads checkpoint {key}, which it does not declare")
        return self.reader.checkpoint(key)

    def _reads(self, table: str) -> Reads:
        found = next((reads for reads in self.stage.reads_at(self.partition) if reads.table == table), None)
        if found is None:
            raise StorageError(f"{self.stage.key} reads table {table}, which it does not declare")
        return found

    def _declared(self, table: str, columns: Sequence[str] | None) -> list[str]:
        declared = self._reads(table).columns
        for name in columns or ():
            if name not in declared and name != "sample_id":
                raise StorageError(f"{self.stage.key} reads column {name} of table {table}, which it does not declare")
        return list(dict.fromkeys(("sample_id", *(declared if columns is None else columns))))


@dataclass(frozen=True)
class Made:
    """What `make` returns.

    Attributes:
        rows: of the stage's table; None for a stage without partitions, which has filled `Inputs.folder`.
        figures: what there is to say of the result. Those of a stage without partitions are its metrics.
        pictures: some images (n, h, w, 3) to look at.
        beside: rows of other tables at the same partition.
    """

    rows: pa.Table | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    pictures: "np.ndarray | None" = None
    beside: Mapping[str, pa.Table] = field(default_factory=dict)


Origins = Mapping[str, tuple[tuple[str, str], ...]]
"""By column, the columns that it comes from: (table, column) each."""


def copied(table: str, *columns: str) -> Origins:
    """Columns that are carried along from a table."""
    return {column: ((table, column),) for column in columns}


def all_of(table: str, *columns: str) -> tuple[tuple[str, str], ...]:
    """Several columns of a table as an origin."""
    return tuple((table, column) for column in columns)


def no_figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """Of a stage whose rows need none."""
    return {}


def rows_of_batch(profile: Profile) -> int:
    """Units of progress of a stage that takes one for each row."""
    return profile.poses.batch_size


@dataclass(frozen=True)
class Stage:
    """One asset.

    Attributes:
        key: Dagster's asset key, parts joined by "/"; the last part is the stage's name.
        about: a sentence or two that begin with the grain: "One row per ...".
        make: makes one partition, or the whole; imports what it computes with.
        version: raised by hand when the same inputs give other rows.
        table: the table that its rows go to; None for a stage whose result is a checkpoint.
        groups: the groups of partitions that it makes; none for a stage whose result is a checkpoint.
        settings: sections ("cameras") or fields ("curation.min_oks") of the profile that its rows depend on.
        files: outside files that it reads, see `runtime/outside_files.py`; `poses` are those of its batch.
        reads: rows that it reads.
        checkpoints: asset keys of the unpartitioned stages that it reads.
        seeded: whether rows depend on the run's seed.
        origins: where its columns come from, as far as they come from columns.
        figures: numbers that say how a partition came out, the same ones for every partition.
        units: how many units of progress making it once reports, about.
        under: the stage with what it depends on under a profile.
        releases: tables whose newest versions this checkpoint names for good.
        prunes: the one of them from which partitions that are out of date are removed first.
        names_checkpoint: (checkpoint, column): rows name a checkpoint in that column, which keeps its files.
        ui_group: the group in Dagster's UI.
        kinds: technologies, for the UI.
        pool: Dagster's pool; steps of `gpu` are given GPUs.
        one_core: a partition keeps one core busy, so that as many may be made side by side as there are cores.
        memory_gb: what making one partition takes, about: of memory, and of a GPU where there is one. As many are made side by
            side as there is room for.
        only_paints: nothing but the generator uses its GPU, so that it needs none where others paint for it.
        starts: by what it is made of itself: `flow`, `union`, `cron`, `import`, or on `request` alone.
    """

    key: str
    about: str
    make: Callable[[Inputs], Made]
    version: str
    table: str | None = None
    groups: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    reads: tuple[Reads, ...] = ()
    checkpoints: tuple[str, ...] = ()
    seeded: bool = True
    origins: Callable[[Profile], Origins] = lambda profile: {}
    figures: Callable[[pa.Table, Profile], Mapping[str, float]] = no_figures
    units: Callable[[Profile], int] = lambda profile: 1
    under: Callable[["Stage", Profile], "Stage"] = lambda stage, profile: stage
    releases: tuple[str, ...] = ()
    prunes: str | None = None
    names_checkpoint: tuple[str, str] | None = None
    ui_group: str = ""
    kinds: frozenset[str] = frozenset()
    pool: str | None = None
    one_core: bool = False
    memory_gb: Callable[[Profile], float] = lambda profile: 2.0
    only_paints: bool = False
    starts: str = "flow"

    @property
    def name(self) -> str:
        """What the stage is called in any round: `sample_scores`."""
        return self.key.rpartition("/")[2]

    @property
    def checkpoint_name(self) -> str:
        """The name of its checkpoint in the store."""
        return self.key.replace("/", "_")

    @property
    def stored_as(self) -> str:
        """Its table, or the name of its checkpoint."""
        return self.table or self.checkpoint_name

    def reads_at(self, key: str | None) -> tuple[Reads, ...]:
        """What the partition of that key reads; everything that is declared where there are no partitions."""
        return self.reads if key is None else tuple(reads for reads in self.reads if reads.when(key))

    @property
    def partitioned(self) -> bool:
        """Whether it is made one partition at a time."""
        return bool(self.groups)

    def of_round(self, name: str, *groups: str) -> "Stage":
        """This stage in a curriculum round; `groups` are the partitions that it makes there, if any."""
        return replace(self, key=f"{name}/{self.key}", groups=groups, ui_group=f"{name}_round")

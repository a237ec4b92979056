"""Making a stage: read what it declares, call it, write what it returns. The only caller of a stage's `make`."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from posedreamer_assets.cores import one_core
from posedreamer_assets.errors import CheckError, StorageError, UnreadableBatchError
from posedreamer_assets.pipeline import Stage
from posedreamer_assets.pipeline.figures import flat_figures
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.runtime.freshness import Snapshot, checkpoint_digest
from posedreamer_assets.runtime.outcomes import note_empty

if TYPE_CHECKING:
    import numpy as np

    from posedreamer_assets.storage import CheckpointInfo

UNCHANGED = "inputs have not changed"


@dataclass(frozen=True)
class Result:
    """What came of making a stage once.

    Attributes:
        content: digest of the rows, or of the checkpoint.
        figures: what there is to say of it.
        rows: how many; None where it has no table.
        pictures: some images (n, h, w, 3) to look at.
        checkpoint: of a stage without partitions.
        skipped: whether what was stored had been made from the very same inputs.
    """

    content: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None
    pictures: "np.ndarray | None" = None
    checkpoint: "CheckpointInfo | None" = None
    skipped: bool = False


def make(snapshot: Snapshot, stage: Stage, key: str | None = None, *, force: bool = False) -> Result:
    """Make one partition of a stage, or the whole of an unpartitioned one; what has not changed is left as it is.

    Args:
        snapshot: taken just now.
        stage: of the snapshot's graph.
        key: partition key; None for an unpartitioned stage.
        force: make it even if its inputs have not changed.

    Raises:
        CheckError: rows that it reads failed a check of severity error.
        PoseDreamerError: what the stage raises.
    """
    snapshot = with_outcomes(snapshot, stage, key)
    refuse_bad_rows(snapshot, stage, key)
    if not force and (unchanged := _unchanged(snapshot, stage, key)) is not None:
        return unchanged
    as_run = snapshot.as_run(stage)
    files = snapshot.pose_files(key) if key is not None and "poses" in stage.files else None
    models = Models(snapshot.profile, label=f"{stage.key}[{key}]" if key else stage.key)
    inputs = Inputs(as_run, snapshot.profile, Listed(snapshot), models, key, files)
    if not stage.partitioned:
        return _write_checkpoint(snapshot, inputs)
    unfinished = _unfinished(snapshot, stage, snapshot.input_digest(stage, key), key)
    try:
        with one_core():
            made = as_run.make(replace(inputs, unfinished=unfinished))
        result = _write_rows(snapshot, inputs, made)
    except UnreadableBatchError as error:
        _write_beside(snapshot, inputs, error.beside)
        raise
    shutil.rmtree(unfinished, ignore_errors=True)
    return result


@dataclass(frozen=True)
class Listed:
    """Rows as the snapshot listed them: a `pipeline.stage.Reader`."""

    snapshot: Snapshot

    def rows(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Rows of partitions, all from the version that was listed, ordered by sample id.

        Raises:
            StorageError: a partition that is not stored.
        """
        stored = self.snapshot.table(table)
        missing = [key for key in keys if key not in stored]
        if missing:
            raise StorageError(f"table {table!r} has no partition {missing[0]!r}; materialise it first")
        full = [key for key in keys if stored[key].rows]
        version = stored[full[0]].version if full else None
        return self.snapshot.store.read(table, keys=full, columns=columns, version=version, missing_ok=not full)

    def take(self, table: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """The rows with these sample ids, in this order.

        Raises:
            StorageError: a sample that is not stored.
        """
        keys = list(dict.fromkeys(name.split("/")[0] for name in ids))
        stored = self.snapshot.table(table)
        version = next((stored[key].version for key in keys if key in stored), None)
        return self.snapshot.store.take(table, ids, columns=columns, version=version)

    def keys(self, table: str, groups: Sequence[str]) -> list[str]:
        """Every up-to-date partition of these groups, sorted."""
        return self.snapshot.current_keys(table, tuple(groups))

    def contents(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        """Content digest of each partition."""
        return {key: self.snapshot.table(table)[key].content for key in keys}

    def checkpoint(self, key: str) -> "CheckpointInfo":
        """The result of a stage without partitions.

        Raises:
            StorageError: it has not been made, or it says what an outside file was and that file has changed.
        """
        stage = self.snapshot.graph[key]
        found = self.snapshot.checkpoint(stage)
        if found is None:
            raise StorageError(f"{key} has not been made yet; materialise it first")
        return found


def refuse_bad_rows(snapshot: Snapshot, stage: Stage, key: str | None) -> None:
    """Keep a stage from being made of what failed a check of severity error, or of another body than it says.

    Rows of this partition that others between them and the stage were made from count as well: what lies between may have
    been left as it was.

    Raises:
        CheckError: an upstream partition at the same key, or a checkpoint, is bad.
        StorageError: an upstream model was imported from a file that has changed since.
    """
    for writer in _above(snapshot, stage, key):
        if failed := snapshot.failed(writer, key):
            raise CheckError(
                f"{stage.key} must not be made from {writer.key}[{key}], which failed {', '.join(failed)}; "
                "make that partition again"
            )
    for name in snapshot.as_run(stage).checkpoints:
        model = snapshot.graph[name]
        if failed := snapshot.failed(model):
            raise CheckError(
                f"{stage.key} must not be made from {name}, which failed {', '.join(failed)}; make it again"
            )
        if model.starts == "import" and snapshot.checkpoint(model) and not snapshot.is_fresh(model):
            raise StorageError(
                f"{stage.key} reads {name}, which was imported from another file or setting than the profile names now; "
                f"materialise {name} first"
            )


def _above(snapshot: Snapshot, stage: Stage, key: str | None) -> list[Stage]:
    """The stages whose rows at the same partition a stage reads, and those above them, nearest last."""
    found: dict[str, Stage] = {}
    for reads in snapshot.as_run(stage).reads_at(key):
        writer = snapshot.graph.writer(reads.table, key or "") if reads.groups is None else None
        if writer:
            found |= {one.key: one for one in (*_above(snapshot, writer, key), writer)}
    return [*found.values()]


def with_outcomes(snapshot: Snapshot, stage: Stage, key: str | None) -> Snapshot:
    """The snapshot, once the checks have looked at everything that the stage reads.

    A process that was killed between writing rows and checking them leaves rows that nobody has looked at.
    """
    from posedreamer_assets.runtime.checking import check_asset

    unchecked = [
        (writer, k)
        for writer, k in _read_by(snapshot, stage, key)
        if snapshot.stored(writer, k) and snapshot.known(writer, k) is None and snapshot.blocked_by(writer, k)
    ]
    for writer, k in unchecked:
        check_asset(snapshot.store, writer, k, snapshot.profile)
    return Snapshot(snapshot.profile, snapshot.store) if unchecked else snapshot


def _read_by(snapshot: Snapshot, stage: Stage, key: str | None) -> list[tuple[Stage, str | None]]:
    """Every stored partition, and every checkpoint, that a stage reads."""
    as_run, graph = snapshot.as_run(stage), snapshot.graph
    found: list[tuple[Stage, str | None]] = [(graph[name], None) for name in as_run.checkpoints]
    for reads in as_run.reads_at(key):
        if reads.groups is None:
            writer = graph.writer(reads.table, key or "")
            found += [(writer, key)] if writer else []
        else:
            found += [(w, k) for w in graph.writers(reads.table, reads.groups) for k in snapshot.partitions(w)]
    return found


def _unchanged(snapshot: Snapshot, stage: Stage, key: str | None) -> Result | None:
    """What is stored, where it was made from the very inputs that there are now and is not bad; else None."""
    stored = snapshot.stored(stage, key)
    if stored is None or stored.input_digest != snapshot.input_digest(stage, key):
        return None
    if snapshot.failed(stage, key):
        return None  # who asks for bad rows again has done something about their cause
    if stage.partitioned:
        return Result(stored.content, rows=stored.rows, skipped=True)
    found = snapshot.checkpoint(stage)
    assert found is not None, "it is stored"
    return Result(checkpoint_digest(found), flat_figures(found.metrics), checkpoint=found, skipped=True)


def _write_rows(snapshot: Snapshot, inputs: Inputs, made: Made) -> Result:
    stage, key, store = inputs.stage, inputs.key, snapshot.store
    assert stage.table is not None and made.rows is not None, "a partitioned stage makes rows of its table"
    input_digest = snapshot.input_digest(stage, key)
    _write_beside(snapshot, inputs, made.beside)
    info = store.replace_partition(stage.table, key, made.rows, input_digest=input_digest)
    if info.rows == 0:
        note_empty(store, stage.table, key, input_digest)
    figures = {**stage.figures(made.rows, snapshot.profile), "bytes": made.rows.nbytes, **made.figures}
    return Result(info.content_digest, {**figures, "table_version": info.version}, info.rows, made.pictures)


def _write_beside(snapshot: Snapshot, inputs: Inputs, beside: Mapping[str, pa.Table]) -> None:
    """Rows of other tables at the same partition; there may be none any more."""
    store, key = snapshot.store, inputs.key
    input_digest = snapshot.input_digest(inputs.stage, key)
    for table, rows in beside.items():
        if rows.num_rows or store.partition(table, key):
            store.replace_partition(table, key, rows, input_digest=input_digest)


def _write_checkpoint(snapshot: Snapshot, inputs: Inputs) -> Result:
    stage, store = inputs.stage, snapshot.store
    input_digest = snapshot.input_digest(stage)
    released = _release(snapshot, stage)
    reads = snapshot.versions_read(stage) | released
    made = Made()
    unfinished = _unfinished(snapshot, stage, input_digest)

    def write(folder: Path) -> Mapping[str, Any]:
        nonlocal made
        made = stage.make(replace(inputs, folder=folder, unfinished=unfinished))
        return made.figures

    info = store.write_checkpoint(stage.checkpoint_name, input_digest, write, input_digest=input_digest, reads=reads)
    shutil.rmtree(unfinished, ignore_errors=True)
    versions = {"table_versions": reads} if reads else {}
    return Result(
        checkpoint_digest(info), {**flat_figures(info.metrics), **versions}, pictures=made.pictures, checkpoint=info
    )


def _unfinished(snapshot: Snapshot, stage: Stage, input_digest: str, key: str | None = None) -> Path:
    """Where a stage finds what it had made of the same inputs when it was killed; what is left of other inputs is removed.

    On this machine, also where the store is elsewhere: a training's state is larger than what comes of it.
    """
    of_stage = snapshot.store.checkpoint_folders.local / "unfinished" / stage.checkpoint_name / (key or "")
    for other in of_stage.glob("*"):
        if other.name != input_digest:
            shutil.rmtree(other, ignore_errors=True)
    return of_stage / input_digest


def _release(snapshot: Snapshot, stage: Stage) -> dict[str, int]:
    """Versions of the tables that a release names, of which what is out of date has been removed."""
    store = snapshot.store
    for reads in stage.reads:
        if reads.table == stage.prunes and reads.groups:
            for key in set(snapshot.table(reads.table)) - set(snapshot.current_keys(reads.table, reads.groups)):
                store.delete_partition(reads.table, key)
    return {table: version for table in stage.releases if (version := store.version(table)) is not None}

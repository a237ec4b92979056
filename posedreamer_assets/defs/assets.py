"""What every asset does alike: declare itself from its stage, find its inputs, write rows, report."""

import base64
import io
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from posedreamer_assets.checks.pages import failed_checks
from posedreamer_assets.config import Profile
from posedreamer_assets.defs.automation import condition_of
from posedreamer_assets.defs.deployment import deployment
from posedreamer_assets.defs.executors import step_tags
from posedreamer_assets.defs.held_back import note, why_held_back
from posedreamer_assets.defs.metadata import definition_metadata, places, recorded_before
from posedreamer_assets.defs.partitions import BY_GROUP
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource
from posedreamer_assets.defs.retries import retrying
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import CheckError, StorageError
from posedreamer_assets.pipeline.graph import STAGES, Snapshot, Stage, checkpoint_digest
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import CheckpointInfo, LanceStore
from posedreamer_assets.tables.fields import SCHEMAS

if TYPE_CHECKING:
    import numpy as np

    from posedreamer_assets.pipeline.pose_batches import PresentFiles

FORCE_TAG = "posedreamer/force"  # a run with this tag, "true", makes again what has not changed
_SKIPPED = "inputs have not changed"
THUMBNAIL_BYTES = 60_000  # inline pictures go into the event log


@dataclass(frozen=True)
class Work:
    """One execution of an asset: its stage, partition key, profile and store."""

    stage: Stage
    profile: Profile
    home: Home
    store: LanceStore
    key: str | None
    snapshot: Snapshot
    started: float = field(default_factory=time.perf_counter)

    @property
    def one_key(self) -> str:
        """The partition key of a partitioned asset."""
        assert self.key is not None, f"{self.stage.key} is not partitioned"
        return self.key

    @property
    def pose_files(self) -> "PresentFiles | None":
        """The files of this pose batch; None where its poses are procedural."""
        return self.snapshot.pose_files(self.one_key)

    def rows(self, stage_key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of an upstream stage at this partition, ordered by sample id."""
        return self.store.read(STAGES[stage_key].table, keys=[self.one_key], columns=columns)

    def all_keys(self, stage_key: str) -> list[str]:
        """Every up-to-date partition that this stage reads of another."""
        group = dict(self.stage.reads_all)[stage_key]
        return self.snapshot.current_keys(STAGES[stage_key], group)

    def all_rows(self, stage_key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of `all_keys`, ordered by sample id.

        Raises:
            StorageError: there are none.
        """
        keys = self.all_keys(stage_key)
        if not keys:
            raise StorageError(f"{self.stage.key} needs {stage_key}, which has no up-to-date partition")
        return self.store.read(STAGES[stage_key].table, keys=keys, columns=columns)

    def checkpoint(self, stage_key: str) -> CheckpointInfo:
        """The result of an unpartitioned upstream stage.

        Raises:
            StorageError: it has not been made.
        """
        found = self.store.checkpoint(STAGES[stage_key].table)
        if found is None:
            raise StorageError(f"{self.stage.key} needs {stage_key}, which has not been made yet")
        return found

    def write_rows(
        self, rows: pa.Table, thumbnails: "np.ndarray | None" = None, **metadata: Any
    ) -> dg.MaterializeResult:
        """Replace this partition and report it, with figures of the rows."""
        from posedreamer_assets.pipeline.facts import facts

        info = self.store.replace_partition(
            self.stage.table, self.one_key, rows, input_digest=self.snapshot.input_digest(self.stage, self.key)
        )
        found = {**facts(self.stage.table, rows), **metadata, "table_version": info.version}
        return self._result(info.content_digest, {"dagster/row_count": info.rows, **found}, thumbnails)

    def write_checkpoint(
        self,
        write: Callable[[Path], dict[str, Any]],
        thumbnails: "Callable[[], np.ndarray] | None" = None,
        *,
        releases: Sequence[str] = (),
    ) -> dg.MaterializeResult:
        """Write a checkpoint folder through `write`, which returns its figures, and report it.

        `thumbnails` is asked for afterwards. The versions of tables that it was made from are tagged, and the newest
        ones of the tables that it `releases`.
        """
        input_digest = self.snapshot.input_digest(self.stage)
        # A release keeps the checkpoints of its time, see `storage/superseded.py`.
        released = {table: self.store.version(table) for table in (*releases, *(["checkpoints"] if releases else []))}
        reads = self.snapshot.versions_read(self.stage) | {t: v for t, v in released.items() if v is not None}
        info = self.store.write_checkpoint(
            self.stage.table, input_digest, write, input_digest=input_digest, reads=reads
        )
        figures = {**_figures(info), **({"table_versions": reads} if reads else {})}
        return self._result(checkpoint_digest(info), figures, thumbnails() if thumbnails else None, info)

    def unchanged(self) -> dg.MaterializeResult | None:
        """What is stored, where it was made from the very inputs that there are now and is not bad; else None."""
        if self.key is not None:
            stored = self.snapshot.partitions(self.stage).get(self.key)
            if stored is None or stored.input_digest != self.snapshot.input_digest(self.stage, self.key):
                return None
            if failed_checks(self.home, self.stage.table, self.key, stored.content_digest):
                return None  # who asks for bad rows again has done something about their cause
            return self._result(stored.content_digest, {"dagster/row_count": stored.rows, "skipped": _SKIPPED}, None)
        made = self.snapshot.checkpoint(self.stage)
        if made is None or made.input_digest != self.snapshot.input_digest(self.stage):
            return None
        return self._result(checkpoint_digest(made), {**_figures(made), "skipped": _SKIPPED}, None, made)

    def _result(
        self,
        content_digest: str,
        figures: Mapping[str, Any],
        thumbnails: "np.ndarray | None",
        checkpoint: CheckpointInfo | None = None,
    ) -> dg.MaterializeResult:
        from posedreamer_assets.pipeline.controls import control_column

        control = control_column(self.profile.generator)
        metadata = places(self.stage, self.key, self.home, self.store, checkpoint, control=control)
        metadata |= {name: _plain(value) for name, value in figures.items()}
        metadata["digest"] = content_digest
        metadata["seconds"] = round(time.perf_counter() - self.started, 2)
        if thumbnails is not None and len(thumbnails):
            metadata["thumbnails"] = dg.MetadataValue.md(contact_sheet_markdown(thumbnails))
        return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(content_digest))


def _figures(checkpoint: CheckpointInfo) -> dict[str, Any]:
    """A checkpoint's figures, each under a name of its own; the number of rows where it stands for a table."""
    from posedreamer_assets.pipeline.facts import flat_figures

    rows = {"dagster/row_count": checkpoint.metrics["kept"]} if checkpoint.name in SCHEMAS else {}
    return {**rows, **flat_figures(checkpoint.metrics)}


def _plain(value: Any) -> Any:
    if isinstance(value, (dict, list, tuple)):
        return dg.MetadataValue.json(value)
    return value if isinstance(value, (str, int, float, bool, dg.MetadataValue)) else str(value)


def contact_sheet_markdown(images: "np.ndarray", columns: int = 6, most: int = 12) -> str:
    """Up to `most` images (n, h, w, 3) side by side as an inline JPEG of at most THUMBNAIL_BYTES."""
    import numpy as np
    from PIL import Image

    shown = images[:most]
    columns = min(columns, len(shown))
    blank = np.full_like(shown[0], 255)
    filled = [*shown, *[blank] * (-len(shown) % columns)]
    sheet = np.concatenate(
        [np.concatenate(filled[i : i + columns], axis=1) for i in range(0, len(filled), columns)], axis=0
    )
    picture = Image.fromarray(sheet)
    picture.thumbnail((768, 768))
    for quality in (85, 70, 50, 30):
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=quality)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        if len(encoded) <= THUMBNAIL_BYTES:
            break
    else:
        return "(no thumbnails: they would take more than 60 kB)"
    return f"![samples](data:image/jpeg;base64,{encoded})"


def stage_asset(
    key: str, *, group: str, kinds: set[str], description: str, pool: str | None = None
) -> Callable[[Callable[[Work], dg.MaterializeResult]], dg.AssetsDefinition]:
    """An asset whose dependencies, partitions and code version come from its stage in `stages.py`."""
    stage = STAGES[key]
    warnings.filterwarnings("ignore", message=".*backfill_policy", category=dg.BetaWarning)

    def decorate(body: Callable[[Work], dg.MaterializeResult]) -> dg.AssetsDefinition:
        @dg.asset(
            key=key.split("/"),
            deps=_dependencies(stage),
            partitions_def=BY_GROUP[stage.group] if stage.group else None,
            code_version=stage.code_version,
            group_name=group,
            kinds=kinds,
            description=description,
            metadata=definition_metadata(stage),
            pool=pool,
            op_tags={"posedreamer/stage": key, **step_tags(pool)},
            automation_condition=condition_of(stage),
            backfill_policy=backfill_policy(stage),
        )
        def asset(
            context: dg.AssetExecutionContext, profile: ProfileResource, store: LanceStoreResource
        ) -> dg.MaterializeResult:
            forced = context.run.tags.get(FORCE_TAG) == "true"
            keys = partitions_of(context)
            results: dict[str | None, dg.MaterializeResult] = {}
            for partition in keys:
                with retrying(context.retry_number):
                    work = begin(stage, profile, store, partition)
                    refused = why_held_back(work.home, work.snapshot, stage, partition)
                    if refused is None:
                        unchanged = None if forced else work.unchanged()
                        results[partition] = _with_former(context, work, unchanged) if unchanged else body(work)
                    elif len(keys) == 1:
                        raise refused
                    else:
                        note(context, str(partition), refused)
            if not results:
                raise CheckError(f"every partition of this run is held back, {refused}")
            return results[partition] if len(keys) == 1 else _reported_together(context, results)

        return asset

    return decorate


def _with_former(
    context: dg.AssetExecutionContext, work: Work, unchanged: dg.MaterializeResult
) -> dg.MaterializeResult:
    """What was skipped, with the figures and pictures of when it was made."""
    assert unchanged.data_version is not None, "Work gives every result one"
    former = recorded_before(context.instance, work.stage, work.key, unchanged.data_version.value)
    return unchanged._replace(metadata={**(unchanged.metadata or {}), **former})


def backfill_policy(stage: Stage) -> dg.BackfillPolicy | None:
    """How many partitions a run of a backfill takes; None, one, keeps Dagster's own bookkeeping of each."""
    if stage.group is None or deployment().partitions_per_run == 1:
        return None
    return dg.BackfillPolicy.multi_run(deployment().partitions_per_run)


def partitions_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[str | None]:
    """The partitions of a step; one None where it has none."""
    if context.has_partition_key or context.has_partition_key_range:
        return [*context.partition_keys]
    return [None]


def _reported_together(
    context: dg.AssetExecutionContext, results: Mapping[str | None, dg.MaterializeResult]
) -> dg.MaterializeResult:
    """One result for many partitions, each with its own metadata; Dagster gives them one data version."""
    for partition, result in results.items():
        context.add_asset_metadata(dict(result.metadata or {}), partition_key=partition)
    versions = {str(k): r.data_version.value for k, r in results.items() if r.data_version}
    return dg.MaterializeResult(data_version=dg.DataVersion(digest(versions)))


def begin(stage: Stage, profile: ProfileResource, store: LanceStoreResource, key: str | None) -> Work:
    """The work of one execution."""
    settings, opened, home = profile.get(), store.get(), profile.place()
    return Work(stage, settings, home, opened, key, Snapshot(settings, opened))


def _dependencies(stage: Stage) -> list[dg.AssetDep]:
    names = dict.fromkeys((*stage.reads, *(name for name, _ in stage.reads_all), *stage.checkpoints))
    return [_dependency(stage, STAGES[name]) for name in names]


def _dependency(stage: Stage, upstream: Stage) -> dg.AssetDep:
    mapping: dg.PartitionMapping | None = None
    if upstream.group is not None:
        mapping = dg.AllPartitionMapping() if upstream.key not in stage.reads else dg.IdentityPartitionMapping()
    return dg.AssetDep(upstream.key.split("/"), partition_mapping=mapping)

"""Every stage as a Dagster asset: dependencies, partitions, code version, metadata and body come from its description."""

import time
import warnings
from collections.abc import Mapping

import dagster as dg

from posedreamer_assets.config import Profile
from posedreamer_assets.defs.automation import condition_of
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.executors import step_tags
from posedreamer_assets.defs.metadata import contact_sheet_markdown, definition_metadata, places, plain, recorded_before
from posedreamer_assets.defs.partitions import partition_set
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource
from posedreamer_assets.defs.retries import retrying
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import (
    BackendError,
    CheckError,
    ConfigError,
    DetectorError,
    PhotoError,
    RenderError,
    StudentError,
)
from posedreamer_assets.pipeline import Graph, Stage
from posedreamer_assets.pipeline.refusals import refuse_unmakeable
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import UNCHANGED, Result, make

FORCE_TAG = "posedreamer/force"  # a run with this tag, "true", makes again what has not changed
HELD_BACK = "held_back"  # metadata of a partition that a step has left as it was, because what it reads is bad


def stage_assets(graph: Graph, deployment: Deployment) -> list[dg.AssetsDefinition]:
    """The assets of a graph, in the order of the data."""
    return [stage_asset(graph, stage, deployment) for stage in graph]


def stage_asset(graph: Graph, stage: Stage, deployment: Deployment) -> dg.AssetsDefinition:
    """The asset of a stage. Its body reads, makes, writes and reports; `runtime/make.py` does all but the last."""
    warnings.filterwarnings("ignore", message=".*backfill_policy", category=dg.BetaWarning)

    @dg.asset(
        key=stage.key.split("/"),
        deps=[_dependency(upstream, same=same) for upstream, same in graph.upstream(stage)],
        partitions_def=partition_set(stage.groups) if stage.partitioned else None,
        code_version=stage.version,
        group_name=stage.ui_group,
        kinds=set(stage.kinds),
        description=stage.about,
        metadata=definition_metadata(stage),
        pool=stage.pool,
        op_tags={"posedreamer/stage": stage.key, **step_tags(stage.pool, deployment, only_paints=stage.only_paints)},
        automation_condition=condition_of(graph, stage, deployment),
        backfill_policy=_backfill_policy(stage, deployment),
    )
    def asset(
        context: dg.AssetExecutionContext, profile: ProfileResource, store: LanceStoreResource
    ) -> dg.MaterializeResult:
        forced = context.run.tags.get(FORCE_TAG) == "true"
        keys = partitions_of(context)
        _refuse(profile.get(), stage)
        results: dict[str | None, dg.MaterializeResult] = {}
        refused: CheckError | None = None
        for key in keys:
            with retrying(context.retry_number):
                started, snapshot = time.perf_counter(), Snapshot(profile.get(), store.get())
                try:
                    made = make(snapshot, stage, key, force=forced)
                except CheckError as error:
                    if len(keys) == 1:
                        raise
                    refused = error
                    _note(context, str(key), error)
                    continue
                results[key] = _reported(context, profile.place(), snapshot, stage, key, made, started)
                if len(keys) > 1:  # Dagster records them all at the end
                    context.log.info(f"{key} is stored, {len(results)} of {len(keys)}")
        if not results:
            raise CheckError(f"every partition of this run is held back, {refused}")
        return next(iter(results.values())) if len(keys) == 1 else _together(context, results)

    return asset


def _refuse(profile: Profile, stage: Stage) -> None:
    """End the step at once, without another attempt, where it could not be made.

    Raises:
        dagster.Failure: one line that says what is missing and what to do.
    """
    try:
        refuse_unmakeable(profile, stage)
    except (ConfigError, BackendError, DetectorError, PhotoError, RenderError, StudentError) as error:
        raise dg.Failure(f"{stage.key}: {' '.join(str(error).split())}", allow_retries=False) from None


def partitions_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[str | None]:
    """The partitions of a step; one None where it has none."""
    if context.has_partition_key or context.has_partition_key_range:
        return [*context.partition_keys]
    return [None]


def _reported(
    context: dg.AssetExecutionContext,
    home: Home,
    snapshot: Snapshot,
    stage: Stage,
    key: str | None,
    made: Result,
    started: float,
) -> dg.MaterializeResult:
    """What was made as Dagster shows it; what was skipped keeps the figures and pictures of when it was made."""
    profile: Profile = snapshot.profile
    metadata = places(stage, key, home, snapshot.store, snapshot.graph, profile, made.checkpoint)
    if made.rows is not None:
        metadata["dagster/row_count"] = made.rows
    metadata |= {name: plain(value) for name, value in made.figures.items()}
    metadata |= {"digest": made.content, "seconds": round(time.perf_counter() - started, 2)}
    if made.pictures is not None and len(made.pictures):
        metadata["thumbnails"] = dg.MetadataValue.md(contact_sheet_markdown(made.pictures))
    if made.skipped:
        metadata["skipped"] = UNCHANGED
        metadata |= recorded_before(context.instance, stage, key, made.content)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(made.content))


def _note(context: dg.AssetExecutionContext, key: str, reason: CheckError) -> None:
    """Say at the partition, and in the run's log, that it was left as it was."""
    context.log.error(f"{key} is held back: {reason}")
    context.add_asset_metadata({HELD_BACK: str(reason)}, partition_key=key)


def _together(
    context: dg.AssetExecutionContext, results: Mapping[str | None, dg.MaterializeResult]
) -> dg.MaterializeResult:
    """One result for many partitions, each with its own metadata; Dagster gives them one data version."""
    for partition, result in results.items():
        context.add_asset_metadata(dict(result.metadata or {}), partition_key=partition)
    versions = {str(k): r.data_version.value for k, r in results.items() if r.data_version}
    return dg.MaterializeResult(data_version=dg.DataVersion(digest(versions)))


def _backfill_policy(stage: Stage, deployment: Deployment) -> dg.BackfillPolicy | None:
    """How many partitions a run of a backfill takes; None, one, keeps Dagster's own bookkeeping of each."""
    if not stage.partitioned or deployment.partitions_per_run == 1:
        return None
    return dg.BackfillPolicy.multi_run(deployment.partitions_per_run)


def _dependency(upstream: Stage, *, same: bool) -> dg.AssetDep:
    mapping: dg.PartitionMapping | None = None
    if upstream.partitioned:
        mapping = dg.IdentityPartitionMapping() if same else dg.AllPartitionMapping()
    return dg.AssetDep(upstream.key.split("/"), partition_mapping=mapping)

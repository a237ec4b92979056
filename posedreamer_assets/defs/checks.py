"""Asset checks from `dbt_like_checks/`: one per test, for each partition. Those of severity `error` are blocking.

In a run of one partition a failed check of severity error ends the run. Among many it must not end the others, so the
check's step passes, every later step leaves that partition as it was, because it finds in the store that it is bad, and
the last checks of the run fail, when the others are done.
"""

import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from posedreamer_assets.checks.files import has_checks, load_table_checks
from posedreamer_assets.checks.model import CheckOutcome
from posedreamer_assets.defs.assets import partitions_of
from posedreamer_assets.defs.checks_here import CHECKS_TAG
from posedreamer_assets.defs.metadata import contact_sheet_markdown, page_link
from posedreamer_assets.defs.partitions import partition_set
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource
from posedreamer_assets.defs.retries import retrying
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline import Graph, Stage
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import refuse_bad_rows

if TYPE_CHECKING:
    from posedreamer_assets.runtime.checking import Checked


def graph_checks(graph: Graph) -> list[dg.AssetChecksDefinition]:
    """The checks of every asset that has some."""
    return [stage_checks(graph, stage) for stage in graph if has_checks(stage.table or stage.name)]


def stage_checks(graph: Graph, stage: Stage) -> dg.AssetChecksDefinition:
    """All checks of one asset, run together after it on the partition that was made."""
    asset = dg.AssetKey(stage.key.split("/"))
    specs = _specs(stage)
    blocking = {spec.name for spec in specs if spec.blocking}

    @dg.multi_asset_check(name=f"{stage.checkpoint_name}_checks", specs=specs, op_tags={CHECKS_TAG: stage.key})
    def run(
        context: dg.AssetCheckExecutionContext, profile: ProfileResource, store: LanceStoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        from posedreamer_assets.runtime.checking import check_asset
        from posedreamer_assets.runtime.site import show_checked

        results: dict[str | None, list[dg.AssetCheckResult]] = {}
        keys = partitions_of(context)
        bad, held = set[str | None](), list[CheckError]()
        for key in keys:
            with retrying(context.retry_number):
                refused = _held_back(profile, store, stage, key) if len(keys) > 1 else None
                if refused is not None:
                    held.append(refused)
                    continue  # what is stored is not this run's
                checked = check_asset(store.get(), stage, key, profile.get())
                show_checked(profile.place(), store.get(), stage, key, checked)
            link = page_link(profile.place(), f"checks/{stage.stored_as}/{key or 'all'}.html")
            results[key] = [check_result(asset, outcome, checked, link) for outcome in checked.outcomes]
            if checked.bad:
                bad.add(key)
                context.instance.report_runless_asset_event(_mark(asset, key, checked, link))
            if key is not None and len(keys) > 1:
                _record(context, blocking, key, results[key])
        ends = len(keys) == 1 or bad == results.keys() or not _goes_on(context.run, graph, stage)
        yield from _worst(results, None if ends else bad)
        if ends and held:
            raise held[0]

    return run


def _held_back(profile: ProfileResource, store: LanceStoreResource, stage: Stage, key: str | None) -> CheckError | None:
    """The error with which the stage refuses to be made at this partition; None where it may be made."""
    try:
        refuse_bad_rows(Snapshot(profile.get(), store.get()), stage, key)
    except CheckError as error:
        return error
    return None


def _goes_on(run: dg.DagsterRun, graph: Graph, stage: Stage) -> bool:
    """Whether the run makes something from this stage's partitions afterwards."""
    chosen = run.asset_selection
    after = [other for other in graph if (stage, True) in graph.upstream(other)]
    return any(chosen is None or dg.AssetKey(other.key.split("/")) in chosen for other in after)


def _specs(stage: Stage) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Checks without partitions lose the partition of their results; Dagster calls those with partitions a preview.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                check.name,
                asset=dg.AssetKey(stage.key.split("/")),
                description=check.description,
                blocking=check.blocking,
                partitions_def=partition_set(stage.groups) if stage.partitioned else None,
            )
            for check in load_table_checks(stage.table or stage.name).checks
        ]


def _record(
    context: dg.AssetCheckExecutionContext, blocking: set[str], key: str, results: list[dg.AssetCheckResult]
) -> None:
    """Record the results of one of a run's partitions: within a run of many, Dagster records none by partition.

    They are events of the run. Without a run, Dagster takes one result for each check and partition for ever.
    """
    for result in results:
        assert result.asset_key is not None and result.check_name is not None, "check_result gives both"
        evaluation = dg.AssetCheckEvaluation(
            asset_key=result.asset_key,
            check_name=result.check_name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            blocking=result.check_name in blocking,
            partition=key,
        )
        event = dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
            job_name=context.run.job_name,
            event_specific_data=evaluation,
        )
        context.instance.report_dagster_event(event, run_id=context.run.run_id)


def _worst(
    results: Mapping[str | None, list[dg.AssetCheckResult]], held: Collection[str | None] | None
) -> Iterator[dg.AssetCheckResult]:
    """For each check the first failure over the partitions of a run, else the first result.

    Where `held` partitions alone are to stop, no result is of severity error, which would stop the others too.
    """
    for same in zip(*results.values(), strict=True):
        worst = next((result for result in same if not result.passed), same[0])
        if held is None or worst.passed:
            yield worst
            continue
        failed = [str(key) for key, result in zip(results, same, strict=True) if not result.passed]
        stopped = [key for key in failed if key in held]
        yield dg.AssetCheckResult(
            asset_key=worst.asset_key,
            check_name=worst.check_name,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{worst.description}; fails in {', '.join(failed)}"
            + (f"; {', '.join(stopped)} held back, the others go on" if stopped else ""),
            metadata=worst.metadata,
        )


def check_result(
    asset: dg.AssetKey, outcome: CheckOutcome, checked: "Checked", link: dg.MetadataValue
) -> dg.AssetCheckResult:
    """An outcome as Dagster shows it: counts, failing samples with their pictures, and where the whole page is."""
    metadata: dict[str, Any] = {"rows": outcome.checked, "failed": outcome.failed, "docs": link}
    if not outcome.passed and outcome.failing_ids:
        metadata["failing"] = list(outcome.failing_ids)
        pictures = checked.pictures_of(outcome)
        if pictures is not None:
            metadata["pictures"] = dg.MetadataValue.md(contact_sheet_markdown(pictures))
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.blocking else dg.AssetCheckSeverity.WARN,
        description=outcome.observed,
        metadata=metadata,
    )


def _mark(asset: dg.AssetKey, key: str | None, checked: "Checked", link: dg.MetadataValue) -> dg.AssetObservation:
    """An entry beside the materialisation, which alone does not say that its rows must not be used."""
    text = f"BAD ROWS: {', '.join(checked.bad)} failed; assets downstream refuse this partition"
    return dg.AssetObservation(asset_key=asset, partition=key, description=text, metadata={"bad": text, "docs": link})

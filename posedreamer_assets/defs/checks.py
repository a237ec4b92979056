"""Asset checks from `dbt_like_checks/`: one per test, for each partition. Those of severity `error` are blocking."""

import warnings
from collections.abc import Iterator

import dagster as dg

from posedreamer_assets.checks import CheckOutcome, load_table_checks
from posedreamer_assets.defs.partitions import BY_GROUP
from posedreamer_assets.defs.resources import LanceStoreResource
from posedreamer_assets.defs.retries import retrying
from posedreamer_assets.defs.work import partitions_of
from posedreamer_assets.records import SCHEMAS
from posedreamer_assets.stages import ORDER, Stage


def table_checks(stage: Stage) -> dg.AssetChecksDefinition:
    """All checks of one asset, run together after it on the partition that was made."""
    asset = dg.AssetKey(stage.key.split("/"))
    specs = _specs(stage)
    blocking = {spec.name for spec in specs if spec.blocking}

    @dg.multi_asset_check(name=f"{stage.table}_checks", specs=specs)
    def run(context: dg.AssetCheckExecutionContext, store: LanceStoreResource) -> Iterator[dg.AssetCheckResult]:
        from posedreamer_assets.check_runs import check_partition

        results: list[dg.AssetCheckResult] = []
        keys = partitions_of(context)
        for key in keys:
            with retrying(context.retry_number):
                found = [check_result(asset, o) for o in check_partition(store.get(), stage.table, key)]
            if key is not None and len(keys) > 1:
                _record(context, blocking, key, found)
            results += found
        yield from results if len(keys) == 1 else _worst(results)

    return run


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
                partitions_def=BY_GROUP[stage.group] if stage.group else None,
            )
            for check in load_table_checks(stage.table).checks
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


def _worst(results: list[dg.AssetCheckResult]) -> Iterator[dg.AssetCheckResult]:
    """For each check the first failure over the partitions of a run, else the first result."""
    names = dict.fromkeys(result.check_name for result in results)
    for name in names:
        own = [result for result in results if result.check_name == name]
        yield next((result for result in own if not result.passed), own[0])


def check_result(asset: dg.AssetKey, outcome: CheckOutcome) -> dg.AssetCheckResult:
    """An outcome as Dagster shows it."""
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.blocking else dg.AssetCheckSeverity.WARN,
        description=outcome.observed,
        metadata={"failing": list(outcome.failing_ids)} if outcome.failing_ids else {},
    )


all_checks = [table_checks(stage) for stage in ORDER if stage.table in SCHEMAS]

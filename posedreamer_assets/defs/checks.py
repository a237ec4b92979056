"""Asset checks from `dbt_like_checks/`: one per test, for each partition. Those of severity `error` are blocking."""

import warnings
from collections.abc import Iterator

import dagster as dg

from posedreamer_assets.checks import CheckOutcome, load_table_checks
from posedreamer_assets.defs.partitions import BY_GROUP
from posedreamer_assets.defs.resources import LanceStoreResource
from posedreamer_assets.records import SCHEMAS
from posedreamer_assets.stages import ORDER, Stage


def table_checks(stage: Stage) -> dg.AssetChecksDefinition:
    """All checks of one asset, run together after it on the partition that was made."""
    asset = dg.AssetKey(stage.key.split("/"))

    @dg.multi_asset_check(name=f"{stage.table}_checks", specs=_specs(stage))
    def run(context: dg.AssetCheckExecutionContext, store: LanceStoreResource) -> Iterator[dg.AssetCheckResult]:
        from posedreamer_assets.check_runs import check_partition

        key = context.partition_key if context.has_partition_key else None
        for outcome in check_partition(store.get(), stage.table, key):
            yield check_result(asset, outcome)

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

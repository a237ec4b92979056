"""Asset checks from `dbt_like_checks/`: one per test, for each partition. Those of severity `error` are blocking."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from posedreamer_assets.checks import CheckOutcome, checks_folder, load_table_checks
from posedreamer_assets.defs.assets import contact_sheet_markdown, partitions_of
from posedreamer_assets.defs.held_back import goes_on, why_held_back
from posedreamer_assets.defs.partitions import BY_GROUP
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource
from posedreamer_assets.defs.retries import retrying
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline.graph import ORDER, Snapshot, Stage

if TYPE_CHECKING:
    from posedreamer_assets.runtime.checking import Checked


def table_checks(stage: Stage) -> dg.AssetChecksDefinition:
    """All checks of one asset, run together after it on the partition that was made."""
    asset = dg.AssetKey(stage.key.split("/"))
    specs = _specs(stage)
    blocking = {spec.name for spec in specs if spec.blocking}

    @dg.multi_asset_check(name=f"{stage.table}_checks", specs=specs)
    def run(
        context: dg.AssetCheckExecutionContext, profile: ProfileResource, store: LanceStoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        from posedreamer_assets.runtime.checking import check_asset

        results: dict[str | None, list[dg.AssetCheckResult]] = {}
        keys = partitions_of(context)
        bad, held = set[str | None](), list[CheckError]()
        for key in keys:
            with retrying(context.retry_number):
                snapshot = Snapshot(profile.get(), store.get())
                refused = why_held_back(profile.place(), snapshot, stage, key) if len(keys) > 1 else None
                if refused is not None:
                    held.append(refused)
                    continue  # what is stored is not this run's
                checked = check_asset(profile.place(), store.get(), stage.table, key, profile.get())
            results[key] = [check_result(asset, outcome, checked) for outcome in checked.outcomes]
            if checked.bad:
                bad.add(key)
                context.instance.report_runless_asset_event(_mark(asset, key, checked))
            if key is not None and len(keys) > 1:
                _record(context, blocking, key, results[key])
        ends = len(keys) == 1 or bad == results.keys() or not goes_on(context.run, stage)
        yield from _worst(results, None if ends else bad)
        if ends and held:
            raise held[0]

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


def check_result(asset: dg.AssetKey, outcome: CheckOutcome, checked: "Checked") -> dg.AssetCheckResult:
    """An outcome as Dagster shows it: counts, failing samples with their pictures, and where the whole page is."""
    metadata: dict[str, Any] = {"rows": outcome.checked, "failed": outcome.failed, **_links(checked.page)}
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


def _mark(asset: dg.AssetKey, key: str | None, checked: "Checked") -> dg.AssetObservation:
    """An entry beside the materialisation, which alone does not say that its rows must not be used."""
    text = f"BAD ROWS: {', '.join(checked.bad)} failed; assets downstream refuse this partition"
    return dg.AssetObservation(
        asset_key=asset, partition=key, description=text, metadata={"bad": text, **_links(checked.page)}
    )


def _links(page: Path) -> dict[str, dg.MetadataValue]:
    return {"docs": dg.MetadataValue.path(page), "docs_url": dg.MetadataValue.url(page.as_uri())}


all_checks = [table_checks(stage) for stage in ORDER if (checks_folder() / f"{stage.table}.yml").is_file()]

"""Runs of many partitions: one with bad rows is held back with all that would be made from it, the others go on.

In a run of one partition a failed check of severity error ends the run. Among many it must not end the others, so the
check's step passes, every later step leaves that partition as it was and says why in its metadata, and the last checks of
the run fail, when the others are done. No list of held partitions is needed: each stage reads the rows of all stages
above it itself (a test says so), and finds the mark of bad rows there.
"""

import dagster as dg

from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline.graph import ORDER, Snapshot, Stage
from posedreamer_assets.runtime.checking import refuse_bad_rows
from posedreamer_assets.runtime.home import Home

HELD_BACK = "held_back"  # metadata of a partition that a step has left as it was


def why_held_back(home: Home, snapshot: Snapshot, stage: Stage, key: str | None) -> CheckError | None:
    """The error with which the stage refuses to be made at this partition; None where it may be made."""
    try:
        refuse_bad_rows(home, snapshot, stage, key)
    except CheckError as error:
        return error
    return None


def goes_on(run: dg.DagsterRun, stage: Stage) -> bool:
    """Whether the run makes something from this stage's partitions afterwards."""
    chosen = run.asset_selection
    after = [dg.AssetKey(other.key.split("/")) for other in ORDER if stage.key in other.reads]
    return any(chosen is None or key in chosen for key in after)


def note(context: dg.AssetExecutionContext, key: str, reason: CheckError) -> None:
    """Say at the partition, and in the run's log, that it was left as it was."""
    context.log.error(f"{key} is held back: {reason}")
    context.add_asset_metadata({HELD_BACK: str(reason)}, partition_key=key)

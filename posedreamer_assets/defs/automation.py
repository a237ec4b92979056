"""What is made by itself: batches flow down to the dataset, models and reports wait for a person or a cron.

Three conditions, chosen by what a stage is:

* FLOW, every partitioned stage: a partition is made when it is missing, and again when rows that it reads at the same
  partition have changed. A new checkpoint does not start it: that would make every image again; a backfill does so
  when it is wanted. A failed partition is not tried again until something that it reads changes.
* UNION, the release of the dataset: made again when verdicts have changed, once no further ones are being made.
* ON_CRON, checkpoints and reports: only at `POSEDREAMER_REFRESH_CRON`. What has not changed is skipped.

The two models that are only imported, body and generator, are made when they are missing. Poses are asked for by the
sensor and the schedule.
"""

import dagster as dg

from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.pipeline import Graph, Stage

Condition = dg.AutomationCondition
_idle = ~Condition.in_progress() & ~Condition.any_deps_in_progress()

IMPORT = (Condition.missing() & ~Condition.execution_failed() & ~Condition.in_progress()).with_label("import")


def _models(graph: Graph) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*(stage.key.split("/") for stage in graph if not stage.partitioned))


def union_of(graph: Graph) -> dg.AutomationCondition:
    """UNION in a graph, whose checkpoints it ignores."""
    changed = Condition.any_deps_updated().ignore(_models(graph)).since_last_handled()
    return (changed & _idle).with_label("union")


def flow_of(graph: Graph) -> dg.AutomationCondition:
    """FLOW in a graph, whose checkpoints it ignores."""
    models = _models(graph)
    wanted = Condition.missing() & ~Condition.execution_failed()
    changed = Condition.any_deps_updated().ignore(models).since_last_handled()
    return ((wanted | changed) & ~Condition.any_deps_missing() & _idle).with_label("flow")


def on_cron(cron: str) -> dg.AutomationCondition:
    """Once after each tick, when nothing that the asset reads is being made."""
    return (Condition.cron_tick_passed(cron).since_last_handled() & _idle).with_label(f"on_cron({cron})")


def condition_of(graph: Graph, stage: Stage, deployment: Deployment) -> dg.AutomationCondition | None:
    """The condition of a stage's asset; None for one that is made on request alone."""
    if stage.starts == "cron":
        return on_cron(deployment.refresh_cron) if deployment.refresh_cron else None
    return {"flow": flow_of(graph), "union": union_of(graph), "import": IMPORT, "request": None}[stage.starts]


def flow_sensor(deployment: Deployment) -> dg.AutomationConditionSensorDefinition:
    """What evaluates the conditions."""
    return dg.AutomationConditionSensorDefinition(
        "flow",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING if deployment.automation else dg.DefaultSensorStatus.STOPPED,
        description="Makes what is missing or has changed, see `posedreamer_assets/defs/automation.py`.",
    )

"""Everything that Dagster knows of a graph, put together."""

import dagster as dg

from posedreamer_assets.defs.arrivals import arrivals_sensor
from posedreamer_assets.defs.assets import stage_assets
from posedreamer_assets.defs.automation import flow_sensor
from posedreamer_assets.defs.checks import graph_checks
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.executors import executor
from posedreamer_assets.defs.growth import growth_schedule
from posedreamer_assets.defs.maintenance import storage_maintenance, storage_upkeep
from posedreamer_assets.defs.notifications import failure_sensor
from posedreamer_assets.defs.pocket_models import POCKET_ASSETS
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource
from posedreamer_assets.pipeline import Graph


def build(deployment: Deployment, graph: Graph) -> dg.Definitions:
    """Everything that Dagster knows of a graph with these rounds, deployed so."""
    return dg.Definitions(
        assets=[*stage_assets(graph, deployment), *POCKET_ASSETS],
        asset_checks=graph_checks(graph),
        sensors=[arrivals_sensor(deployment), flow_sensor(deployment), failure_sensor(deployment)],
        jobs=[storage_maintenance],
        schedules=[growth_schedule(deployment), storage_upkeep],
        resources={"profile": ProfileResource(), "store": LanceStoreResource()},
        executor=executor(deployment.executor),
    )

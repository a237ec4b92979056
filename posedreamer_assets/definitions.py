"""Dagster's entry point: everything in `defs/`, bound to the home in `$POSEDREAMER_HOME` or `./posedreamer_home`."""

import dagster as dg

from posedreamer_assets import defs as _defs
from posedreamer_assets.defs.arrivals import pose_files
from posedreamer_assets.defs.automation import flow
from posedreamer_assets.defs.executors import executor
from posedreamer_assets.defs.growth import growth
from posedreamer_assets.defs.maintenance import storage_maintenance, storage_upkeep
from posedreamer_assets.defs.notifications import run_failures
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource

defs: dg.Definitions = dg.Definitions(
    assets=dg.load_assets_from_package_module(_defs),
    asset_checks=dg.load_asset_checks_from_package_module(_defs),
    sensors=[pose_files, flow, run_failures],
    jobs=[storage_maintenance],
    schedules=[growth, storage_upkeep],
    resources={"profile": ProfileResource(), "store": LanceStoreResource()},
    executor=executor(),
)

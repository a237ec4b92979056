"""Dagster's entry point: everything in `defs/`, bound to the home in `$POSEDREAMER_HOME` or `./posedreamer_home`."""

import dagster as dg

from posedreamer_assets import defs as _defs
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource

defs: dg.Definitions = dg.Definitions(
    assets=dg.load_assets_from_package_module(_defs),
    asset_checks=dg.load_asset_checks_from_package_module(_defs),
    resources={"profile": ProfileResource(), "store": LanceStoreResource()},
    executor=dg.in_process_executor,  # loaded models are kept from one step to the next; clusters set their own
)

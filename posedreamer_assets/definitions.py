"""Dagster's entry point: everything in `defs/`, bound to the home in `$POSEDREAMER_HOME` or `./posedreamer_home`."""

import dagster as dg

from posedreamer_assets import defs as _defs
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource

defs: dg.Definitions = dg.load_definitions_from_package_module(
    _defs,
    resources={"profile": ProfileResource(), "store": LanceStoreResource()},
)

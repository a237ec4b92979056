"""Dagster's entry point: the graph of the home in `$POSEDREAMER_HOME` or `./posedreamer_home`, as this process deploys it."""

import os

import dagster as dg

from posedreamer_assets.cores import sleep_when_idle
from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.runtime.home import Home

sleep_when_idle()


@dg.definitions
def defs() -> dg.Definitions:
    """The home's graph. Nothing is read before this is called."""
    return build(Deployment.from_environment(os.environ), graph_of(Home.find().profile()))

"""Two steps for the Ray test, with the project's executor and tags: one on CPU, one of the GPU pool."""

from typing import Any

import dagster as dg

from posedreamer_assets.defs.deployment import deployment
from posedreamer_assets.defs.executors import executor, step_tags


def _available() -> dict[str, Any]:
    import ray  # pyright: ignore[reportMissingImports]

    ray.init(address="auto", ignore_reinit_error=True)
    return {"gpus_left": ray.available_resources().get("stand_in", 0.0)}


@dg.asset
def on_cpu() -> dg.MaterializeResult:
    """What is left of the stand-in while a plain step runs."""
    return dg.MaterializeResult(metadata=_available())


@dg.asset(deps=[on_cpu], op_tags=step_tags("gpu", deployment()))
def on_gpu() -> dg.MaterializeResult:
    """The same while a GPU step runs."""
    return dg.MaterializeResult(metadata=_available())


defs = dg.Definitions([on_cpu, on_gpu], executor=executor(deployment().executor))

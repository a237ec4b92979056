"""Where steps run, and what a GPU step asks each executor for. `POSEDREAMER_EXECUTOR` chooses; see docs/deploy.md.

Ray and Kubernetes are extras: `pip install 'posedreamer-assets[ray]'`, `[k8s]`.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from posedreamer_assets.defs.checks_here import with_checks_here
from posedreamer_assets.defs.deployment import SECRETS, Deployment
from posedreamer_assets.errors import ConfigError

GPU_POOL = "gpu"


def executor(name: str) -> dg.ExecutorDefinition:
    """The executor of that name.

    Raises:
        ConfigError: its extra is not installed.
    """
    try:
        return _EXECUTORS[name]()
    except ImportError as error:
        extra = f"; pip install 'posedreamer-assets[{name}]'" if name in _EXTRAS else ""
        raise ConfigError(f"POSEDREAMER_EXECUTOR={name} needs another package: {error}{extra}") from error


def _in_process() -> dg.ExecutorDefinition:
    return dg.in_process_executor  # loaded models are kept from one step of a run to the next


def _multiprocess() -> dg.ExecutorDefinition:
    # Neither Lance nor CUDA survives a fork.
    return dg.multiprocess_executor.configured({"start_method": {"spawn": {}}})


def _ray() -> dg.ExecutorDefinition:
    from dagster_ray import ray_executor  # pyright: ignore[reportMissingImports]  # an extra

    return with_checks_here(ray_executor).configured({"ray": {"env_vars": carried(os.environ)}}, name="ray")


def carried(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that go along with a step that is a Ray job: they say where things are.

    Secrets belong to the cluster, because Ray's pages show what a job was given. Of a failure Dagster's daemon tells, no step.
    """
    ours = {name for name in environment if name.startswith("POSEDREAMER_")} - {*SECRETS}
    return sorted(ours | {"DAGSTER_HOME"} & environment.keys())


def _k8s() -> dg.ExecutorDefinition:
    from dagster_k8s import k8s_job_executor

    return with_checks_here(k8s_job_executor)


def _ecs() -> dg.ExecutorDefinition:
    from dagster_aws.ecs import ecs_executor

    return with_checks_here(ecs_executor)


_EXECUTORS = {
    "in_process": _in_process,
    "multiprocess": _multiprocess,
    "ray": _ray,
    "k8s": _k8s,
    "ecs": _ecs,
}
_EXTRAS = ("ray", "k8s")


def step_tags(pool: str | None, deployment: Deployment, *, only_paints: bool = False) -> dict[str, Any]:
    """Tags with which Ray, Kubernetes and ECS give a step of the GPU pool its GPUs; each reads its own alone.

    A step that does nothing on a GPU but paint needs none where actors on Ray paint for it.
    """
    gpus, resource = deployment.gpus, deployment.ray_resource
    if pool != GPU_POOL or gpus == 0 or (only_paints and deployment.engine == "ray"):
        return {}
    memory = deployment.gpu_memory_gib
    weights = {"memory": f"{memory}Gi"} if memory else {}
    resources = {"limits": {"nvidia.com/gpu": str(gpus), **weights}, **({"requests": weights} if memory else {})}
    return {
        "dagster-ray/config": json.dumps({"resources": {resource: gpus}} if resource else {"num_gpus": gpus}),
        "dagster-k8s/config": {
            "container_config": {"resources": resources},
            "pod_spec_config": {
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
            },
        },
        "ecs/container_overrides": json.dumps({"resourceRequirements": [{"type": "GPU", "value": str(gpus)}]}),
        **({"ecs/memory": str(1024 * memory)} if memory else {}),
    }

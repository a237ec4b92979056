"""How this code location runs, from `POSEDREAMER_*` environment variables: what an operator sets, not what a row holds."""

import dataclasses
import os
from dataclasses import dataclass
from functools import lru_cache

from posedreamer_assets.config.environment import variable
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.errors import ConfigError

EXECUTORS = ("in_process", "multiprocess", "ray", "k8s", "ecs")
SECRETS = ("POSEDREAMER_FAILURE_HOOK",)  # who knows such a URL may post to it: its value is shown and passed on nowhere


@dataclass(frozen=True)
class Deployment(EngineSettings):
    """One field for each variable: `partitions_per_run` is `POSEDREAMER_PARTITIONS_PER_RUN`. Those of `EngineSettings` as well.

    Attributes:
        executor: where the steps of a run are executed, one of EXECUTORS.
        automation: whether sensors, the schedule and automation conditions start switched on.
        watch: pose folders or URIs, separated by commas; empty means the folder in the profile.
        watch_interval_s: seconds between two looks at them.
        poses_per_day: by how many procedural poses the library grows at each tick of `growth_cron`; 0 means none.
        growth_cron: when it grows.
        refresh_cron: when checkpoints and reports are made again; empty means by hand.
        partitions_per_run: partitions that one run of a backfill takes, so that models are loaded once for all of them.
        max_retries: further attempts after a transient fault.
        retry_wait_s: wait before the first of them; doubled for each further one.
        gpu_memory_gib: memory that a step of the pool `gpu` may use on Kubernetes and ECS, which must hold a generator's
            weights; 0 leaves what the launcher gives every step.
        failure_hook: where run failures are told: an http(s) URL that takes JSON, or `package.module:function`.
    """

    executor: str = "in_process"
    automation: bool = False
    watch: tuple[str, ...] = ()
    watch_interval_s: int = 30
    poses_per_day: int = 0
    growth_cron: str = "0 2 * * *"
    refresh_cron: str = ""
    partitions_per_run: int = 1
    max_retries: int = 4
    retry_wait_s: float = 5.0
    gpu_memory_gib: int = 0
    failure_hook: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.executor not in EXECUTORS:
            raise ConfigError(f"{variable('executor')}={self.executor}: expected one of {', '.join(EXECUTORS)}")
        if self.partitions_per_run < 1:
            raise ConfigError(f"{variable('partitions_per_run')}={self.partitions_per_run}: expected 1 or more")


@lru_cache(maxsize=1)
def deployment() -> Deployment:
    """This process's deployment, read once."""
    return Deployment.from_environment(os.environ)

"""How this code location runs, from `POSEDREAMER_*` environment variables: what an operator sets, not what a row holds."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from posedreamer_assets.errors import ConfigError

EXECUTORS = ("in_process", "multiprocess", "ray", "k8s", "ecs")
SECRETS = ("POSEDREAMER_FAILURE_HOOK",)  # who knows such a URL may post to it: its value is shown and passed on nowhere
_FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


@dataclass(frozen=True)
class Deployment:
    """One field for each variable: `partitions_per_run` is `POSEDREAMER_PARTITIONS_PER_RUN`.

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
        failure_hook: where run failures are told: an http(s) URL that takes JSON, or `package.module:function`.
        gpus: GPUs that a step of the pool `gpu` asks its executor for.
        ray_resource: what such a step asks Ray for in place of `GPU`, for example `accelerator_type:H100`.
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
    failure_hook: str = dataclasses.field(default="", repr=False)
    gpus: int = 1
    ray_resource: str = ""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise ConfigError(f"{_name('executor')}={self.executor}: expected one of {', '.join(EXECUTORS)}")
        if self.partitions_per_run < 1:
            raise ConfigError(f"{_name('partitions_per_run')}={self.partitions_per_run}: expected 1 or more")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Deployment":
        """Read the variables that are set and not empty.

        Raises:
            ConfigError: a value of the wrong kind.
        """
        fields = {f.name: f.default for f in dataclasses.fields(cls)}
        given = {name: environment[_name(name)] for name in fields if environment.get(_name(name))}
        return cls(**{name: _parse(name, text, fields[name]) for name, text in given.items()})


def _name(field: str) -> str:
    return f"POSEDREAMER_{field.upper()}"


def _parse(name: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return _FLAGS[text.lower()]
        if isinstance(default, tuple):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return type(default)(text)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{_name(name)}={text}: expected {type(default).__name__}") from error


@lru_cache(maxsize=1)
def deployment() -> Deployment:
    """This process's deployment, read once."""
    return Deployment.from_environment(os.environ)

"""Who paints, as an operator sets it: never part of what a row holds."""

from dataclasses import dataclass

from posedreamer_assets.config.environment import FromEnvironment, variable
from posedreamer_assets.errors import ConfigError

ENGINES = ("inline", "processes", "ray")
AUTO = "auto"


@dataclass(frozen=True)
class EngineSettings(FromEnvironment):
    """One field for each variable: `idle_s` is `POSEDREAMER_IDLE_S`.

    Attributes:
        engine: where images are painted, one of ENGINES.
        workers: how many workers of `processes` or `ray` paint; `auto` is one for each GPU, and one where there is none.
        chunk: images that a worker is given at a time, which is what is painted again when it is killed.
        idle_s: seconds without work after which a worker ends and gives its memory back; at least 1.
        gpus: GPUs that a step of the pool `gpu`, or a worker on Ray, asks for; 0 for none.
        ray_resource: what it asks Ray for in place of `GPU`, for example `accelerator_type:H100`.
    """

    engine: str = "inline"
    workers: str = AUTO
    chunk: int = 64
    idle_s: float = 600.0
    gpus: int = 1
    ray_resource: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"{variable('engine')}={self.engine}: expected one of {', '.join(ENGINES)}")
        if self.workers != AUTO and not (self.workers.isdecimal() and int(self.workers)):
            raise ConfigError(f"{variable('workers')}={self.workers}: expected {AUTO}, or 1 or more")
        if self.chunk < 1:
            raise ConfigError(f"{variable('chunk')}={self.chunk}: expected 1 or more")
        if not self.idle_s >= 1:
            raise ConfigError(f"{variable('idle_s')}={self.idle_s}: expected 1 or more")

    def workers_of(self, found: int) -> int:
        """How many workers, where `auto` stands for `found` of them."""
        return max(1, found) if self.workers == AUTO else int(self.workers)

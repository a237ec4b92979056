"""The engine of this process, as `POSEDREAMER_ENGINE` names it."""

import atexit
import os

from posedreamer_assets.engine.protocol import Engine
from posedreamer_assets.engine.settings import EngineSettings
from posedreamer_assets.errors import ConfigError

_current: dict[EngineSettings, Engine] = {}  # one at most


def current_engine() -> Engine:
    """What paints, as the environment sets it now; kept with its workers until that changes or the process ends.

    Raises:
        ConfigError: a setting that is not one, or an engine whose package is not installed.
    """
    settings = EngineSettings.from_environment(os.environ)
    if settings not in _current:
        close_engine()
        _current[settings] = _engine(settings)
    return _current[settings]


@atexit.register
def close_engine() -> None:
    """End the workers that this process started."""
    while _current:
        _current.popitem()[1].close()


def _engine(settings: EngineSettings) -> Engine:
    if settings.engine == "processes":
        from posedreamer_assets.engine.processes import Processes

        return Processes(settings)
    if settings.engine == "ray":
        try:
            from posedreamer_assets.engine.on_ray import OnRay
        except ImportError as error:
            raise ConfigError(
                f"POSEDREAMER_ENGINE=ray needs another package: {error}; pip install 'posedreamer-assets[ray]'"
            ) from error
        return OnRay(settings)
    from posedreamer_assets.engine.inline import Inline

    return Inline()

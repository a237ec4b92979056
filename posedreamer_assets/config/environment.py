"""Settings of an operator: dataclasses whose fields are `POSEDREAMER_*` environment variables."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from posedreamer_assets.errors import ConfigError

_FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


class FromEnvironment:
    """Base of a dataclass with one field for each variable: `idle_s` is `POSEDREAMER_IDLE_S`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables that are set and not empty.

        Raises:
            ConfigError: a value of the wrong kind.
        """
        assert dataclasses.is_dataclass(cls)
        fields = {f.name: f.default for f in dataclasses.fields(cls)}
        given = {name: environment[variable(name)] for name in fields if environment.get(variable(name))}
        return cls(**{name: _parse(name, text, fields[name]) for name, text in given.items()})


def variable(field: str) -> str:
    """The environment variable of a field."""
    return f"POSEDREAMER_{field.upper()}"


def _parse(name: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return _FLAGS[text.lower()]
        if isinstance(default, tuple):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return type(default)(text)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{variable(name)}={text}: expected {type(default).__name__}") from error

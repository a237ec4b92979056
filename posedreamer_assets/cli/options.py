"""Options that several commands take, and what they resolve to."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from posedreamer_assets.errors import ConfigError

if TYPE_CHECKING:
    from posedreamer_assets.config import Profile
    from posedreamer_assets.runtime.home import Home

_HOME_HELP = "Folder of tables, Dagster's event log and reports. Default: $POSEDREAMER_HOME, else ./posedreamer_home."

HOME = "posedreamer.home"  # key of the home's folder in what commands share

home_option = click.option("--home", type=click.Path(file_okay=False, path_type=Path), default=None, help=_HOME_HELP)
storage_option = click.option(
    "--storage",
    default=None,
    metavar="DIR|URI",
    help="Where tables and checkpoints are kept, for example s3://bucket/prefix (credentials and endpoint from AWS_... "
    "variables); remembered in the home. Default: $POSEDREAMER_STORAGE, else the remembered place, else <home>/storage.",
)
profile_option = click.option(
    "--profile",
    "profile_name",
    default=None,
    metavar="NAME|PATH",
    help="A shipped profile or a YAML file. Default: pocket.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of the profile, for example --set curation.min_oks=0.7. Can be given many times.",
)


def find_home(given: Path | None, storage: str | None = None) -> "Home":
    """The home; `storage` becomes the place of its tables."""
    from posedreamer_assets.runtime.home import Home

    home = Home.find(given)
    if context := click.get_current_context(silent=True):
        context.meta[HOME] = str(home.path)  # for errors of the system that name no file
    if storage is not None:
        home.keep_in(storage)
    return home


def resolve(name: str | None, settings: tuple[str, ...], shortcuts: dict[str, Any]) -> "Profile":
    """The profile of a command: `--set` over shortcuts over the file.

    Raises:
        ConfigError: a `--set` without "=", or what `load_profile` raises.
    """
    from posedreamer_assets.config import load_profile

    overrides = {key: value for key, value in shortcuts.items() if value is not None}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {text}: expected KEY=VALUE")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: the value is not valid YAML") from error
    return load_profile(name or "pocket", overrides)

"""Where a run keeps its things: one folder that the command line, Dagster and the reports share.

<home>/
    profile.yaml   the resolved profile of the last run; Dagster's UI materialises with it
    storage/       Lance tables and checkpoints, unless storage.txt or $POSEDREAMER_STORAGE names another place
    storage.txt    where tables and checkpoints are kept instead, for example s3://bucket/prefix
    tried.txt      object stores that were found to keep what concurrent writers commit
    cache/         copies of checkpoints that are kept in an object store
    dagster/       DAGSTER_HOME: event log, runs, dagster.yaml
    reports/       one folder for each run, and `latest`
    checks/        pages of the data checks
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from posedreamer_assets.config import Profile, load_profile, save_profile, write_whole
from posedreamer_assets.errors import ConfigError, StorageError
from posedreamer_assets.links import check_link

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

HOME_VARIABLE = "POSEDREAMER_HOME"
STORAGE_VARIABLE = "POSEDREAMER_STORAGE"
PAGES_VARIABLE = "POSEDREAMER_PAGES_URL"
PROFILE_VARIABLE = "POSEDREAMER_PROFILE"
EXECUTOR_VARIABLE = "POSEDREAMER_EXECUTOR"
ON_CLUSTERS = ("ray", "k8s", "ecs")  # executors whose steps see the homes of other computers
DEFAULT_HOME = "posedreamer_home"

DAGSTER_YAML = """\
# Written by posedreamer; SQLite in this folder. Edit freely, it is not written again.
telemetry:
  enabled: false
nux:
  # No dialog that asks for an email address.
  enabled: false
run_monitoring:
  # Pool slots of runs that were killed come back.
  enabled: true
  free_slots_after_run_end_seconds: 60
concurrency:
  runs:
    # One run at a time: on a laptop two would fight for memory. Raise it on a cluster.
    max_concurrent_runs: 1
  pools:
    granularity: op
"""


@dataclass(frozen=True)
class Home:
    """The layout above, rooted at an absolute path."""

    path: Path

    @classmethod
    def find(cls, given: str | Path | None = None) -> "Home":
        """The given folder, else `$POSEDREAMER_HOME`, else `./posedreamer_home`.

        Raises:
            StorageError: a symbolic link on the way leads nowhere, as to a disk that is not mounted.
        """
        place = Path(given or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser()
        check_link(place.absolute())
        return cls(place.resolve())

    @property
    def storage(self) -> Path:
        """Root of the Lance store where no other is set."""
        return self.path / "storage"

    @property
    def storage_root(self) -> str:
        """Root of the Lance store, a folder or a URI: `$POSEDREAMER_STORAGE`, else `storage.txt`, else `storage/`."""
        setting = self.path / "storage.txt"
        return os.environ.get(STORAGE_VARIABLE) or (
            setting.read_text().strip() if setting.exists() else str(self.storage)
        )

    def keep_in(self, root: str) -> None:
        """Keep tables and checkpoints of this home under another folder or URI from now on; moves nothing.

        Raises:
            ConfigError: `$POSEDREAMER_STORAGE` names another place.
            StorageError: the place is a symbolic link that leads nowhere.
        """
        if "://" not in root:
            check_link(Path(root).expanduser().absolute())
        place = root.rstrip("/") if "://" in root else str(Path(root).expanduser().resolve())
        if os.environ.get(STORAGE_VARIABLE) not in (None, "", place):
            raise ConfigError(f"storage {place}: ${STORAGE_VARIABLE} names {os.environ[STORAGE_VARIABLE]}; unset one")
        write_whole(self.path / "storage.txt", f"{place}\n")

    @property
    def cache(self) -> Path:
        """Copies of what is kept in an object store."""
        return self.path / "cache"

    @property
    def checks(self) -> Path:
        """Pages of the data checks."""
        return self.path / "checks"

    def store(self) -> "LanceStore":
        """The home's store.

        Raises:
            StorageError: it holds tables of a release whose layout was another one.
        """
        from posedreamer_assets.storage import LanceStore

        store = LanceStore(self.storage_root, cache=self.cache)
        refuse_former_layout(store)
        return store

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.path / "dagster"

    @property
    def profile_path(self) -> Path:
        """The resolved profile."""
        return self.path / "profile.yaml"

    @property
    def reports(self) -> Path:
        """Parent of the reports."""
        return self.path / "reports"

    def pages_url(self) -> str | None:
        """Where `posedreamer dev` serves this home's pages; None where it does not run."""
        return os.environ.get(PAGES_VARIABLE) or None

    def profile(self) -> Profile:
        """The home's profile; where it has none, that of `$POSEDREAMER_PROFILE`, and on one computer the pocket profile.

        Raises:
            ConfigError: no profile on a cluster, where a home without one is not new but lacks its volume.
        """
        if self.profile_path.exists():
            return load_profile(self.profile_path)
        named = os.environ.get(PROFILE_VARIABLE)
        if not named and os.environ.get(EXECUTOR_VARIABLE) in ON_CLUSTERS:
            raise ConfigError(
                f"{self.profile_path} does not exist: with {EXECUTOR_VARIABLE}={os.environ[EXECUTOR_VARIABLE]} mount the "
                f"profile there, or name one (a shipped one or a file) with {PROFILE_VARIABLE}"
            )
        return load_profile(named or "pocket")

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other processes on this machine from entering the same lock; it goes with the process that holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def prepare(self, profile: Profile | None = None) -> None:
        """Make the folders, write Dagster's settings once and the profile where one is given.

        Raises:
            StorageError: the place of the tables is a symbolic link that leads nowhere.
        """
        for folder in (self.dagster, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
        if "://" not in self.storage_root:
            check_link(Path(self.storage_root).absolute())
            Path(self.storage_root).mkdir(parents=True, exist_ok=True)
        settings = self.dagster / "dagster.yaml"
        if not settings.exists():
            write_whole(settings, DAGSTER_YAML)
        if profile is not None:
            save_profile(profile, self.profile_path)

    def try_storage(self) -> None:
        """Before the first run on an object store, find out whether it keeps what concurrent writers commit.

        Raises:
            StorageError: it does not, or it cannot be written.
        """
        root, noted = self.storage_root, self.path / "tried.txt"
        if "://" not in root or (noted.exists() and root in noted.read_text().splitlines()):
            return
        self.store().probe()
        with noted.open("a") as file:
            file.write(f"{root}\n")


FORMER_TABLES = (
    "hard_samples",
    "base_control_maps",
    "base_raw_generations",
    "hard_control_maps",
    "hard_raw_generations",
)
"""Tables of releases before 0.2, which had some for each round."""


def former_tables(root: str) -> list[str]:
    """Tables of a former layout in a local storage root."""
    if "://" in root:
        return []
    return [name for name in FORMER_TABLES if (Path(root) / f"{name}.lance").exists()]


def refuse_former_layout(store: "LanceStore") -> None:
    """Find out before anything is read or made.

    Raises:
        StorageError: the store holds tables of a former layout.
    """
    found = former_tables(store.root)
    if found:
        raise StorageError(
            f"{store.root} was written by a release before 0.2, which had other tables ({found[0]}, ...). "
            "`posedreamer storage migrate` sets them aside, and the next run makes the same samples anew"
        )

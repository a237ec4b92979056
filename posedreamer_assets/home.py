"""Where a run keeps its things: one folder that the command line, Dagster and the reports share.

<home>/
    profile.yaml   the resolved profile of the last run; Dagster's UI materialises with it
    storage/       Lance tables and checkpoints
    dagster/       DAGSTER_HOME: event log, runs, dagster.yaml
    reports/       one folder for each run, and `latest`
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from posedreamer_assets.config import Profile, load_profile, save_profile

HOME_VARIABLE = "POSEDREAMER_HOME"
DEFAULT_HOME = "posedreamer_home"

DAGSTER_YAML = """\
# Written by posedreamer; SQLite in this folder. Edit freely, it is not written again.
telemetry:
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
        """The given folder, else `$POSEDREAMER_HOME`, else `./posedreamer_home`."""
        return cls(Path(given or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().resolve())

    @property
    def storage(self) -> Path:
        """Root of the Lance store."""
        return self.path / "storage"

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

    def profile(self) -> Profile:
        """The home's profile; the pocket profile before the first run."""
        return load_profile(self.profile_path if self.profile_path.exists() else "pocket")

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other processes on this machine from entering the same lock; it goes with the process that holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def prepare(self, profile: Profile | None = None) -> None:
        """Make the folders, write Dagster's settings once and the profile where one is given."""
        for folder in (self.storage, self.dagster, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
        settings = self.dagster / "dagster.yaml"
        if not settings.exists():
            settings.write_text(DAGSTER_YAML)
        if profile is not None:
            save_profile(profile, self.profile_path)

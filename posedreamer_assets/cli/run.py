"""`posedreamer run`: the whole graph in this process, one stage after another, one partition at a time.

A partition that is up to date (see `runtime/freshness.py`) is skipped; one whose rows nobody has looked at yet is checked.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from posedreamer_assets.cli.endings import raise_if_signalled
from posedreamer_assets.cli.memory import PeakMemory
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import UnreadableBatchError
from posedreamer_assets.pipeline import Stage, graph_of
from posedreamer_assets.pipeline.pose_batches import plan_batches
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.progress import Display, Silent, watching
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home

if TYPE_CHECKING:
    from posedreamer_assets.defs.local.runner import Runner

UPKEEP_EVERY = 20  # partitions of a stage; keeps their cost the same however many there are, see docs/storage.md


@dataclass
class StageTiming:
    """What a stage cost in this run."""

    stage: str
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    made: int = 0  # partitions, or 1 for an unpartitioned stage
    up_to_date: int = 0


@dataclass(frozen=True)
class Summary:
    """The end of a run: figures as in `summary.json`, and where the report lies."""

    figures: dict[str, Any]
    report: str
    summary_json: str
    timings: list[StageTiming] = field(default_factory=list)


def run_main_job(
    home: Home, profile: Profile, *, force: bool = False, display: Display | None = None, only: Sequence[str] = ()
) -> Summary:
    """Make everything that the profile asks for and is not up to date; then write the report.

    Args:
        home: where everything is kept.
        profile: what to make; saved as the home's profile.
        force: make everything again.
        display: shows progress.
        only: asset keys to make; other stages are left alone. Empty means all.

    Raises:
        PoseDreamerError: the first error of a stage; what was finished before stays and is not made again.
    """
    started = time.perf_counter()
    home.prepare(profile)
    home.try_storage()
    with home.lock("pose_files"):
        plan_batches(profile, home.store())
    with ExitStack() as opened:
        chosen = [stage for stage in graph_of(profile) if not only or stage.key in only]
        job = _Job(home, profile, force, display or Silent(), opened)
        timings = [job.run_stage(stage) for stage in chosen]
    from posedreamer_assets.report.run_report import write_run_report

    figures = write_run_report(
        home, profile, timings=[asdict(t) for t in timings], seconds=time.perf_counter() - started
    )
    folder = home.reports / "latest"
    return Summary(figures, str(folder / "report.html"), str(folder / "summary.json"), timings)


@dataclass
class _Job:
    """One run: what it makes with, and the batches whose pose files cannot be read, which all stages leave out."""

    home: Home
    profile: Profile
    force: bool
    display: Display
    opened: ExitStack
    unreadable: dict[str, UnreadableBatchError] = field(default_factory=dict)
    _snapshot: Snapshot | None = None  # of what is stored, until something is made

    @cached_property
    def runner(self) -> "Runner":
        """Dagster, which takes seconds to start and is not needed where nothing has changed."""
        from posedreamer_assets.defs.local.runner import Runner

        return self.opened.enter_context(Runner(self.home))

    def run_stage(self, stage: Stage) -> StageTiming:
        """Make what is not up to date of a stage.

        Raises:
            PoseDreamerError: the stage's first error.
        """
        timing = StageTiming(stage.key)
        planned = planned_keys(self.profile, stage.groups)
        keys: list[str | None] = [k for k in planned if k not in self.unreadable] if stage.partitioned else [None]
        snapshot = self._snapshot = self._snapshot or Snapshot(self.profile, self.home.store())
        todo = [key for key in keys if self.force or not snapshot.is_current(stage, key)]
        timing.up_to_date = len(keys) - len(todo)
        if not todo:
            self.display.begin(stage.key, 0)
            self.display.end(stage.key, "up to date")
            return timing
        self.display.begin(stage.key, stage.units(self.profile) * len(todo))
        started = time.perf_counter()
        try:
            with PeakMemory() as memory, watching(self.display):
                self._make(stage, todo, snapshot, timing)
        except BaseException:
            self.display.end(stage.key, "failed")
            raise
        timing.seconds = round(time.perf_counter() - started, 2)
        timing.peak_memory_mb = round(memory.peak_mb, 1)
        parts = f"{timing.made} made" + (f", {timing.up_to_date} up to date" if timing.up_to_date else "")
        left = f", {len(todo) - timing.made} not readable" if timing.made < len(todo) else ""
        self.display.end(stage.key, parts + left if stage.partitioned else "made")
        return timing

    def _make(self, stage: Stage, keys: Sequence[str | None], snapshot: Snapshot, timing: StageTiming) -> None:
        self._snapshot = None
        for key in keys:
            only_unchecked = snapshot.is_fresh(stage, key) and not snapshot.failed(stage, key)
            try:
                self.runner.execute(stage, key, force=self.force or not only_unchecked)
            except UnreadableBatchError as error:
                self.unreadable[str(key)] = error
                continue
            finally:
                raise_if_signalled()
            timing.made += 1
            if stage.table and timing.made % UPKEEP_EVERY == 0:
                snapshot.store.maintain(stage.table)
        if keys and not timing.made and not timing.up_to_date and self.unreadable:
            raise next(iter(self.unreadable.values()))

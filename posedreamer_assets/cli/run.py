"""`posedreamer run`: the whole graph in this process, one stage after another, one partition at a time, or one for each core.

A partition that is up to date (see `runtime/freshness.py`) is skipped; one whose rows nobody has looked at yet is checked.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posedreamer_assets.cli.endings import raise_if_signalled
from posedreamer_assets.cli.memory import PeakMemory
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import RecipeError, UnreadableBatchError
from posedreamer_assets.pipeline import Stage, graph_of
from posedreamer_assets.pipeline.pose_batches import plan_batches
from posedreamer_assets.pipeline.refusals import require_models, require_renderer, require_study_files, try_study_files
from posedreamer_assets.pipeline.rounds import planned_keys, planned_of
from posedreamer_assets.pipeline.student_study import check_study
from posedreamer_assets.progress import Display, Silent, watching
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.keys import BASE

if TYPE_CHECKING:
    from posedreamer_assets.defs.local.runner import Runner
    from posedreamer_assets.defs.local.side_by_side import SideBySide

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
    """The end of a run: figures as in `summary.json`, where the report lies, and why students were left out, if they were."""

    figures: dict[str, Any]
    report: str
    summary_json: str
    timings: list[StageTiming] = field(default_factory=list)
    left_out: str | None = None


def run_main_job(
    home: Home,
    profile: Profile,
    *,
    force: bool = False,
    display: Display | None = None,
    only: Sequence[str] = (),
    show: Callable[[Path], None] | None = None,
) -> Summary:
    """Make everything that the profile asks for and is not up to date; then write the report.

    Args:
        home: where everything is kept.
        profile: what to make; saved as the home's profile.
        force: make everything again.
        display: shows progress.
        only: asset keys to make; other stages are left alone. Empty means all.
        show: is given the file with the first batch's pictures as soon as there is one; None makes no such file.

    Raises:
        PoseDreamerError: the first error of a stage; what was finished before stays and is not made again.
    """
    started = time.perf_counter()
    check_study(profile)
    home.prepare(profile)
    home.try_storage()
    with home.lock("pose_files"):
        plan_batches(profile, home.store())
    chosen = [stage for stage in graph_of(profile) if not only or stage.key in only]
    if any("generator" in stage.settings for stage in chosen):
        require_models(profile)
    require_renderer(profile, chosen)
    require_study_files(profile, chosen)
    with ExitStack() as opened:
        job = _Job(home, profile, force, display or Silent(), opened)
        try_study_files(profile, job.unmade(chosen))
        if show and any(stage.key == "base/control_maps" for stage in chosen) and (first := job.first_pictures()):
            show(first)
        timings, left_out = job.run_stages(chosen)
    from posedreamer_assets.report.run_report import write_run_report

    figures = write_run_report(
        home, profile, timings=[asdict(t) for t in timings], seconds=time.perf_counter() - started
    )
    folder = home.reports / "latest"
    return Summary(figures, str(folder / "report.html"), str(folder / "summary.json"), timings, left_out)


@dataclass
class _Job:
    """One run: what it makes with, and the batches whose pose files cannot be read, which all stages leave out."""

    home: Home
    profile: Profile
    force: bool
    display: Display
    opened: ExitStack
    unreadable: dict[str, UnreadableBatchError] = field(default_factory=dict)
    early: dict[str, StageTiming] = field(default_factory=dict)  # of what was made before its stage's turn
    made_early: set[tuple[str, str | None]] = field(default_factory=set)
    _snapshot: Snapshot | None = None  # of what is stored, until something is made

    @cached_property
    def runner(self) -> "Runner":
        """Dagster, which takes seconds to start and is not needed where nothing has changed."""
        from posedreamer_assets.defs.local.runner import Runner

        return self.opened.enter_context(Runner(self.home))

    def first_pictures(self) -> Path | None:
        """Make what the sheet of the first base batch shows, before all else, and the sheet; None where there is nothing new.

        Raises:
            PoseDreamerError: a stage's first error; a batch that cannot be read is left for the stage itself to tell.
        """
        from posedreamer_assets.report.first_pictures import STAGES, write_first_pictures

        key = next(iter(planned_keys(self.profile, (BASE,))), None)
        stages = [graph_of(self.profile)[name] for name in STAGES]
        if key is None or self._listed().is_current(stages[-1], key):
            return None
        name = "first pictures"
        self.display.begin(name, sum(stage.units(self.profile) for stage in stages))
        try:
            with watching(self.display):
                for stage in stages:
                    self._make_early(stage, key if stage.partitioned else None)
                found = write_first_pictures(self.home, self.profile, key)
        except UnreadableBatchError:
            self.unreadable.clear()
            found = None
        except BaseException:
            self.display.end(name, "failed")
            raise
        self.display.end(name, "made" if found else "left out")
        return found

    def _make_early(self, stage: Stage, key: str | None) -> None:
        """Make one partition before its stage's turn, if it is not up to date."""
        snapshot, started = self._listed(), time.perf_counter()
        if not snapshot.is_current(stage, key):
            timing = self.early.setdefault(stage.key, StageTiming(stage.key))
            with PeakMemory() as memory:
                self._make(stage, [key], snapshot, timing)
            timing.seconds = round(time.perf_counter() - started, 2)
            timing.peak_memory_mb = round(memory.peak_mb, 1)
            self.made_early.add((stage.key, key))

    def _listed(self) -> Snapshot:
        """What is stored, listed anew after something has been made."""
        self._snapshot = self._snapshot or Snapshot(self.profile, self.home.store())
        return self._snapshot

    def unmade(self, stages: Sequence[Stage]) -> list[Stage]:
        """Those of the stages that read files of a study, and of which something is to be made."""
        found = [stage for stage in stages if {"photos", "pose2d"} & {*stage.files}]
        return [
            stage
            for stage in found
            if self.force or not all(map(partial(self._listed().is_current, stage), self._keys(stage)))
        ]

    def _keys(self, stage: Stage) -> list[str | None]:
        """The partitions of a stage that are asked for and can be read; None of one without partitions."""
        return [k for k in planned_of(self.profile, stage) if k not in self.unreadable] if stage.partitioned else [None]

    def run_stages(self, stages: Sequence[Stage]) -> tuple[list[StageTiming], str | None]:
        """Make what is not up to date of these stages; and why the study of students was left out, which comes last.

        A run of few images, or one whose filter keeps next to none, has nothing to train students on; its own figures stand.

        Raises:
            PoseDreamerError: a stage's first error.
        """
        timings: list[StageTiming] = []
        for stage in stages:
            if stage.partitioned and not planned_of(self.profile, stage):
                continue  # test sets, or rounds, that nobody has asked for
            try:
                timings.append(self.run_stage(stage))
            except RecipeError as error:
                return timings, str(error)
        return timings, None

    def run_stage(self, stage: Stage) -> StageTiming:
        """Make what is not up to date of a stage.

        Raises:
            PoseDreamerError: the stage's first error.
        """
        timing = self.early.get(stage.key, StageTiming(stage.key))
        early, seconds = timing.made, timing.seconds
        keys = self._keys(stage)
        snapshot, forced = self._listed(), self.force
        todo = [
            k for k in keys if not snapshot.is_current(stage, k) or (forced and (stage.key, k) not in self.made_early)
        ]
        timing.up_to_date = len(keys) - len(todo) - early
        if not todo:
            self.display.begin(stage.key, 0)
            self.display.end(stage.key, "made" if early else "up to date")
            return timing
        self.display.begin(stage.key, stage.units(self.profile) * len(todo))
        started = time.perf_counter()
        try:
            with PeakMemory() as memory, watching(self.display):
                self._make(stage, todo, snapshot, timing)
        except BaseException:
            self.display.end(stage.key, "failed")
            raise
        timing.seconds = round(seconds + time.perf_counter() - started, 2)
        timing.peak_memory_mb = max(timing.peak_memory_mb, round(memory.peak_mb, 1))
        parts = f"{timing.made} made" + (f", {timing.up_to_date} up to date" if timing.up_to_date else "")
        unread = len(todo) - (timing.made - early)
        left = f", {unread} not readable" if unread else ""
        self.display.end(stage.key, parts + left if stage.partitioned else "made")
        return timing

    def _make(self, stage: Stage, keys: Sequence[str | None], snapshot: Snapshot, timing: StageTiming) -> None:
        self._snapshot = None
        for _ in self._made(stage, keys, snapshot):
            timing.made += 1
            if stage.table and timing.made % UPKEEP_EVERY == 0:
                snapshot.store.maintain(stage.table)
        if keys and not timing.made and not timing.up_to_date and self.unreadable:
            raise next(iter(self.unreadable.values()))

    def _made(self, stage: Stage, keys: Sequence[str | None], snapshot: Snapshot) -> Iterator[str | None]:
        """Make these partitions, side by side where each keeps one core busy and there are enough; yields those that are made."""
        from posedreamer_assets.defs.local.side_by_side import processes_for

        unchecked = {k for k in keys if snapshot.is_fresh(stage, k) and not snapshot.failed(stage, k)}
        forced = [self.force or key not in unchecked for key in keys]
        if (count := processes_for(stage, len(keys), self.profile)) > 1:
            named = [str(key) for key in keys]
            yield from self._beside.execute(stage, named, forced, count)
            raise_if_signalled()
            return
        for key, force in zip(keys, forced, strict=True):
            try:
                self.runner.execute(stage, key, force=force)
            except UnreadableBatchError as error:
                self.unreadable[str(key)] = error
                continue
            finally:
                raise_if_signalled()
            yield key

    @cached_property
    def _beside(self) -> "SideBySide":
        """Processes that make partitions beside this one."""
        from posedreamer_assets.defs.local.side_by_side import SideBySide

        return self.opened.enter_context(SideBySide(self.home))

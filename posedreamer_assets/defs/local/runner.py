"""`posedreamer run`: the whole graph in this process, one stage after another, one partition at a time.

The assets are Dagster's own, run with `execute_in_process` on the instance in `<home>/dagster`, so that everything that
happens here is in the UI too. A partition that is up to date (see `stages.py`) is skipped.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from posedreamer_assets.config import Profile, write_whole
from posedreamer_assets.defs.local.killed_runs import PROCESS_TAG, bury, this_process
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline.graph import ORDER, Snapshot, Stage, planned_keys
from posedreamer_assets.pipeline.pose_batches import plan_batches
from posedreamer_assets.progress import watching
from posedreamer_assets.runtime.home import Home

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore, Plan, Upkeep

_MEGABYTE = 1 << 20
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


class Display(Protocol):
    """Shows progress to a person."""

    def begin(self, stage: str, total: int) -> None: ...
    def advance(self, n: int, note: str = "") -> None: ...
    def end(self, stage: str, outcome: str) -> None: ...


class Silent:
    """A display that shows nothing."""

    def begin(self, stage: str, total: int) -> None:
        """Nothing."""

    def advance(self, n: int, note: str = "") -> None:
        """Nothing."""

    def end(self, stage: str, outcome: str) -> None:
        """Nothing."""


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
    chosen = [stage for stage in ORDER if not only or stage.key in only]
    with home.lock("pose_files"):
        plan_batches(profile, open_store(home))
    with Runner(home) as runner:
        timings = [_run_stage(runner, profile, stage, force=force, display=display or Silent()) for stage in chosen]
    from posedreamer_assets.report.run_report import write_run_report

    figures = write_run_report(
        home, profile, timings=[asdict(t) for t in timings], seconds=time.perf_counter() - started
    )
    folder = home.reports / "latest"
    return Summary(figures, str(folder / "report.html"), str(folder / "summary.json"), timings)


def _run_stage(runner: "Runner", profile: Profile, stage: Stage, *, force: bool, display: Display) -> StageTiming:
    timing = StageTiming(stage.key)
    keys: list[str | None] = [*planned_keys(profile, stage.group)] if stage.group else [None]
    snapshot = Snapshot(profile, open_store(runner.home))
    todo = [key for key in keys if force or not snapshot.is_current(stage, key) or runner.has_failed(stage, key)]
    timing.up_to_date = len(keys) - len(todo)
    if not todo:
        display.begin(stage.key, 0)
        display.end(stage.key, "up to date")
        return timing
    display.begin(stage.key, work_units(profile, stage) * len(todo))
    started = time.perf_counter()
    try:
        with PeakMemory() as memory, watching(display):
            for key in todo:
                runner.execute(stage, key)
                timing.made += 1
                if stage.group and timing.made % UPKEEP_EVERY == 0:
                    snapshot.store.maintain(stage.table)
    except BaseException:
        display.end(stage.key, "failed")
        raise
    timing.seconds = round(time.perf_counter() - started, 2)
    timing.peak_memory_mb = round(memory.peak_mb, 1)
    parts = f"{timing.made} made" + (f", {timing.up_to_date} up to date" if timing.up_to_date else "")
    display.end(stage.key, parts if stage.group else "made")
    return timing


def open_store(home: Home) -> "LanceStore":
    """The home's store."""
    from posedreamer_assets.storage import LanceStore

    return LanceStore(home.storage_root, cache=home.cache)


def stored_tables(home: Home, names: Sequence[str] = ()) -> "Iterator[tuple[LanceStore, str]]":
    """The store with the name of each table that was written; of the named ones where names are given.

    Raises:
        StorageError: an unknown name.
    """
    from posedreamer_assets.tables.fields import SCHEMAS

    store = open_store(home)
    for table in names or SCHEMAS:
        if store.version(table) is not None:
            yield store, table


def maintain_tables(home: Home, names: Sequence[str], plan: "Plan", display: Display) -> "list[Upkeep]":
    """Upkeep of all tables, or of the named ones; see `storage/upkeep.py`."""
    done = []
    for store, table in stored_tables(home, names):
        display.begin(table, len(store.groups_to_merge(table, plan)) + 1)
        with watching(display):
            upkeep = store.maintain(table, plan)
        display.end(
            table, f"{upkeep.files_before} files -> {upkeep.files_after}, {upkeep.bytes_freed / 1e6:.1f} MB freed"
        )
        done.append(upkeep)
    return done


def work_units(profile: Profile, stage: Stage) -> int:
    """About how many units of progress one execution of the stage reports."""
    align = profile.alignment
    per_batch = profile.curriculum.hard_batch_size if stage.group == "hard" else profile.poses.batch_size
    held_out = round(align.test_share * profile.poses.batch_size * profile.poses.align_batches)
    paired = round((1 - align.test_share) * per_batch)
    images = sum(b * n for b, n in [(profile.poses.batch_size, profile.poses.batches)])
    special = {
        "body_model": 1,
        "control_checkpoint": 1,
        "preference_pairs": paired * len(align.candidate_strengths) * 2,
        "dpo_checkpoint": align.steps + 4 * align.test_draws * held_out,
        "difficulty_model": profile.curriculum.folds,
        "dataset": profile.poses.batches + profile.curriculum.hard_batches,
        "quality_report": 3 * images,
    }
    if align.off and stage.key in ("preference_pairs", "dpo_checkpoint"):
        return 1
    factor = 4 if stage.key.endswith("sample_scores") else 1
    return special.get(stage.key, per_batch * factor)


class Runner:
    """Executes assets one by one on a home's Dagster instance.

    Partitions whose blocking checks failed are remembered in `<home>/failed_checks.json` until they pass, because their
    rows are stored and would otherwise count as up to date.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._failures_path = home.path / "failed_checks.json"

    def __enter__(self) -> Self:
        import dagster as dg
        from dagster._core.instance.ref import InstanceRef

        from posedreamer_assets.definitions import defs

        # Dagster would send stdout and stderr, and with them the progress bars, to files.
        no_capture = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
        folder = str(self.home.dagster)
        self._instance = dg.DagsterInstance.from_ref(
            InstanceRef.from_dir(folder, overrides={"compute_logs": no_capture})
        )
        bury(self._instance)
        self._job = defs.resolve_implicit_global_asset_job_def()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._instance.dispose()

    def execute(self, stage: Stage, key: str | None) -> None:
        """Materialise one asset at one partition, with its checks, in this process.

        Raises:
            PoseDreamerError: the asset's own error, or CheckError when a blocking check failed.
        """
        from dagster._core.errors import DagsterAssetCheckFailedError

        from posedreamer_assets.defs.partitions import register

        if key is not None:
            register(self._instance, [key])
        try:
            self.execute_asset(stage.key, key)
        except DagsterAssetCheckFailedError as error:
            self._remember(stage, key, failed=True)
            place = f"{stage.key}[{key}]" if key else stage.key
            raise CheckError(f"{place}: {error}") from error
        self._remember(stage, key, failed=False)

    def execute_asset(self, asset: str, key: str | None, ops: dict[str, Any] | None = None) -> None:
        """Materialise an asset by its key, with configuration of its op."""
        import dagster as dg

        from posedreamer_assets.defs.assets import FORCE_TAG
        from posedreamer_assets.defs.local.fast_sqlite import unhurried_sqlite

        with unhurried_sqlite():
            self._job.execute_in_process(
                instance=self._instance,
                partition_key=key,
                asset_selection=[dg.AssetKey(asset.split("/"))],
                # What has not changed was left out before.
                tags={FORCE_TAG: "true", PROCESS_TAG: this_process()},
                run_config={**run_config(self.home), "ops": ops or {}},
            )

    def has_failed(self, stage: Stage, key: str | None) -> bool:
        """Whether blocking checks failed when this was last made."""
        return [stage.key, key] in self._failures()

    def _failures(self) -> list[list[str | None]]:
        return json.loads(self._failures_path.read_text()) if self._failures_path.exists() else []

    def _remember(self, stage: Stage, key: str | None, *, failed: bool) -> None:
        with self.home.lock("failed_checks"):
            before = self._failures()
            after = [entry for entry in before if entry != [stage.key, key]] + ([[stage.key, key]] if failed else [])
            if after != before:
                write_whole(self._failures_path, json.dumps(after, indent=1))


def train_pocket_models(
    home: Home, profile: Profile, parts: Sequence[str], config: dict[str, Any], display: Display
) -> None:
    """Materialise the pocket models' assets, in order; `config` is that of `defs.pocket_models.PocketConfig`."""
    home.prepare(profile)
    units = {"scenes": 2 * int(config["scenes"]), "generator": 2, "detectors": 3}
    with Runner(home) as runner:
        for part in units:
            if parts and part not in parts:
                continue
            name = f"pocket/{part}"
            display.begin(name, units[part])
            with watching(display):
                runner.execute_asset(name, None, {f"pocket__{part}": {"config": config}})
            display.end(name, "made")


def run_config(home: Home) -> dict[str, Any]:
    """Binds the assets to a home, so that a run can be launched again from the UI as it was."""
    return {
        "resources": {
            "profile": {"config": {"home": str(home.path)}},
            "store": {"config": {"root": home.storage_root, "cache": str(home.cache)}},
        },
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


class PeakMemory:
    """Largest resident memory of this process and its children while entered, MB, sampled ten times a second."""

    def __init__(self, interval_s: float = 0.1) -> None:
        self.peak_mb = 0.0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._sample()

    def _sample(self) -> None:
        import psutil

        total = 0
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # a child that ended between listing and asking
        self.peak_mb = max(self.peak_mb, total / _MEGABYTE)

"""New and changed pose files: the sensor that cuts batches, adds partitions and asks for their poses.

Which files belong to which batch is recorded in the store (`pose_files.py`), so a lost cursor, a restart or a file that is
uploaded twice loses and repeats nothing. The cursor remembers two things between ticks: files that are still arriving,
and the content for which each batch's run was asked.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from posedreamer_assets.config import Profile
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.partitions import new_keys, partition_set
from posedreamer_assets.defs.resources import LanceStoreResource, ProfileResource
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline import Graph, graph_of
from posedreamer_assets.pipeline.pose_batches import (
    PoseBatchFiles,
    cut_new_files,
    folder_source,
    plan_batches,
    present_files,
    recorded_batches,
)
from posedreamer_assets.pipeline.rounds import rounds_of
from posedreamer_assets.poses.folder import FileStamp, Folder
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.keys import ALIGN, BASE, group_of, source_of

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore


MOST_FILES = 4096  # cut in one tick, so that a tick that has to digest them ends in time


@dataclass
class Cursor:
    """What a tick leaves for the next one.

    Attributes:
        arriving: size and time of change, at the last tick, of files that are not in a batch as they are, by URI.
        asked: digest of the files for which a batch's run was last asked, by key.
    """

    arriving: dict[str, list[int]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """The cursor of the last tick; a new one where there is none or it is not of this kind."""
        try:
            values = json.loads(text or "{}")
            return cls(dict(values["arriving"]), dict(values["asked"]))
        except (ValueError, KeyError, TypeError):
            return cls()

    def text(self) -> str:
        """For Dagster to keep."""
        return json.dumps({"arriving": self.arriving, "asked": self.asked}, sort_keys=True)


@dataclass(frozen=True)
class Tick:
    """What a look at the folders asks for.

    Attributes:
        keys: every batch of the watched folders; those that Dagster does not know yet become partitions.
        runs: batches whose poses are to be made, with the digest of their files.
        cursor: for the next tick.
    """

    keys: list[str]
    runs: list[tuple[str, str]]
    cursor: Cursor


def scan(home: Home, profile: Profile, store: "LanceStore", folders: Sequence[str], before: Cursor) -> Tick:
    """Cut what has arrived in whole, and list the batches whose files have not been asked for as they are."""
    after = Cursor(asked=dict(before.asked))
    sources: dict[str, Folder] = {}
    for folder in map(Folder, folders):
        source = folder_source(folder, profile)
        if source in sources:
            raise ConfigError(f"{folder.root} and {sources[source].root} would both name their batches {source}-...")
        sources[source] = folder
    with home.lock("pose_files"):
        for source, folder in sources.items():
            _cut(profile, store, source, folder, before, after)
        batches = {k: b for k, b in recorded_batches(store).items() if _source(k) in sources or _is_hard(k)}
    snapshot = Snapshot(profile, store)
    runs = []
    for key, batch in batches.items():
        if _is_hard(key) or _still_changing(batch, sources[_source(key)], before, after):
            continue
        content = present_files(batch, sources[_source(key)]).digest
        if after.asked.get(key) != content:
            after.asked[key] = content
            if not snapshot.is_current(snapshot.graph["pose_library"], key):
                runs.append((key, content))
    return Tick(sorted(batches), runs, after)


def _cut(profile: Profile, store: "LanceStore", source: str, folder: Folder, before: Cursor, after: Cursor) -> None:
    recorded = {path for k, b in recorded_batches(store).items() if source_of(k) == source for path in b.paths}
    fresh = [path for path in folder.pose_paths() if path not in recorded][:MOST_FILES]
    ready = [path for path in fresh if _has_settled(folder, folder.stamps[path], before, after)]
    flush = len(ready) == len(fresh)
    cut_new_files(store, folder, source, ready, files_per_batch=profile.poses.files_per_batch, flush=flush)
    if (
        profile.poses.source != "procedural"
        and Folder(profile.poses.source) == folder
        and (recorded or (fresh and flush))
    ):
        plan_batches(profile, store, (ALIGN, *(one.name for one in rounds_of(profile)[1:])))


def _has_settled(folder: Folder, stamp: FileStamp, before: Cursor, after: Cursor) -> bool:
    """Whether a file is whole: object stores show no other; a local one must look as it did at the last tick."""
    if stamp.size == 0:
        return False
    uri, seen = f"{folder.root}/{stamp.path}", [stamp.size, stamp.mtime_ns]
    after.arriving[uri] = seen
    return folder.remote or before.arriving.get(uri) == seen


def _still_changing(batch: PoseBatchFiles, folder: Folder, before: Cursor, after: Cursor) -> bool:
    now = [folder.stamps.get(file.stamp.path) for file in batch.files]
    changed = [stamp for stamp, file in zip(now, batch.files, strict=True) if stamp and stamp != file.stamp]
    settled = [_has_settled(folder, stamp, before, after) for stamp in changed]  # each notes its file in `after`
    return not all(settled)


def _source(key: str) -> str:
    return source_of(key.removeprefix(f"{ALIGN}-"))


def _is_hard(key: str) -> bool:
    return group_of(key) not in (BASE, ALIGN)


def partition_requests(instance: dg.DagsterInstance, graph: Graph, keys: Iterable[str]) -> list[Any]:
    """Requests to add the keys that Dagster does not know to every set that they belong to."""
    found = new_keys(instance, graph, keys)
    return [partition_set(groups).build_add_request(new) for groups, new in found.items()]


def watched_folders(profile: Profile, deployment: Deployment) -> tuple[str, ...]:
    """The folders to watch."""
    return deployment.watch or (() if profile.poses.source == "procedural" else (profile.poses.source,))


def arrivals_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """One look at the watched folders at each tick."""
    running = dg.DefaultSensorStatus.RUNNING if deployment.automation else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="pose_files",
        target=dg.AssetSelection.assets("pose_library"),
        minimum_interval_seconds=deployment.watch_interval_s,
        default_status=running,
        description="Cuts new pose files into batches and asks for the poses of new and changed ones.",
    )
    def pose_files(
        context: dg.SensorEvaluationContext, profile: ProfileResource, store: LanceStoreResource
    ) -> dg.SensorResult | dg.SkipReason:
        settings = profile.get()
        folders = watched_folders(settings, deployment)
        if not folders:
            return dg.SkipReason("nothing to watch: poses are procedural and POSEDREAMER_WATCH is not set")
        missing = [f for f in folders if "://" not in f and not Path(f).expanduser().is_dir()]
        if missing:
            return dg.SkipReason(f"{missing[0]} is not there")  # a disk that is not mounted: nothing is forgotten
        tick = scan(profile.place(), settings, store.get(), folders, Cursor.parse(context.cursor))
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=f"{key}-{content}", partition_key=key, tags={"posedreamer/reason": "pose files"})
                for key, content in tick.runs
            ],
            dynamic_partitions_requests=partition_requests(context.instance, graph_of(settings), tick.keys),
            cursor=tick.cursor.text(),
        )

    return pose_files

"""Pose files: where they lie, which batch each belongs to, and whether one has changed.

A batch of a pose folder is a stated list of files. The list is written to table `pose_files` when the batch is cut, and the
batch is never cut again: another file in the folder changes nothing, a changed file changes its own batches alone. The
table lies in the store, so the command line, Dagster's sensor and every worker see the same batches.

A folder is local or a URI that pyarrow opens (`s3://bucket/prefix`, with credentials and endpoint from `AWS_*`).
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa

from posedreamer_assets.digests import digest
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.pipeline.rounds import planned_keys, rounds_of, source_name
from posedreamer_assets.pipeline.student_study import domain_keys, domains_of
from posedreamer_assets.poses.folder import FileStamp, Folder, mixed
from posedreamer_assets.poses.paths import LICENCE_NAMES
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import ALIGN, BASE, DOMAIN, group_of, partition_key, sample_id, source_of

if TYPE_CHECKING:
    from posedreamer_assets.config import Profile
    from posedreamer_assets.storage import LanceStore

TABLE = "pose_files"


@dataclass(frozen=True)
class RecordedFile:
    """A file of a batch as it was when the batch was cut."""

    stamp: FileStamp
    digest: str


@dataclass(frozen=True)
class PoseBatchFiles:
    """The files of one batch.

    Attributes:
        key: partition key.
        folder: where the paths start, a local path or a URI.
        files: in the order in which they are read.
        part: where a folder has fewer files than its batches need, batches share files, and each takes its own part
            of their frames.
    """

    key: str
    folder: str
    files: tuple[RecordedFile, ...]
    part: int = 0

    @property
    def paths(self) -> tuple[str, ...]:
        """Relative paths."""
        return tuple(file.stamp.path for file in self.files)


@dataclass(frozen=True)
class PresentFiles:
    """The files of a batch as they are now.

    Attributes:
        folder: listed now.
        digests: content digest by path, licence files included; None for a pose file that is gone.
        part: see `PoseBatchFiles`.
    """

    folder: Folder
    digests: Mapping[str, str | None]
    part: int

    @property
    def digest(self) -> str:
        """Digest of names and contents; where the folder lies does not count."""
        return digest([sorted(self.digests.items()), self.part])

    @property
    def paths(self) -> list[str]:
        """Pose files that are there."""
        return [p for p, found in self.digests.items() if found and PurePosixPath(p).name not in LICENCE_NAMES]


def present_files(batch: PoseBatchFiles, folder: Folder) -> PresentFiles:
    """Look at the files of a batch; only those that have changed since it was cut are read."""
    digests: dict[str, str | None] = {}
    for file in batch.files:
        now = folder.stamps.get(file.stamp.path)
        digests[file.stamp.path] = None if now is None else file.digest if now == file.stamp else folder.digest(now)
    for stamp in folder.licences_of(batch.paths):
        digests[stamp.path] = folder.digest(stamp)
    return PresentFiles(folder, digests, batch.part)


# Batches


def recorded_batches(store: "LanceStore") -> dict[str, PoseBatchFiles]:
    """Every batch that was cut, by key."""
    batches: dict[str, PoseBatchFiles] = {}
    for row in store.read(TABLE, missing_ok=True).to_pylist():
        file = RecordedFile(FileStamp(row["path"], row["size"], row["mtime_ns"]), row["digest"])
        key = row["partition_key"]
        before = batches.get(key, PoseBatchFiles(key, row["folder"], (), row["part"]))
        batches[key] = replace(before, files=(*before.files, file))
    return batches


def record_batch(store: "LanceStore", batch: PoseBatchFiles) -> None:
    """Write a batch's list of files."""
    rows = [
        {
            "sample_id": sample_id(batch.key, i),
            "partition_key": batch.key,
            "folder": batch.folder,
            "path": file.stamp.path,
            "size": file.stamp.size,
            "mtime_ns": file.stamp.mtime_ns,
            "digest": file.digest,
            "part": batch.part,
        }
        for i, file in enumerate(batch.files)
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMAS[TABLE])
    store.replace_partition(TABLE, batch.key, table, input_digest=digest([batch.folder, batch.paths, batch.part]))


def plan_batches(profile: "Profile", store: "LanceStore", groups: Sequence[str] | None = None) -> list[str]:
    """Give every batch of these groups, by default of all, its files, and return the keys that were cut now.

    A batch keeps its files for good. Where the folder has moved, the batch follows; only when none of its files is
    there any more is it cut again.

    Raises:
        PoseFileError: the folder does not exist or holds no pose files.
    """
    cut: list[str] = []
    if profile.poses.source != "procedural":
        every = (ALIGN, *(one.name for one in rounds_of(profile)))
        of_groups = {group: planned_keys(profile, (group,)) for group in every}
        cut += _plan(profile, store, profile.poses.source, of_groups, every if groups is None else groups)
    if groups is None or DOMAIN in groups:
        for domain in domains_of(profile):
            if not domain.procedural:
                cut += _plan(profile, store, domain.source, {DOMAIN: domain_keys(domain)}, (DOMAIN,))
    return cut


def _plan(
    profile: "Profile", store: "LanceStore", source: str, keys: Mapping[str, Sequence[str]], groups: Sequence[str]
) -> list[str]:
    """Cut what these groups miss of the batches (keys by group) that one folder has the files of."""
    folder = Folder(source)
    if not folder.pose_paths():
        raise PoseFileError(folder.root, "empty", "no pose files: BVH, npz, npy or tar")
    own = [key for of_group in keys.values() for key in of_group]
    batches = _follow(store, folder, recorded_batches(store), own)
    per_batch = profile.poses.files_per_batch
    pool = per_batch * math.ceil(profile.curriculum.pool_size / profile.poses.batch_size)
    cut: list[str] = []
    for group in groups:
        most = per_batch if group in (BASE, ALIGN, DOMAIN) else pool
        missing = [key for key in keys[group] if key not in batches]
        for batch in _cut_planned(folder, group, missing, batches, most):
            record_batch(store, batch)
            batches[batch.key] = batch
            cut.append(batch.key)
    return cut


def cut_new_files(
    store: "LanceStore", folder: Folder, source: str, ready: Collection[str], *, files_per_batch: int, flush: bool
) -> list[str]:
    """Cut files that are in no base batch yet into new ones, and return their keys.

    Args:
        store: where batches are recorded.
        folder: the folder, listed now.
        source: `<source>` of the new keys.
        ready: paths that may be taken.
        files_per_batch: size of a batch.
        flush: also cut what is left over into a smaller batch.
    """
    recorded = recorded_batches(store)
    own = {key: batch for key, batch in recorded.items() if source_of(key) == source}
    own = _follow(store, folder, own, list(own))
    taken = {path for batch in own.values() for path in batch.paths}
    waiting = [path for path in mixed(ready) if path not in taken]
    number = max((int(key.rpartition("-")[2]) + 1 for key in recorded if source_of(key) == source), default=0)
    keys: list[str] = []
    for start in range(0, len(waiting), files_per_batch):
        paths = waiting[start : start + files_per_batch]
        if len(paths) < files_per_batch and not flush:
            break
        key = partition_key(source, number + len(keys))
        record_batch(store, _batch(key, folder, paths))
        keys.append(key)
    return keys


def _cut_planned(
    folder: Folder, group: str, keys: Sequence[str], batches: Mapping[str, PoseBatchFiles], most: int
) -> Iterable[PoseBatchFiles]:
    """Batches of one group for these keys: of files that the group has not used, then of used ones' other parts.

    Alignment starts at the other end of the order, so that in a large folder no file serves both alignment, which
    every image depends on, and a base batch.
    """
    used = [batch for key, batch in batches.items() if group_of(key) == group and batch.folder == folder.root]
    taken = {path for batch in used for path in batch.paths}
    order = folder.pose_paths()
    free = [path for path in (reversed(order) if group == ALIGN else order) if path not in taken]
    size = min(most, max(1, math.ceil(len(free) / max(1, len(keys)))))
    for i, key in enumerate(keys):
        paths = free[i * size : (i + 1) * size]
        if paths:
            batch = _batch(key, folder, paths)
        else:
            first = [b for b in used if b.part == 0]
            again = first[(len(used) - len(first)) % len(first)]
            part = 1 + max(b.part for b in used if b.paths == again.paths)
            batch = replace(_batch(key, folder, again.paths), part=part)
        used.append(batch)
        yield batch


def _batch(key: str, folder: Folder, paths: Sequence[str]) -> PoseBatchFiles:
    stamps = [folder.stamps[path] for path in paths]
    return PoseBatchFiles(key, folder.root, tuple(RecordedFile(s, folder.digest(s)) for s in stamps))


def _follow(
    store: "LanceStore", folder: Folder, batches: dict[str, PoseBatchFiles], keys: Collection[str]
) -> dict[str, PoseBatchFiles]:
    """The batches, those of `keys` with the folder's present place; ones without any file there are left out."""
    kept: dict[str, PoseBatchFiles] = {}
    for key, batch in batches.items():
        if key in keys and batch.folder != folder.root:
            if not any(path in folder.stamps for path in batch.paths):
                continue
            batch = replace(batch, folder=folder.root)
            record_batch(store, batch)
        kept[key] = batch
    return kept


def folder_source(folder: Folder, profile: "Profile") -> str:
    """`<source>` of the keys of a folder's batches."""
    return source_name(replace(profile, poses=replace(profile.poses, source=folder.root)))

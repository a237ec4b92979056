"""Poses, cameras and captions of one batch, from the procedural families or from a folder of motion files."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.pipeline.graph import key_group
from posedreamer_assets.pipeline.pose_batches import PresentFiles, has_pose_files
from posedreamer_assets.poses.draw import PoseBatch, clips_batch, place_cameras, procedural_batch
from posedreamer_assets.poses.procedural import FAMILIES
from posedreamer_assets.render.appearance import appearance_to_json, sample_appearance
from posedreamer_assets.render.captions import make_caption
from posedreamer_assets.seeds import derive_seed, sample_rng, unit_hash
from posedreamer_assets.tables.fields import POSE_LIBRARY, QUARANTINE, sample_id
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from posedreamer_assets.poses.sources import PoseFrames


def batch_ids(key: str, count: int) -> list[str]:
    """The sample ids of a partition."""
    return [sample_id(key, index) for index in range(count)]


def draw_poses(
    profile: Profile, body: BodyModel, key: str, ids: Sequence[str], files: PresentFiles | None = None
) -> PoseBatch:
    """One pose for each id, from the batch's files or from the procedural families.

    Raises:
        PoseFileError: a batch of a folder without files, or without a usable frame.
    """
    if not has_pose_files(profile, key):
        return procedural_batch(profile, body, ids)
    if files is None:
        raise PoseFileError(
            key, "empty", "no files were recorded for this batch; `posedreamer run` and the sensor do so"
        )
    clips, errors = _read(profile, files)
    drawn = clips_batch(profile, body, ids, clips, group=key_group(key), part=files.part)
    if drawn is None:
        reasons = "; ".join(str(error) for error in errors[:3]) or "none of its files is there"
        raise PoseFileError(files.folder.root, "empty", f"no usable frames in batch {key}: {reasons}")
    return drawn


def pose_rows(profile: Profile, body: BodyModel, batch: PoseBatch, ids: Sequence[str], key: str) -> dict[str, Any]:
    """Columns of `records.POSE_LIBRARY`: cameras, appearance and caption are drawn for each sample."""
    cameras, truncated = place_cameras(profile, body, batch, ids)
    appearances = [
        sample_appearance(sample_rng(profile.seed, i, "appearance"), activity_of(family))
        for i, family in zip(ids, batch.families, strict=True)
    ]
    captions = [given or make_caption(made) for given, made in zip(batch.captions, appearances, strict=True)]
    return {
        "sample_id": list(ids),
        "partition_key": [key] * len(ids),
        "source": batch.sources,
        "family": batch.families,
        "provenance": batch.provenance,
        "licence": batch.licences,
        "seed": [derive_seed(profile.seed, i, "pose") for i in ids],
        "split": [split_of(text, profile) for text in batch.provenance],
        **batch.params.to_flat(),
        **cameras.to_flat(),
        "truncated": truncated,
        "caption": captions,
        "appearance": [appearance_to_json(appearance) for appearance in appearances],
    }


def make_pose_table(profile: Profile, body: BodyModel, key: str, files: PresentFiles | None = None) -> pa.Table:
    """The rows of one pose batch; `files` are the batch's own where its poses come from a folder."""
    ids = batch_ids(key, profile.poses.batch_size)
    return make_table(pose_rows(profile, body, draw_poses(profile, body, key, ids, files), ids, key), POSE_LIBRARY)


def activity_of(family: str) -> str:
    """How captions call what a family or clip shows: that of the procedural family in its name, else plain standing."""
    if family in FAMILIES:
        return FAMILIES[family].activity
    words = family.lower()
    return next((FAMILIES[name].activity for name in FAMILIES if name in words), FAMILIES["stand"].activity)


def split_of(provenance: str, profile: Profile) -> str:
    """train, val or test by hash of where the pose came from, so that a pose never falls into two splits."""
    place = unit_hash(provenance)
    if place < profile.alignment.test_share:
        return "test"
    return "val" if place < profile.alignment.test_share + profile.alignment.val_share else "train"


def quarantined(profile: Profile, files: PresentFiles | None) -> list[PoseFileError]:
    """What could not be read of a batch's files."""
    return [] if files is None else list(_read(profile, files)[1])


def quarantine_table(key: str, errors: Sequence[PoseFileError]) -> pa.Table:
    """Rows of `records.QUARANTINE`."""
    columns = {
        "sample_id": batch_ids(key, len(errors)),
        "partition_key": [key] * len(errors),
        "path": [error.path for error in errors],
        "reason": [error.reason for error in errors],
        "detail": [error.detail for error in errors],
    }
    return make_table(columns, QUARANTINE)


def _read(profile: Profile, files: PresentFiles) -> tuple[tuple["PoseFrames", ...], tuple[PoseFileError, ...]]:
    return _read_files(
        files.folder.local_copy(files.paths),
        tuple(files.paths),
        files.digest,
        profile.poses.frame_stride_s,
        profile.seed,
        profile.body.model_path,
    )


@lru_cache(maxsize=2)
def _read_files(
    folder: Path, paths: tuple[str, ...], content: str, stride_s: float, seed: int, model_path: str | None
) -> tuple[tuple["PoseFrames", ...], tuple[PoseFileError, ...]]:
    """Frames and errors of some files; `content` is their digest, so that changed files are read again."""
    from posedreamer_assets.poses.sources import read_folder

    found = [folder / path for path in paths]
    clips, errors = read_folder(folder, stride_s=stride_s, seed=seed, body=load_body(model_path), files=found)
    return tuple(clips), tuple(errors)

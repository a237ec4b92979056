"""Poses, cameras and captions of one batch, from the procedural families or from a folder of motion files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.procedural import FAMILIES, procedural_poses
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cameras.sampling import sample_cameras
from posedreamer_assets.config import ImageConfig, Profile
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.pose_files import PresentFiles, has_pose_files
from posedreamer_assets.records import POSE_LIBRARY, QUARANTINE, sample_id
from posedreamer_assets.render.appearance import appearance_to_json, sample_appearance
from posedreamer_assets.render.captions import make_caption
from posedreamer_assets.render.training_set import FRAMING_STRIDE
from posedreamer_assets.rows import make_table
from posedreamer_assets.seeds import derive_seed, sample_rng, unit_hash
from posedreamer_assets.stages import key_group

if TYPE_CHECKING:
    from posedreamer_assets.body.sources import PoseFrames

PROCEDURAL_LICENCE = "CC0-1.0"
ALIGN_SHARE = 1 / 3  # of each clip's frames, kept apart for alignment
_CHUNK = 32  # bodies whose vertices are held at once


@dataclass(frozen=True)
class PoseBatch:
    """Posed bodies with where they came from; one entry per sample."""

    params: BodyParams
    source: str
    families: list[str]
    provenance: list[str]
    licences: list[str]
    cameras: list[Cameras | None]
    captions: list[str | None]


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
        params, families = procedural_poses(body, ids, profile.seed, profile.poses.families, profile.poses.betas_std)
        count = len(ids)
        provenance = [f"procedural/{family} seed {profile.seed} {i}" for family, i in zip(families, ids, strict=True)]
        return PoseBatch(
            params, "procedural", families, provenance, [PROCEDURAL_LICENCE] * count, [None] * count, [None] * count
        )
    if files is None:
        raise PoseFileError(
            key, "empty", "no files were recorded for this batch; `posedreamer run` and the sensor do so"
        )
    return _draw_from_files(profile, body, key, ids, files)


def pose_rows(profile: Profile, body: BodyModel, batch: PoseBatch, ids: Sequence[str], key: str) -> dict[str, Any]:
    """Columns of `records.POSE_LIBRARY`: cameras, appearance and caption are drawn for each sample."""
    cameras, truncated = _cameras(profile, body, batch, ids)
    appearances = [
        sample_appearance(sample_rng(profile.seed, i, "appearance"), activity_of(family))
        for i, family in zip(ids, batch.families, strict=True)
    ]
    captions = [given or make_caption(made) for given, made in zip(batch.captions, appearances, strict=True)]
    return {
        "sample_id": list(ids),
        "partition_key": [key] * len(ids),
        "source": [batch.source] * len(ids),
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
    from posedreamer_assets.body.sources import read_folder

    found = [folder / path for path in paths]
    clips, errors = read_folder(folder, stride_s=stride_s, seed=seed, body=load_body(model_path), files=found)
    return tuple(clips), tuple(errors)


def _draw_from_files(profile: Profile, body: BodyModel, key: str, ids: Sequence[str], files: PresentFiles) -> PoseBatch:
    clips, errors = _read(profile, files)
    group = key_group(key)
    frames = _frames_of_group(clips, align=group == "align")
    if not frames:
        reasons = "; ".join(str(error) for error in errors[:3]) or "none of its files is there"
        raise PoseFileError(files.folder.root, "empty", f"no usable frames in batch {key}: {reasons}")
    order = np.random.default_rng(derive_seed(profile.seed, group, "frame-order")).permutation(len(frames))
    # Files with fewer frames than the batch has poses are gone through again, under other yaws, cameras and captions.
    chosen = [frames[int(order[(files.part * len(ids) + i) % len(frames)])] for i in range(len(ids))]
    params = BodyParams.concat([clip.params.take([frame]) for clip, frame in chosen])
    cameras = [clip.cameras.take([frame]) if clip.cameras is not None else None for clip, frame in chosen]
    params = _shape_bodies(profile, body, _turn(profile, params, cameras, ids), cameras, ids)
    return PoseBatch(
        params,
        _one_source(chosen),
        [clip.family for clip, _ in chosen],
        [clip.names[frame] for clip, frame in chosen],
        [clip.licence for clip, _ in chosen],
        cameras,
        [clip.captions[frame] if clip.captions else None for clip, frame in chosen],
    )


def _frames_of_group(clips: Sequence["PoseFrames"], *, align: bool) -> list[tuple["PoseFrames", int]]:
    """Frames for alignment (the first part of each clip) or for generation (the rest); they never meet."""
    frames = []
    for clip in clips:
        cut = round(len(clip.params) * ALIGN_SHARE)
        frames += [(clip, i) for i in (range(cut) if align else range(cut, len(clip.params)))]
    return frames


def _one_source(chosen: Sequence[tuple["PoseFrames", int]]) -> str:
    return "+".join(sorted({_kind(clip, frame) for clip, frame in chosen}))


def _kind(clip: "PoseFrames", frame: int) -> str:
    if clip.cameras is not None:
        return "fits"
    return "bvh" if ".bvh" in clip.names[frame].lower() else "amass"


def _turn(profile: Profile, params: BodyParams, cameras: Sequence[Cameras | None], ids: Sequence[str]) -> BodyParams:
    """A random yaw for each body that brings no camera; pitch and roll of the root stay as recorded."""
    yaw = [
        sample_rng(profile.seed, i, "yaw").uniform(-np.pi, np.pi) if camera is None else 0.0
        for i, camera in zip(ids, cameras, strict=True)
    ]
    turn = Rotation.from_rotvec(np.outer(yaw, [0.0, 1.0, 0.0]))
    turned = (turn * Rotation.from_rotvec(params.global_orient)).as_rotvec().astype(np.float32)
    return params.replace(global_orient=turned)


def _shape_bodies(
    profile: Profile, body: BodyModel, params: BodyParams, cameras: Sequence[Cameras | None], ids: Sequence[str]
) -> BodyParams:
    """Sampled betas for bodies that come without a shape or camera; each keeps its height above the ground."""
    plain = np.array([camera is None for camera in cameras]) & ~params.betas.any(axis=1)
    if not plain.any():
        return params
    betas = params.betas.copy()
    for i in np.flatnonzero(plain):
        draw = sample_rng(profile.seed, ids[int(i)], "betas").normal(0, profile.poses.betas_std, 10)
        betas[i] = np.clip(draw, -3, 3)
    shaped = params.replace(betas=betas)
    transl = params.transl.copy()
    transl[:, 1] += _lowest(body, params) - _lowest(body, shaped)
    return shaped.replace(transl=transl)


def _lowest(body: BodyModel, params: BodyParams) -> np.ndarray:
    starts = range(0, len(params), _CHUNK)
    return np.concatenate(
        [body.forward(params.take(slice(i, i + _CHUNK))).vertices[..., 1].min(axis=1) for i in starts]
    )


def _cameras(profile: Profile, body: BodyModel, batch: PoseBatch, ids: Sequence[str]) -> tuple[Cameras, np.ndarray]:
    """Each sample's own camera where its source has one, else a sampled one; and which are truncated on purpose."""
    made, truncated = [], []
    for start in range(0, len(ids), _CHUNK):
        part = slice(start, start + _CHUNK)
        surface = body.forward(batch.params.take(part)).vertices[:, ::FRAMING_STRIDE]
        cameras, cut = sample_cameras(surface, list(ids)[part], profile.seed, profile.cameras, profile.image)
        made.append(cameras)
        truncated.append(cut)
    sampled, cut = Cameras.concat(made), np.concatenate(truncated)
    given = [(i, camera) for i, camera in enumerate(batch.cameras) if camera is not None]
    if not given:
        return sampled, cut
    own = dict(given)
    cut = cut & np.array([i not in own for i in range(len(ids))])
    return Cameras.concat(
        [resize_camera(own[i], profile.image) if i in own else sampled.take([i]) for i in range(len(ids))]
    ), cut


def resize_camera(camera: Cameras, image: ImageConfig) -> Cameras:
    """The camera of a photograph scaled to the profile's image size; the photograph is centred and fits wholly."""
    scale = min(image.width / camera.width, image.height / camera.height)
    margin = (np.array([image.width, image.height]) - scale * np.array([camera.width, camera.height])) / 2
    return Cameras(
        camera.rotation,
        camera.translation,
        (camera.focal_px * scale).astype(np.float32),
        (camera.principal_px * scale + margin).astype(np.float32),
        image.width,
        image.height,
        camera.pitch_deg,
        camera.roll_deg,
    )

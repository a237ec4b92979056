"""The poses of a batch: drawn from the procedural families or from clips, turned, shaped and put before cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cameras.sampling import FRAMING_STRIDE, resize_camera, sample_cameras
from posedreamer_assets.config import Profile
from posedreamer_assets.poses.procedural import procedural_poses
from posedreamer_assets.seeds import derive_seed, sample_rng

if TYPE_CHECKING:
    from posedreamer_assets.poses.sources import PoseFrames

PROCEDURAL_LICENCE = "CC0-1.0"
ALIGN_SHARE = 1 / 3  # of each clip's frames, kept apart for alignment
_CHUNK = 32  # bodies whose vertices are held at once


@dataclass(frozen=True)
class PoseBatch:
    """Posed bodies with where they came from; one entry per sample.

    Attributes:
        params: world frame.
        sources: kind of source of each pose: procedural, or the kind that the file's reader states.
        families: procedural family, or name of the clip.
        provenance: generator and seed, or file and frame.
        licences: terms of each pose.
        cameras: the source's own camera, or None.
        captions: the source's own caption, or None.
    """

    params: BodyParams
    sources: list[str]
    families: list[str]
    provenance: list[str]
    licences: list[str]
    cameras: list[Cameras | None]
    captions: list[str | None]


def procedural_batch(profile: Profile, body: BodyModel, ids: Sequence[str]) -> PoseBatch:
    """One procedural pose for each id."""
    params, families = procedural_poses(body, ids, profile.seed, profile.poses.families, profile.poses.betas_std)
    count = len(ids)
    provenance = [f"procedural/{family} seed {profile.seed} {i}" for family, i in zip(families, ids, strict=True)]
    return PoseBatch(
        params,
        ["procedural"] * count,
        families,
        provenance,
        [PROCEDURAL_LICENCE] * count,
        [None] * count,
        [None] * count,
    )


def clips_batch(
    profile: Profile, body: BodyModel, ids: Sequence[str], clips: Sequence["PoseFrames"], *, group: str, part: int = 0
) -> PoseBatch | None:
    """One frame of the clips for each id; None where they have no frame for this group.

    Args:
        profile: seed and shapes.
        body: gives each body its height above the ground.
        ids: sample ids.
        clips: what was read of the batch's files.
        group: of the batch; `align` takes the first part of each clip, all others the rest.
        part: which part of the frames, where batches share files.
    """
    frames = frames_of_group(clips, align=group == "align")
    if not frames:
        return None
    order = np.random.default_rng(derive_seed(profile.seed, group, "frame-order")).permutation(len(frames))
    # Files with fewer frames than the batch has poses are gone through again, under other yaws, cameras and captions.
    chosen = [frames[int(order[(part * len(ids) + i) % len(frames)])] for i in range(len(ids))]
    params = BodyParams.concat([clip.params.take([frame]) for clip, frame in chosen])
    cameras = [clip.cameras.take([frame]) if clip.cameras is not None else None for clip, frame in chosen]
    params = _shape_bodies(profile, body, _turn(profile, params, cameras, ids), cameras, ids)
    return PoseBatch(
        params,
        [clip.kind for clip, _ in chosen],
        [clip.family for clip, _ in chosen],
        [clip.names[frame] for clip, frame in chosen],
        [clip.licence for clip, _ in chosen],
        cameras,
        [clip.captions[frame] if clip.captions else None for clip, frame in chosen],
    )


def frames_of_group(clips: Sequence["PoseFrames"], *, align: bool) -> list[tuple["PoseFrames", int]]:
    """Frames for alignment (the first part of each clip) or for generation (the rest); they never meet."""
    frames = []
    for clip in clips:
        cut = round(len(clip.params) * ALIGN_SHARE)
        frames += [(clip, i) for i in (range(cut) if align else range(cut, len(clip.params)))]
    return frames


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


def place_cameras(
    profile: Profile, body: BodyModel, batch: PoseBatch, ids: Sequence[str]
) -> tuple[Cameras, np.ndarray]:
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

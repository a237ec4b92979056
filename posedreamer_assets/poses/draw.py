"""The poses of a batch: drawn from the procedural families or from clips, turned, shaped and put before cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cameras.sampling import FRAMING_STRIDE, resize_camera, sample_cameras
from posedreamer_assets.config import Profile
from posedreamer_assets.poses.activity import activities, activity_of_frame
from posedreamer_assets.poses.procedural import FAMILIES, procedural_poses
from posedreamer_assets.poses.stature import betas_of_people
from posedreamer_assets.seeds import derive_seed, sample_rng, unit_hash

if TYPE_CHECKING:
    from posedreamer_assets.poses.sources import PoseFrames

PROCEDURAL_LICENCE = "CC0-1.0"
ALIGN_SHARE = 1 / 3  # of each clip's frames, kept apart for alignment
_SAME_VIEW = 1e-3  # radians, metres and pixels by which two views differ at least
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
        activities: what each body does, in the words of captions.
    """

    params: BodyParams
    sources: list[str]
    families: list[str]
    provenance: list[str]
    licences: list[str]
    cameras: list[Cameras | None]
    captions: list[str | None]
    activities: list[str]


def procedural_batch(profile: Profile, body: BodyModel, ids: Sequence[str]) -> PoseBatch:
    """One procedural pose for each id."""
    params, families = procedural_poses(body, ids, profile.seed, profile.poses.families, profile.poses.ages)
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
        [FAMILIES[family].activity for family in families],
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
    rng = np.random.default_rng(derive_seed(profile.seed, group, "frame-order"))
    order = shared_out(frames_of_group(clips, align=group == "align"), rng)
    if not order:
        return None
    # Files with fewer frames than the batch has poses are gone through again, under other yaws, cameras and captions.
    chosen = [order[(part * len(ids) + i) % len(order)] for i in range(len(ids))]
    params = BodyParams.concat([clip.params.take([frame]) for clip, frame in chosen])
    cameras = [clip.cameras.take([frame]) if clip.cameras is not None else None for clip, frame in chosen]
    cameras = _each_view_once(params, cameras)
    params = _shape_bodies(profile, body, _turn(profile, params, cameras, ids), cameras, ids)
    return PoseBatch(
        params,
        [clip.kind for clip, _ in chosen],
        [clip.family for clip, _ in chosen],
        [clip.names[frame] for clip, frame in chosen],
        [clip.licence for clip, _ in chosen],
        cameras,
        [clip.captions[frame] if clip.captions else None for clip, frame in chosen],
        _activities(body, params, chosen),
    )


def _each_view_once(params: BodyParams, cameras: Sequence[Cameras | None]) -> list[Cameras | None]:
    """The cameras, without those before which a body of the batch stands in the same pose already: others are sampled there.

    Files are copied, and batches with more poses than their files have fits take some again; neither may give one image
    twice.
    """
    own = [i for i, camera in enumerate(cameras) if camera is not None]
    kept = list(cameras)
    if not own:
        return kept
    of_bodies = np.concatenate([values.reshape(len(params), -1) for values in params.to_flat().values()], axis=1)
    of_cameras = {i: _numbers(camera) for i, camera in enumerate(cameras) if camera is not None}
    seen: list[np.ndarray] = []
    for i in own:
        view = np.concatenate([of_bodies[i], of_cameras[i]])
        if any(np.abs(view - other).max() < _SAME_VIEW for other in seen):
            kept[i] = None
        else:
            seen.append(view)
    return kept


def _numbers(camera: Cameras) -> Float[np.ndarray, "k"]:
    sides = [[float(camera.width), float(camera.height)]]
    parts = (camera.rotation, camera.translation, camera.focal_px, camera.principal_px)
    return np.concatenate([*sides, *(part.reshape(-1) for part in parts)])


def _activities(body: BodyModel, params: BodyParams, chosen: Sequence[tuple["PoseFrames", int]]) -> list[str]:
    """What each body does: from its pose, its speed in the clip and the clip's name."""
    speeds = np.array([0.0 if clip.speeds_m_s is None else clip.speeds_m_s[frame] for clip, frame in chosen])
    shown = activities(body, params, speeds)
    return [activity_of_frame(pose, clip.family) for pose, (clip, _) in zip(shown, chosen, strict=True)]


def frames_of_group(clips: Sequence["PoseFrames"], *, align: bool) -> list[tuple["PoseFrames", list[int]]]:
    """Of each clip the frames for alignment (its first part) or those for generation (the rest); they never meet.

    A file of a single pose goes whole to one of the two, by the hash of its name. A batch of so few of these that one side
    would get nothing takes those nearest to it: only there may a pose serve both.
    """
    frames, single = [], []
    for clip in clips:
        cut = round(len(clip) * ALIGN_SHARE)
        if cut == 0 and len(clip):
            single.append(clip)
        elif own := list(range(cut) if align else range(cut, len(clip))):
            frames.append((clip, own))
    place = {id(clip): unit_hash(clip.names[0]) for clip in single}
    taken = [clip for clip in single if (place[id(clip)] < ALIGN_SHARE) == align]
    if not frames and not taken and single:
        count = max(1, round(len(single) * (ALIGN_SHARE if align else 1 - ALIGN_SHARE)))
        taken = sorted(single, key=lambda clip: place[id(clip)], reverse=not align)[:count]
    return frames + [(clip, list(range(len(clip)))) for clip in taken]


def shared_out(
    frames: Sequence[tuple["PoseFrames", list[int]]], rng: np.random.Generator
) -> list[tuple["PoseFrames", int]]:
    """All frames in an order that goes round the clips: one frame of each, then another of each that has more.

    So the first frames taken are of as many clips as there are, and a clip of half an hour does not crowd out short ones.
    """
    clips = [frames[int(i)] for i in rng.permutation(len(frames))]
    mixed = [(clip, [own[int(i)] for i in rng.permutation(len(own))]) for clip, own in clips]
    longest = max((len(own) for _, own in mixed), default=0)
    return [(clip, own[turn]) for turn in range(longest) for clip, own in mixed if turn < len(own)]


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
    """Betas of people for bodies without shape and camera; each keeps its height above the ground."""
    plain = np.array([camera is None for camera in cameras]) & ~params.betas.any(axis=1)
    if not plain.any():
        return params
    betas = params.betas.copy()
    betas[plain] = betas_of_people(
        body, [sample_id for sample_id, bare in zip(ids, plain, strict=True) if bare], profile.seed, profile.poses.ages
    )
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

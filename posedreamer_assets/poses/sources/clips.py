"""From one person's motion as a file holds it to poses on the ground: shared by all readers of SMPL-like clips."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.poses.activity import clip_speeds_m_s
from posedreamer_assets.poses.floor import PosesAt, settle
from posedreamer_assets.poses.sources.frames import (
    PoseFrames,
    Sketch,
    body_sketches,
    distinct_poses,
    posed_joints,
    reject_bad_frames,
    rest_joints,
    spread_rows,
    stride_indices,
    within_limits,
)
from posedreamer_assets.poses.sources.reader import ReadOptions
from posedreamer_assets.poses.upright import NPZ_HABIT, UpAxis, find_up_axis

ASSUMED_FPS = 30.0
_SPREAD = 240  # frames of a clip that its up axis is decided from


@dataclass(frozen=True)
class Clip:
    """A person's motion in the file's own world.

    Attributes:
        path: the file.
        columns: arrays by the names of `BodyParams`, frames first, axis-angle and metres; betas apart.
        betas: one shape for the whole clip.
        fps: frames per second.
        kind: of the reader.
        family: the clip's name.
        licence: terms.
        notes: of reading.
        believed: which axes point up in files of this kind, in the units of `upright`.
        stated: the axis that the file itself states, or empty.
        first: number in the file of the clip's first frame.
    """

    path: Path
    columns: Mapping[str, np.ndarray]
    betas: Float[np.ndarray, "10"]
    fps: float
    kind: str
    family: str
    licence: str
    notes: tuple[str, ...] = ()
    believed: Mapping[str, float] = field(default_factory=lambda: NPZ_HABIT)
    stated: str = ""
    first: int = 0

    def __len__(self) -> int:
        return len(self.columns["global_orient"])

    def at(self, frames: Int[np.ndarray, "n"]) -> BodyParams:
        """Bodies at these frames as the file has them; numbers may be absurd or not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            taken = {name: values[frames].astype(np.float32) for name, values in self.columns.items()}
        betas = np.repeat(self.betas[None].astype(np.float32), len(frames), axis=0)
        return BodyParams.zeros(len(frames)).replace(betas=betas, **taken)


def clip_frames(clip: Clip, options: ReadOptions) -> PoseFrames:
    """Frames a stride apart, those of them that differ, upright and on the ground.

    Raises:
        PoseFileError: no frame is good, or `ambiguous_up_axis`.
    """
    body = options.body
    chosen = stride_indices(clip.path, len(clip), clip.fps, options.stride_s, options.seed)
    good, rejected = reject_bad_frames(clip.path, clip.at(chosen), chosen)
    chosen = chosen[good]
    spread = spread_frames(len(clip))
    finite = np.isfinite(within_limits(clip.at(spread)).full_pose()).all(axis=(1, 2))
    up = _up_axis(clip, options, spread[finite] if finite.any() else chosen)
    told = bool(clip.stated) or options.up_axis != "auto"
    axis_notes = () if told else (f"{up.axis} is up ({up.confidence:.0%} sure): {'; '.join(up.evidence)}",)

    def upright(frames: np.ndarray) -> BodyParams:
        return turn_world(body, within_limits(clip.at(frames)), up.to_y_up)

    params = upright(chosen)
    keep = distinct_poses(posed_joints(body, params))
    params, chosen = params.take(keep), chosen[keep]
    params, floor_notes = settle(body, params, chosen, upright, count=len(clip), fps=clip.fps)
    return PoseFrames(
        params=params,
        fps=clip.fps,
        names=[f"{clip.path.name}#{clip.first + i}" for i in chosen],
        family=clip.family,
        licence=clip.licence,
        kind=clip.kind,
        rejected=tuple(rejected),
        notes=(*clip.notes, *axis_notes, *floor_notes),
        speeds_m_s=clip_speeds_m_s(body, chosen, upright, count=len(clip), fps=clip.fps),
        count=len(clip),
        up_axis=up.axis,
        up_axis_sure=up.confidence,
        sketches=_sketches(clip, spread[finite] if finite.any() else chosen, up.to_y_up, upright, options),
    )


def _sketches(
    clip: Clip, good: Int[np.ndarray, "n"], to_y_up: np.ndarray, upright: PosesAt, options: ReadOptions
) -> tuple[Sketch, ...]:
    """The file's own bodies at some frames spread over the clip."""
    frames = good[spread_rows(len(good), options.sketches)]
    if not len(frames):
        return ()
    params, _ = settle(options.body, upright(frames), frames, upright, count=len(clip), fps=clip.fps)
    return body_sketches(params, posed_joints(options.body, clip.at(frames)) @ to_y_up.T)


def turn_world(body: BodyModel, params: BodyParams, rotation: np.ndarray) -> BodyParams:
    """The same bodies in a world turned by `rotation` (3, 3).

    SMPL-X turns a body about its pelvis J0, so that the turn acts on J0 + transl: transl' = R (J0 + transl) - J0. An
    orientation that is not finite stays so.
    """
    if np.array_equal(rotation, np.eye(3)):
        return params
    pelvis = rest_joints(body, params)[:, 0]
    orient = params.global_orient.copy()
    finite = np.isfinite(orient).all(axis=1)
    if finite.any():
        turned = Rotation.from_matrix(rotation) * Rotation.from_rotvec(orient[finite])
        orient[finite] = turned.as_rotvec().astype(np.float32)
    transl = (pelvis + params.transl) @ rotation.T - pelvis
    return params.replace(global_orient=orient, transl=transl.astype(np.float32))


def _up_axis(clip: Clip, options: ReadOptions, good: Int[np.ndarray, "n"]) -> UpAxis:
    """The axis that points up: as set, as the file states, or as the whole clip shows."""
    told = clip.stated if options.up_axis == "auto" else options.up_axis
    return find_up_axis(
        clip.path,
        options.body,
        good,
        lambda frames: within_limits(clip.at(frames)),
        count=len(clip),
        fps=clip.fps,
        believed=clip.believed,
        up_axis=told or None,
    )


def spread_frames(count: int) -> Int[np.ndarray, "n"]:
    """Frame numbers over a whole clip, at most 240."""
    return np.unique(np.linspace(0, count - 1, _SPREAD).astype(int))

"""Biovision hierarchy files: clips of any humanoid rig retargeted to SMPL-X, upright and on the ground."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.activity import clip_speeds_m_s
from posedreamer_assets.poses.floor import PosesAt, lowest_points_m, settle, sole_pitch_deg
from posedreamer_assets.poses.retarget import Retargeter
from posedreamer_assets.poses.rig import SIDES, RetargetError
from posedreamer_assets.poses.rig_names import split_names
from posedreamer_assets.poses.sources.bvh_text import BvhClip, parse_bvh, parse_people
from posedreamer_assets.poses.sources.frames import (
    PoseFrames,
    Sketch,
    distinct_poses,
    posed_joints,
    reject_bad_frames,
    spread_rows,
    stride_indices,
)
from posedreamer_assets.poses.sources.reader import ReadOptions
from posedreamer_assets.poses.upright import UpAxis, find_up_axis, trunk_tilt_deg

__all__ = ["parse_bvh", "read_bvh"]

_CALIBRATION_FRAMES = 240  # spread over the clip; enough for hinge axes and the rest pose
_ROWS = 4096  # looked at at a time
_UPRIGHT_DEG, _MOST_PITCH_DEG = 45.0, 60.0  # of bodies and soles that stand
_LEVEL_DEG, _LEAST_STANDING = 5.0, 4  # soles nearer to level, and feet seen standing in fewer frames, stay as they are


def read_bvh(
    path: Path,
    *,
    stride_s: float,
    seed: int,
    licence: str,
    body: BodyModel,
    up_axis: str | None = None,
    sketches: int = 0,
) -> list[PoseFrames]:
    """Read the clip of each person of a file and retarget it to the body's proportions.

    Args:
        path: the file.
        stride_s: time between two frames taken, seconds.
        seed: chooses the phase of the stride.
        licence: terms to record.
        body: that the poses are for.
        up_axis: the axis that points up in the file; None or "auto" decides from the file.
        sketches: of how many frames of each clip to keep the rig's own skeleton.

    Raises:
        PoseFileError: with the reason that applies, that of the first person where none can be read; single bad frames
            are in `rejected` instead.
    """
    people = parse_people(path)
    clips: list[PoseFrames] = []
    errors: list[PoseFileError] = []
    for number, clip in enumerate(people, start=1):
        try:
            person = number if len(people) > 1 else 0
            options = ReadOptions(stride_s, seed, licence, body, up_axis or "auto", sketches=sketches)
            clips.append(_read_person(path, clip, person, options))
        except PoseFileError as error:
            errors.append(error)
    if not clips:
        raise errors[0]
    return [replace(clips[0], rejected=(*clips[0].rejected, *errors)), *clips[1:]]


def _read_person(
    path: Path,
    clip: BvhClip,
    person: int,
    options: ReadOptions,
) -> PoseFrames:
    count, body = len(clip.motion), options.body
    bad = _bad_rows(path, clip)
    good_rows = np.setdiff1d(np.arange(count), [i for i, _ in bad])
    if not len(good_rows):
        raise PoseFileError(path, bad[0][1].reason, f"no good frame; {bad[0][1].detail}")
    rig, up, first = _calibrated(path, clip, good_rows, body, options.up_axis)
    chosen = np.intersect1d(stride_indices(path, count, clip.fps, options.stride_s, options.seed, first), good_rows)
    chosen = chosen if len(chosen) else good_rows[-1:]
    params = rig.retarget(*clip.pose(chosen))
    good, rejected = reject_bad_frames(path, params, chosen)
    params, chosen = params.take(np.flatnonzero(good)), chosen[good]
    keep = distinct_poses(posed_joints(body, params))
    params, chosen = params.take(keep), chosen[keep]
    poses = _poses(rig, clip, good_rows)
    params, floor_notes = settle(body, params, chosen, poses, count=count, fps=clip.fps)
    errors = [error for _, error in bad] + rejected
    if clip.missing:
        errors.append(PoseFileError(path, "truncated", f"frame {count}: {clip.missing} numbers are missing"))
    who, family = (f"{person}.", f"{path.stem}-{person}") if person else ("", path.stem)
    return PoseFrames(
        params=params,
        fps=clip.fps,
        names=[f"{path.name}#{who}{i}" for i in chosen],
        family=family,
        licence=options.licence,
        kind="bvh",
        rejected=tuple(errors),
        notes=(*clip.notes, *rig.notes, *floor_notes),
        speeds_m_s=clip_speeds_m_s(body, chosen, poses, count=count, fps=clip.fps),
        count=count,
        up_axis=up.axis,
        up_axis_sure=up.confidence,
        sketches=_sketches(rig, clip, good_rows[first:], poses, options),
    )


def _sketches(
    rig: Retargeter, clip: BvhClip, good_rows: Int[np.ndarray, "g"], poses: PosesAt, options: ReadOptions
) -> tuple[Sketch, ...]:
    """The rig itself, as the file has it, at some frames spread over the clip."""
    frames = good_rows[spread_rows(len(good_rows), options.sketches)]
    if not len(frames):
        return ()
    skeleton, pelvis = clip.skeleton, rig.mapping.joints["pelvis"]
    shown = [pelvis, *skeleton.below(pelvis)]  # not a root that stays behind on the floor
    row_of = {joint: row for row, joint in enumerate(shown)}
    bones = np.array([(row_of[skeleton.parents[joint]], row_of[joint]) for joint in shown[1:]])
    sides = tuple(side for side, _ in split_names([skeleton.names[joint] for joint in shown]))
    places = rig.scale * clip.pose(frames)[1][:, shown] @ rig.to_world.T
    params, _ = settle(options.body, poses(frames), frames, poses, count=len(clip.motion), fps=clip.fps)
    return tuple(Sketch(params.take([i]), joints, bones, sides) for i, joints in enumerate(places))


def _calibrated(
    path: Path, clip: BvhClip, good_rows: np.ndarray, body: BodyModel, up_axis: str | None
) -> tuple[Retargeter, UpAxis, int]:
    """The rig understood and turned to y up, that axis, and the clip's first frame that is part of the motion."""
    spread = good_rows[np.unique(np.linspace(0, len(good_rows) - 1, _CALIBRATION_FRAMES).astype(int))]
    try:
        rig = Retargeter.calibrate(clip.skeleton, *clip.pose(spread), body)
    except RetargetError as error:
        raise PoseFileError(path, error.reason, str(error)) from error
    # A calibration pose in front of the motion is no part of it.
    first = 1 if rig.first_is_reference and _jumps(clip, good_rows) else 0
    moving = good_rows[first:] if len(good_rows) > first else good_rows
    up = find_up_axis(
        path,
        body,
        moving,
        _poses(rig, clip, good_rows),
        count=len(clip.motion),
        fps=clip.fps,
        believed=rig.believed,
        up_axis=up_axis,
    )
    rig = rig.facing_up(up.to_y_up, up.note)
    return rig.with_level_soles(_standing_pitch_deg(rig, _poses(rig, clip, good_rows)(spread), body)), up, first


def _standing_pitch_deg(rig: Retargeter, params: BodyParams, body: BodyModel) -> dict[str, float]:
    """Median pitch of the soles that upright bodies stand on, for the sides whose reference pose does not tell it.

    A sole is flat for most of the time for which it stands on the ground; of feet that hardly stand nothing is known.
    """
    if not rig.loose_feet:
        return {}
    transl = params.transl.copy()
    transl[:, 1] -= lowest_points_m(body, params)
    pitch = sole_pitch_deg(body, params.replace(transl=transl))
    pitch[trunk_tilt_deg(body, params) > _UPRIGHT_DEG] = np.nan
    pitch[~(np.abs(pitch) < _MOST_PITCH_DEG)] = np.nan
    standing = pitch[:, [SIDES.index(side) for side in rig.loose_feet]]
    standing = standing[np.isfinite(standing)]
    if len(standing) < _LEAST_STANDING or abs(np.median(standing)) < _LEVEL_DEG:
        return {}
    return dict.fromkeys(rig.loose_feet, float(np.median(standing)))


def _poses(rig: Retargeter, clip: BvhClip, good_rows: Int[np.ndarray, "g"]) -> PosesAt:
    """Bodies of the clip at any frame numbers; a bad frame gives the nearest good one before it."""

    def at(frames: np.ndarray) -> BodyParams:
        nearest = good_rows[np.maximum(np.searchsorted(good_rows, frames, side="right") - 1, 0)]
        return rig.retarget(*clip.pose(nearest))

    return at


def _bad_rows(path: Path, clip: BvhClip) -> list[tuple[int, PoseFileError]]:
    kinds = np.array([kind == "position" for joint in clip.channels for kind, _ in joint])
    extent = float(np.abs(clip.skeleton.offsets).sum()) or 1.0
    limit = np.where(kinds, 1000 * extent, 36000.0)  # the skeleton's size; a hundred turns
    nans, absurd = [], []
    for start in range(0, len(clip.motion), _ROWS):
        rows = clip.motion[start : start + _ROWS]
        finite = np.isfinite(rows).all(axis=1)
        with np.errstate(invalid="ignore"):
            beyond = (np.abs(rows) > limit).any(axis=1) & finite
        for i in np.flatnonzero(~finite) + start:
            nans.append((int(i), PoseFileError(path, "nan", f"frame {i}: a channel is not finite")))
        for i in np.flatnonzero(beyond) + start:
            worst = float(np.abs(clip.motion[i]).max())
            absurd.append((int(i), PoseFileError(path, "absurd_value", f"frame {i}: a channel reaches {worst:.4g}")))
    return nans + absurd


def _jumps(clip: BvhClip, good_rows: np.ndarray) -> bool:
    """Whether the second frame differs from the first by more than a body can move between them."""
    if len(good_rows) < 2:
        return False
    rotation = clip.pose(good_rows[:2])[0]
    turn = Rotation.from_matrix(np.swapaxes(rotation[0], -1, -2) @ rotation[1]).magnitude()
    return bool(np.rad2deg(turn).max() > 30)

"""Per-image SMPL-X fits: npz files with body parameters and a pinhole camera, one or many images in each.

Keys (n images; a file of one image may drop the leading axis): `global_orient` (n, 3), `body_pose` (n, 63), `transl`
(n, 3), all in the OpenCV camera frame; optional `betas` (n, 10 or more), `left_hand_pose`, `right_hand_pose` (n, 45),
`jaw_pose`, `leye_pose`, `reye_pose` (n, 3), `expression` (n, 10 or more). Camera: `focal_px` (n,), `principal_px`
(n, 2; the image centre if absent) and `image_size` (n, 2) as width, height; a single value serves all images; or
`intrinsics` (n, 3, 3). Without a camera one is sampled. Optional `caption` (n,) and `licence`. docs/poses.md has the
names and shapes of other programs that are read as well.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.floor import lowest_points_m
from posedreamer_assets.poses.sources.amass import read_clip
from posedreamer_assets.poses.sources.clips import clip_frames, turn_world
from posedreamer_assets.poses.sources.fit_cameras import (
    FitCameras,
    read_cameras,
    read_translation,
    reject_bad_cameras,
)
from posedreamer_assets.poses.sources.frames import (
    PoseFrames,
    body_sketches,
    posed_joints,
    reject_bad_frames,
    rest_joints,
    spread_rows,
    within_limits,
)
from posedreamer_assets.poses.sources.npz import Arrays
from posedreamer_assets.poses.sources.parts import BODY_KEYS, ROOT_KEYS, WHOLE_KEYS, Parts, read_parts, usable
from posedreamer_assets.poses.sources.reader import PoseFile, Reader, ReadOptions
from posedreamer_assets.poses.sources.shapes import own_licence, usable_betas
from posedreamer_assets.poses.upright import find_up_axis, trunk_tilt_deg

_CHUNK = 64
_UPSIDE_DOWN_DEG = 120.0  # tilt of the trunk
_CAMERA_HABIT = {"-y": 1.0, "y": 0.3, "z": 0.2, "x": -0.6, "-x": -0.6, "-z": -0.6}  # of fits without a camera
# OpenCV camera axes to a world with y up, seen by a level camera on its +z side.
_TO_WORLD = np.diag([1.0, -1.0, -1.0])
_BETAS_KEYS, _EXPRESSION_KEYS = ("betas", "shape", "smplx_shape", "beta"), ("expression", "smplx_expr", "expr")
_CAPTION_KEYS = ("caption", "captions")


@dataclass(frozen=True)
class Fits:
    """Bodies before cameras, as a file holds them.

    Attributes:
        path: the file.
        params: OpenCV camera frame.
        cameras: of the images; None where they are to be sampled.
        licence: terms.
        kind: of the reader.
        captions: one for each image, or None.
        notes: of reading.
    """

    path: Path
    params: BodyParams
    cameras: FitCameras | None
    licence: str
    kind: str
    captions: list[str] | None
    notes: tuple[str, ...]


def is_fits(arrays: Arrays) -> bool:
    """Whether the npz holds per-image fits."""
    return arrays.first_of(*ROOT_KEYS, *BODY_KEYS, *WHOLE_KEYS) is not None


def read_fits(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    """Read all fits of one file; each body is moved to stand at the world's origin and its camera with it.

    What the camera sees is unchanged: `cameras.project` of the world joints gives the pixels of the fit. Images of
    different sizes share the largest width and height, the picture in the upper left corner.

    Raises:
        PoseFileError: with the reason that applies; single bad fits are in `rejected` instead.
    """
    parts = read_parts(file.arrays, options.hands)
    fits = fits_of(file.arrays, parts, options, kind="fits")
    if fits.cameras is None and file.arrays.first_of("transl", "trans"):
        clip = _world_clip(file.arrays, parts, options, fits.params)
        if clip is not None:
            return [clip]
    return [fit_frames(fits, options)]


def fits_of(arrays: Arrays, parts: Parts, options: ReadOptions, *, kind: str, own_shapes: bool = False) -> Fits:
    """The fits that these arrays and parts of a pose make.

    Args:
        arrays: of the file.
        parts: of the poses, camera frame.
        options: what the reader was told.
        kind: of the reader.
        own_shapes: the betas are of the body that the poses are for, as the format implies.

    Raises:
        PoseFileError: arrays that do not fit.
    """
    count, notes = parts.count, list(parts.notes)
    cameras = read_cameras(arrays, count, notes)
    transl = read_translation(arrays, count, cameras, notes)
    if transl is None and cameras is not None:
        notes.append("no translation in the file: the camera is sampled")
        cameras = None
    columns = dict(parts.columns)
    columns["transl"] = np.zeros((count, 3)) if transl is None else transl
    betas = _components(arrays, count, notes, *_BETAS_KEYS)
    if betas is None:
        notes.append("no betas: the mean shape is used")
    elif own_shapes:
        columns["betas"] = betas
    else:
        columns["betas"] = usable_betas(betas, arrays, parts.model, options.body, notes)
    expression = _components(arrays, count, notes, *_EXPRESSION_KEYS)
    if expression is not None:
        columns["expression"] = expression
    with np.errstate(over="ignore", invalid="ignore"):
        params = BodyParams.zeros(count).replace(**{k: v.astype(np.float32) for k, v in columns.items()})
    captions = _captions(arrays, count)
    licence = own_licence(arrays) or options.licence
    return Fits(arrays.path, params, cameras, licence, kind, captions, tuple(notes))


def fit_frames(fits: Fits, options: ReadOptions) -> PoseFrames:
    """The good ones among fits, standing in the world.

    Raises:
        PoseFileError: none is good.
    """
    path, params, cameras = fits.path, fits.params, fits.cameras
    count = len(params)
    good, rejected = reject_bad_frames(path, params, np.arange(count))
    if cameras is not None:
        camera_good, errors = reject_bad_cameras(path, params.transl, cameras)
        rejected += [error for i, error in errors if good[i]]
        good = good & camera_good
    keep = np.flatnonzero(good)
    if not len(keep):
        raise PoseFileError(path, rejected[0].reason, f"no good fit; {rejected[0].detail}")
    kept, notes = params.take(keep), fits.notes
    rows = spread_rows(len(keep), options.sketches)
    if cameras is None:
        world, seen = _stand(options.body, kept), None
        if np.median(trunk_tilt_deg(options.body, world)) > _UPSIDE_DOWN_DEG:
            notes = (
                *notes,
                "bodies are upside down: fits are read in a camera's axes, y down; these may be in a world's",
            )
    else:
        world, seen = _to_world(options.body, kept, cameras.take(keep))
    return PoseFrames(
        params=world,
        fps=0.0,
        names=[f"{path.name}#{i}" for i in keep],
        family=path.stem,
        licence=fits.licence,
        kind=fits.kind,
        cameras=seen,
        captions=[fits.captions[i] for i in keep] if fits.captions else None,
        rejected=tuple(rejected),
        notes=notes,
        count=count,
        sketches=body_sketches(world.take(rows), posed_joints(options.body, kept.take(rows)) @ _TO_WORLD.T),
    )


def _components(arrays: Arrays, count: int, notes: list[str], *keys: str) -> Float[np.ndarray, "n 10"] | None:
    key = usable(arrays, notes, *keys)
    if key is None:
        return None
    values = arrays.numbers(key)
    values = values[None] if values.ndim == 1 else values
    values = values[:, 0] if values.ndim == 3 and values.shape[1] == 1 else values
    if values.ndim != 2 or len(values) not in (1, count) or values.shape[1] == 0:
        raise PoseFileError(arrays.path, "shape", f"{key}: shape {values.shape}, expected ({count}, 10)")
    out = np.zeros((count, 10))
    width = min(10, values.shape[1])
    out[:, :width] = values[:, :width]
    return out


def _to_world(body: BodyModel, params: BodyParams, cameras: FitCameras) -> tuple[BodyParams, Cameras]:
    turned = turn_world(body, params, _TO_WORLD)
    position = rest_joints(body, params)[:, 0] + turned.transl
    shift = np.stack([-position[:, 0], -_lowest_vertex(body, turned), -position[:, 2]], axis=1)
    world = turned.replace(transl=(turned.transl + shift).astype(np.float32))
    count = len(params)
    seen = Cameras(
        rotation=np.repeat(_TO_WORLD[None], count, axis=0).astype(np.float32),
        translation=(-shift @ _TO_WORLD.T).astype(np.float32),
        focal_px=cameras.focal.astype(np.float32),
        principal_px=cameras.principal.astype(np.float32),
        width=round(float(cameras.size[:, 0].max())),
        height=round(float(cameras.size[:, 1].max())),
        pitch_deg=np.zeros(count, np.float32),
        roll_deg=np.zeros(count, np.float32),
    )
    return world, seen


def _stand(body: BodyModel, params: BodyParams) -> BodyParams:
    """Bodies of the camera frame in a world with y up, at its origin, their lowest point on the ground."""
    turned = turn_world(body, params.replace(transl=np.zeros_like(params.transl)), _TO_WORLD)
    transl = -rest_joints(body, params)[:, 0]
    transl[:, 1] = turned.transl[:, 1] - lowest_points_m(body, turned)
    return turned.replace(transl=transl.astype(np.float32))


def _lowest_vertex(body: BodyModel, params: BodyParams) -> np.ndarray:
    starts = range(0, len(params), _CHUNK)
    return np.concatenate(
        [body.forward(params.take(slice(i, i + _CHUNK))).vertices[..., 1].min(axis=1) for i in starts]
    )


def _captions(arrays: Arrays, count: int) -> list[str] | None:
    key = arrays.first_of(*_CAPTION_KEYS)
    if key is None or arrays.is_pickled(key):
        return None
    captions = arrays.text(key)
    if len(captions) not in (1, count):
        raise PoseFileError(arrays.path, "shape", f"{key}: {len(captions)} texts for {count} fits")
    return captions * (count if len(captions) == 1 else 1)


def _world_clip(arrays: Arrays, parts: Parts, options: ReadOptions, params: BodyParams) -> PoseFrames | None:
    """The file as a clip, where its bodies clearly stand in a world and not before a camera (y down).

    So people write what GVHMR and WHAM give: under the names of fits, in the world, without camera and frame rate.
    """

    def at(frames: np.ndarray) -> BodyParams:
        return within_limits(params.take(frames))

    good = np.flatnonzero(np.isfinite(at(np.arange(len(params))).full_pose()).all(axis=(1, 2)))
    if not len(good):
        return None
    try:
        up = find_up_axis(arrays.path, options.body, good, at, count=len(params), fps=0, believed=_CAMERA_HABIT)
    except PoseFileError:
        return None  # lying people: before a camera, as fits are
    if up.axis == "-y":
        return None
    clip = read_clip(arrays, replace(parts, notes=list(parts.notes)), options, kind="amass")
    if clip.stated:
        return clip_frames(clip, options)
    return clip_frames(replace(clip, stated=up.axis, notes=(*clip.notes, up.note)), options)


FITS = Reader("fits", "per-image fits npz", (".npz",), lambda file: is_fits(file.arrays), read_fits)

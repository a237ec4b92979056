"""Tests of labels: body, camera, joints and maps of a sample must tell of one and the same person.

Each recomputes something from other columns, so a swapped, shifted or mixed-up value in any of them shows.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from posedreamer_assets.body.anatomy import limit_violations
from posedreamer_assets.body.joints import COCO17_FROM_SMPLX, LANDMARK_VERTICES
from posedreamer_assets.body.model import BodyModel, chain_transforms
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.checks.model import Around, DataCheck, Verdicts
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.tables.fields import BODY_COLUMNS
from posedreamer_assets.tables.rows import CAMERA_COLUMNS, bodies, cameras

_JOINTS = 55
_INNER_JOINTS = 22  # pelvis to wrists: these lie well inside the body
_OF_FACE = COCO17_FROM_SMPLX >= _JOINTS  # COCO's keypoints that are vertices of the face; the others are joints
_FACE = [tuple(LANDMARK_VERTICES.values())[i - _JOINTS] for i in COCO17_FROM_SMPLX[_OF_FACE]]
_KEYPOINTS = np.where(_OF_FACE, _JOINTS + np.cumsum(_OF_FACE) - 1, COCO17_FROM_SMPLX)  # among `joint_positions`
_MILLIMETRES = 1000.0
_CLOSE_MM = 2.0  # depth is stored rounded


def usable_rows(rows: Rows, columns: Iterable[str]) -> np.ndarray:
    """Indices of rows whose numbers are all there and finite; the others are reported by other checks."""
    if not len(rows):
        return np.zeros(0, int)
    flat = [rows.numbers(name).reshape(len(rows), -1) for name in columns]
    return np.flatnonzero(np.isfinite(np.concatenate(flat, axis=1)).all(1))


def spread(count: int, indices: np.ndarray, passed: np.ndarray) -> Verdicts:
    """Verdicts of some rows among all of them."""
    verdicts: Verdicts = [None] * count
    for index, ok in zip(indices.tolist(), passed.tolist(), strict=True):
        verdicts[index] = ok
    return verdicts


def _bodies(rows: Rows) -> BodyParams:
    return bodies(rows.table)


def joint_positions(body: BodyModel, params: BodyParams) -> np.ndarray:
    """The 55 joints of each body and the five vertices of COCO's face keypoints, metres, world frame: (n, 60, 3).

    Only what these points need is computed, so thousands of bodies take milliseconds where whole meshes take seconds.
    """
    template, directions = _joint_directions(body)
    coefficients = np.concatenate([params.betas, params.expression], axis=1)
    rest = template + np.einsum("nk,jck->njc", coefficients, directions)
    rotations = axis_angle_to_matrix(params.full_pose())
    turned, joints = chain_transforms(rotations, rest)
    shapes = np.concatenate([body.shapedirs[_FACE], body.exprdirs[_FACE]], axis=2)
    face = body.v_template[_FACE] + np.einsum("nk,vck->nvc", coefficients, shapes)
    if body.posedirs is not None:
        feature = (rotations[:, 1:] - np.eye(3)).reshape(len(params), -1)
        face = face + np.einsum("nk,kvc->nvc", feature, body.posedirs.reshape(len(body.posedirs), -1, 3)[:, _FACE])
    offsets = joints - np.einsum("njab,njb->nja", turned, rest)
    weights = body.weights[_FACE]
    posed = np.einsum("vj,njab,nvb->nva", weights, turned, face, optimize=True) + np.einsum(
        "vj,nja->nva", weights, offsets
    )
    return np.concatenate([joints, posed], axis=1) + params.transl[:, None]


@lru_cache(maxsize=2)
def _joint_directions(body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    shapes = np.concatenate([body.shapedirs, body.exprdirs], axis=2)
    return body.J_regressor @ body.v_template, np.einsum("jv,vck->jck", body.J_regressor, shapes, optimize=True)


def within_joint_limits(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Every anatomical angle is within its range of motion, see `body/anatomy.py`."""
    usable = usable_rows(rows, BODY_COLUMNS)
    if not len(usable):
        return [None] * len(rows)
    broken = limit_violations(_bodies(rows.take(usable)), check.args.get("tolerance_deg", 0.5))
    return spread(len(rows), usable, np.array([not names for names in broken]))


def camera_frames_body(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """All joints lie before the camera, at least a share `inside` of them in the frame, and they span `min_share` of it."""
    usable = usable_rows(rows, (*BODY_COLUMNS, *CAMERA_COLUMNS))
    if not len(usable):
        return [None] * len(rows)
    some = rows.take(usable)
    pixels = _cameras(some).project(joint_positions(around.body(), _bodies(some))[:, :_INNER_JOINTS])
    size = np.stack([some.numbers("width"), some.numbers("height")], axis=1)[:, None]
    passed = np.isfinite(pixels).all((1, 2))
    pixels = np.nan_to_num(pixels)
    passed &= ((pixels >= 0) & (pixels < size)).all(2).mean(1) >= check.args.get("inside", 1.0)
    passed &= (np.ptp(pixels, axis=1) / size[:, 0]).max(1) >= check.args.get("min_share", 0.0)
    return spread(len(rows), usable, passed)


def camera_angles_agree(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`cam_pitch_deg` and `cam_roll_deg` are those of `cam_rotation`.

    The camera's forward axis drops by the pitch; the roll turns the picture's x axis out of the level.
    """
    usable = usable_rows(rows, ("cam_rotation", "cam_pitch_deg", "cam_roll_deg"))
    some = rows.take(usable)
    rotation = some.numbers("cam_rotation", 3)
    pitch = np.degrees(np.arcsin(np.clip(-rotation[:, 2, 1], -1, 1)))
    roll = np.degrees(np.arctan2(rotation[:, 0, 1], -rotation[:, 1, 1]))
    found = np.stack([some.numbers("cam_pitch_deg") - pitch, some.numbers("cam_roll_deg") - roll])
    off = np.abs((found + 180) % 360 - 180).max(0)
    return spread(len(rows), usable, off <= check.args.get("tolerance_deg", 0.1))


def projection_agrees(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Joints and keypoints are the projection of the body in the other table by the camera there, in all rows."""
    tolerance = check.args.get("tolerance_px", 0.1)
    (table,) = check.args["to"]
    poses = rows.matched(around.rows(table, ["sample_id", *BODY_COLUMNS, *CAMERA_COLUMNS]))
    own = ("joints_2d", "joints_cam_m", "keypoints_2d")
    usable = np.intersect1d(usable_rows(poses, (*BODY_COLUMNS, *CAMERA_COLUMNS)), usable_rows(rows, own))
    if not len(usable):
        return [None] * len(rows)
    stored, poses = rows.take(usable), poses.take(usable)
    params, views = _bodies(poses), _cameras(poses)
    space = views.to_camera(joint_positions(around.body(), params))
    pixels = views.project_camera(space)
    passed = _near(stored.numbers("joints_2d", 2), pixels[:, :_JOINTS], tolerance)
    passed &= _near(stored.numbers("joints_cam_m", 3), space[:, :_JOINTS], check.args.get("tolerance_m", 1e-3))
    passed &= _near(stored.numbers("keypoints_2d", 2), pixels[:, _KEYPOINTS], tolerance)
    return spread(len(rows), usable, passed)


def joints_project(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`joints_2d` are `joints_cam_m` seen through the row's own focal length and principal point."""
    usable = usable_rows(rows, ("joints_2d", "joints_cam_m", "focal_px", "principal_px"))
    some = rows.take(usable)
    space = some.numbers("joints_cam_m", 3)
    depth = np.where(space[..., 2:] > 1e-6, space[..., 2:], np.nan)
    pixels = some.numbers("focal_px")[:, None, None] * space[..., :2] / depth + some.numbers("principal_px")[:, None]
    return spread(len(rows), usable, _near(some.numbers("joints_2d", 2), pixels, check.args.get("tolerance_px", 0.1)))


def _near(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    """Whether all points of each row lie within the tolerance; false for NaN: (n,)."""
    return np.all(np.abs(found - wanted) <= tolerance, axis=(1, 2))


def _cameras(rows: Rows) -> Cameras:
    return cameras(rows.table)


def visible_in_frame(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Whatever is marked visible lies inside the frame; `keypoints_in_frame`, where it is stored, says just that."""
    names = ("joints_2d", "joints_visible", "keypoints_2d", "keypoints_visible", "width", "height")
    usable = usable_rows(rows, names)
    some = rows.take(usable)
    size = np.stack([some.numbers("width"), some.numbers("height")], axis=1)[:, None]
    passed = np.ones(len(usable), bool)
    for name in ("joints", "keypoints"):
        points = some.numbers(f"{name}_2d", 2)
        inside = ((points >= 0) & (points < size)).all(-1)
        passed &= (inside | (some.numbers(f"{name}_visible") == 0)).all(1)
        if f"{name}_in_frame" in rows.table.column_names:
            passed &= (inside == (some.numbers(f"{name}_in_frame") == 1)).all(1)
    return spread(len(rows), usable, passed)


def joints_on_silhouette(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Every joint between pelvis and wrists that lies in the frame lies on the silhouette, or within `tolerance_px`.

    These joints are inside the body, so whether they are hidden does not matter. `mostly_joints` is the share of a
    row's joints that must: skin can shrink past a sharply bent joint.
    """
    verdicts: Verdicts = []
    radius, share = check.args.get("tolerance_px", 2.0), check.args.get("mostly_joints", 1.0)
    around_joint = _disc(radius)
    joints = rows.numbers("joints_2d", 2)[:, :_INNER_JOINTS]
    for points, picture in zip(joints, rows.pictures("silhouette"), strict=True):
        if picture is None or not np.isfinite(points).all():
            verdicts.append(None)
            continue
        last = np.array(picture.size) - 1
        points = points[((points >= 0) & (points <= last + 1)).all(1)].astype(int)
        column, row = np.moveaxis(np.clip(points[:, None] + around_joint, 0, last), -1, 0)
        near = (picture.pixels[row, column] > 0).any(1)
        verdicts.append(bool(near.mean() >= share) if len(points) else True)
    return verdicts


def _disc(radius: float) -> np.ndarray:
    """Offsets (k, 2) of the pixels within a radius."""
    reach = np.arange(-int(radius), int(radius) + 1)
    offsets = np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 2)
    return offsets[np.hypot(*offsets.T) <= radius]


def visibility_follows_depth(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """A joint is marked visible exactly when it is in the frame and the depth map has nothing clearly before it.

    Keypoints that are joints, all but those of the face, are marked as these joints are.
    """
    from posedreamer_assets.render.control import VISIBLE_MARGIN_M

    joints, depths = rows.numbers("joints_2d", 2), rows.numbers("joints_cam_m", 3)[..., 2] * _MILLIMETRES
    stored, keypoints = rows.numbers("joints_visible"), rows.numbers("keypoints_visible")
    usable = {*usable_rows(rows, ("joints_2d", "joints_cam_m", "joints_visible", "keypoints_visible")).tolist()}
    verdicts: Verdicts = []
    for index, picture in enumerate(rows.pictures("depth")):
        if picture is None or index not in usable:
            verdicts.append(None)
            continue
        points, z, visible = joints[index], depths[index], stored[index]
        alike = np.array_equal(keypoints[index, ~_OF_FACE], visible[COCO17_FROM_SMPLX[~_OF_FACE]])
        width, height = picture.size
        inside = ((points >= 0) & (points < (width, height))).all(1)
        column, row = np.clip(points.astype(int), 0, (width - 1, height - 1)).T
        surface = picture.pixels[row, column].astype(float)
        behind = np.where(surface == 0, -np.inf, z - surface - VISIBLE_MARGIN_M * _MILLIMETRES)
        clear = ~inside | (np.abs(behind) > _CLOSE_MM)
        verdicts.append(bool(alike and ((visible == 1) == (inside & (behind < 0)))[clear].all()))
    return verdicts

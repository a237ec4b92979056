"""Test sets in npz of plain arrays: HumanData, HMR2.0's evaluation files, 3DPW's sequences; and EHF's folder of meshes.

Pickles are never loaded. What public files keep in pickles is converted by one line of Python, see docs/students.md.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.errors import StudentError
from posedreamer_assets.poses.sources.npz import NpzArrays
from posedreamer_assets.students.labels import BODY_JOINTS
from posedreamer_assets.students.outside import Person, file_in, needs_finite, no_joints

_BOX_UNIT = 200.0  # pixels of a box of scale 1
# COCO's 17 among OpenPose's 25 points: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right.
_COCO_OF_25 = np.array([0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11])
# Limbs of the 19 further points: right ankle, knee, hip, left hip, knee, ankle, right wrist, elbow, shoulder, left ones.
_LIMBS_OF_COCO = np.arange(5, 17)
_LIMBS_OF_19 = np.array([9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0])
_LIMBS_OF_BODY = np.array([16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8])
_GROWN = 1.2  # a box about joints has no head, hands and feet
_BODY_PARTS = {
    "global_orient": 3, "body_pose": 63, "betas": 10, "transl": 3, "left_hand_pose": 45, "right_hand_pose": 45,
    "expression": 10, "leye_pose": 3, "reye_pose": 3, "jaw_pose": 3,
}  # fmt: skip
_EHF_IMAGE, _EHF_MESH = "_img", "_align"


def read_humandata(path: Path, images: Path) -> list[Person]:
    """HumanData with parameters as plain arrays `smplx/...` (or `smpl/...`), as `posedreamer export --no-pickle` writes it.

    Bodies are posed whole where the file says that hands are relative to the flat hand (`misc/flat_hand_mean`), and joints of
    `keypoints3d` are compared where not. `meta/focal_length` and `meta/principal_point` make the camera.

    Raises:
        StudentError, PoseFileError: an array that is missing, pickled, of another shape or not finite.
    """
    arrays = NpzArrays(path)
    names = arrays.text("image_path")
    count = len(names)
    for group in ("smplx", "smpl"):
        if arrays.is_pickled(group):
            raise StudentError(
                f"{path}: {group} is a pickled dictionary, and pickles are never loaded; docs/students.md has the line that "
                f"writes its arrays as {group}/global_orient and so on"
            )
    box = needs_finite(path, "bbox_xywh", arrays.numbers("bbox_xywh")).reshape(count, -1)[:, :4]
    params = _humandata_params(arrays, count)
    rotations = None if params is None else axis_angle_to_matrix(params.full_pose()[:, :BODY_JOINTS].astype(float))
    if params is None and "smpl/global_orient" in arrays:
        rotations = axis_angle_to_matrix(_smpl_pose(arrays, count))
    joints = _known(arrays, "keypoints3d", count, 4)
    points = _known(arrays, "keypoints2d", count, 3)
    cameras = _humandata_cameras(arrays, count)
    body = _whole_body(arrays) if params is not None else ""
    found = []
    for i, name in enumerate(names):
        seen = None if points is None else points[i, COCO17_FROM_SMPLX]
        found.append(
            Person(
                file_in(images, name),
                f"{name}#{i}",
                name,
                box[i],
                None if cameras is None else cameras[i],
                None if seen is None else np.nan_to_num(seen) + 0.5,
                None if seen is None else np.isfinite(seen).all(1),
                None if joints is None else joints[i, :BODY_JOINTS],
                None if rotations is None else rotations[i],
                None if params is None else params.take([i]),
                body=body,
            )
        )
    return found


def _humandata_params(arrays: NpzArrays, count: int) -> BodyParams | None:
    if "smplx/global_orient" not in arrays:
        return None
    columns = BodyParams.zeros(count).to_flat()
    for name, width in _BODY_PARTS.items():
        if f"smplx/{name}" in arrays:
            given = arrays.numbers(f"smplx/{name}").reshape(count, -1)[:, :width]
            columns[name] = needs_finite(arrays.path, f"smplx/{name}", given)
    return BodyParams.from_flat(columns)


def _smpl_pose(arrays: NpzArrays, count: int) -> Float[np.ndarray, "n 22 3"]:
    parts = [arrays.numbers(f"smpl/{name}").reshape(count, -1, 3) for name in ("global_orient", "body_pose")]
    return needs_finite(arrays.path, "smpl/body_pose", np.concatenate(parts, 1))[:, :BODY_JOINTS]


def _whole_body(arrays: NpzArrays) -> str:
    """Which body the parameters are of, where they can be posed whole."""
    flat = "misc/flat_hand_mean" in arrays and bool(arrays.raw("misc/flat_hand_mean"))
    genders = set(arrays.text("meta/gender")) if "meta/gender" in arrays else {"neutral"}
    if not flat or genders != {"neutral"}:
        return ""
    return arrays.word("misc/body_sha256") or "smplx"


def _known(arrays: NpzArrays, key: str, count: int, width: int) -> Float[np.ndarray, "n 190 w"] | None:
    """Points of HUMAN_DATA's convention without their confidence; NaN where there is none, or no mask."""
    if key not in arrays:
        return None
    values, mask = arrays.numbers(key), arrays.numbers(f"{key}_mask").ravel() > 0
    if values.shape == (count, int(mask.sum()), width):  # compressed by its mask
        whole = np.zeros((count, len(mask), width))
        whole[:, mask] = values
        values = whole
    if values.shape != (count, len(mask), width):
        raise StudentError(f"{arrays.path}: {key} is {values.shape}, expected ({count}, {len(mask)}, {width})")
    return np.where((values[..., -1:] > 0) & mask[:, None], values[..., :-1], np.nan)


def _humandata_cameras(arrays: NpzArrays, count: int) -> Float[np.ndarray, "n 3 3"] | None:
    keys = ("meta/focal_length", "meta/principal_point")
    if not all(key in arrays and not arrays.is_pickled(key) for key in keys):
        return None
    focal, centre = (
        np.broadcast_to(needs_finite(arrays.path, key, arrays.numbers(key)).reshape(-1, 2), (count, 2)) for key in keys
    )
    found = np.tile(np.eye(3), (count, 1, 1))
    found[:, [0, 1], [0, 1]] = focal
    found[:, :2, 2] = centre + 0.5  # its pixels count from the middle of the first
    return found


def read_hmr2(path: Path, images: Path) -> list[Person]:
    """An evaluation file of HMR2.0: `imgname`, `center`, `scale`, and of keypoints and SMPL what it has.

    `body_keypoints_2d` (n, 25, 3) are OpenPose's, `extra_keypoints_2d` (n, 19, 3) fill in limbs that are not there;
    `body_keypoints_3d` and `extra_keypoints_3d` have 4 columns. `body_pose` (n, 72) with `has_body_pose` is SMPL's.

    Raises:
        StudentError, PoseFileError: an array that is missing, pickled, of another shape or not finite.
    """
    arrays = NpzArrays(path)
    names = arrays.text("imgname")
    count = len(names)
    centre = needs_finite(path, "center", arrays.rows("center", 2, count))
    scale = needs_finite(path, "scale", arrays.numbers("scale")).reshape(count, -1)
    size = _BOX_UNIT * np.broadcast_to(scale, (count, 2))
    pixels, space = (_limbs_and_face(arrays, f"keypoints_{n}d", count, n + 1) for n in (2, 3))
    rotations, fitted = None, np.zeros(count, bool)
    if "body_pose" in arrays:
        pose = needs_finite(path, "body_pose", arrays.rows("body_pose", 72, count))
        rotations = axis_angle_to_matrix(pose.reshape(count, 24, 3)[:, :BODY_JOINTS])
        fitted = arrays.numbers("has_body_pose").ravel() > 0 if "has_body_pose" in arrays else np.ones(count, bool)
    found = []
    for i, name in enumerate(names):
        joints = no_joints()
        if space is not None:
            joints[_LIMBS_OF_BODY] = space[i, _LIMBS_OF_COCO]
        seen = None if pixels is None else pixels[i]
        found.append(
            Person(
                file_in(images, name),
                f"{name}#{i}",
                name,
                np.concatenate([centre[i] + 0.5 - size[i] / 2, size[i]]),
                keypoints=None if seen is None else np.nan_to_num(seen) + 0.5,
                labelled=None if seen is None else np.isfinite(seen).all(1),
                joints_m=joints if np.isfinite(joints).any() else None,
                rotations=rotations[i] if rotations is not None and fitted[i] else None,
            )
        )
    return found


def _limbs_and_face(arrays: NpzArrays, name: str, count: int, width: int) -> Float[np.ndarray, "n 17 w"] | None:
    """COCO's 17 points; NaN where confidence is zero."""
    body, extra = (f"{part}_{name}" for part in ("body", "extra"))
    if body not in arrays and extra not in arrays:
        return None
    found = np.full((count, 17, width - 1), np.nan)
    for key, points, places, of in (
        (extra, 19, _LIMBS_OF_COCO, _LIMBS_OF_19),
        (body, 25, np.arange(17), _COCO_OF_25),
    ):
        if key in arrays:
            values = arrays.numbers(key)
            if values.shape != (count, points, width):
                raise StudentError(f"{arrays.path}: {key} is {values.shape}, expected ({count}, {points}, {width})")
            own = values[:, of]
            found[:, places] = np.where(own[..., -1:] > 0, own[..., :-1], found[:, places])
    return found


def read_3dpw(path: Path, images: Path) -> list[Person]:
    """Sequences of 3DPW, one npz each, as the line in docs/students.md writes them from the set's pickles.

    `sequence`, `cam_intrinsics` (3, 3), `cam_poses` (f, 4, 4), `campose_valid` (p, f), `poses` (p, f, 72) of SMPL and
    `jointPositions` (p, f, 72), both in the world. Images are `<sequence>/image_<frame>.jpg`. The box is that of the joints.

    Args:
        path: a file, or a folder of them.
        images: the set's folder imageFiles.

    Raises:
        StudentError, PoseFileError: a pickle, or an array that is missing, of another shape or not finite.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.npz"))
        if not files:
            pickles = len(list(path.rglob("*.pkl")))
            raise StudentError(
                f"{path}: no npz; {pickles} pickles, which are never loaded: docs/students.md has the line that converts them"
            )
        return [person for file in files for person in read_3dpw(file, images)]
    arrays = NpzArrays(path)
    sequence = arrays.text("sequence")[0]
    matrix, before = arrays.numbers("cam_intrinsics"), arrays.numbers("cam_poses")
    poses, joints = arrays.numbers("poses"), arrays.numbers("jointPositions")
    people, frames = poses.shape[:2]
    shapes = {"cam_intrinsics": (3, 3), "cam_poses": (frames, 4, 4), "poses": (people, frames, 72)}
    shapes |= {"jointPositions": (people, frames, 72), "campose_valid": (people, frames)}
    valid = arrays.raw("campose_valid").astype(bool)
    for name, shape in shapes.items():
        if arrays.raw(name).shape != shape:
            raise StudentError(f"{path}: {name} is {arrays.raw(name).shape}, expected {shape}")
    for name, values in (("cam_poses", before), ("poses", poses), ("jointPositions", joints)):
        needs_finite(path, name, values)
    matrix = matrix + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    found = []
    for person, frame in zip(*np.nonzero(valid), strict=True):
        turn, shift = before[frame, :3, :3], before[frame, :3, 3]
        placed = joints[person, frame].reshape(24, 3) @ turn.T + shift
        if (placed[:, 2] <= 0.1).any():
            continue  # behind the camera: nothing of it is in the image
        rotations = axis_angle_to_matrix(poses[person, frame].reshape(24, 3)[:BODY_JOINTS])
        rotations[0] = turn @ rotations[0]
        pixels = placed @ matrix.T
        name = f"{sequence}/image_{frame:05d}.jpg"
        box = _box_about(pixels[:, :2] / pixels[:, 2:])
        found.append(
            Person(
                images / name,
                f"{name}#{person}",
                sequence,
                box,
                matrix,
                joints_m=placed[:BODY_JOINTS],
                rotations=rotations,
            )
        )
    return found


def _box_about(pixels: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "4"]:
    low, size = pixels.min(0), np.ptp(pixels, axis=0)
    grown = size * _GROWN
    return np.concatenate([low - (grown - size) / 2, grown])


def read_ehf(path: Path, camera: Path, vertices: int) -> list[Person]:
    """The user's own EHF: images `NN_img`, and meshes `NN_align.ply` of SMPL-X's topology.

    Args:
        path: its folder.
        camera: JSON with `intrinsics` (3, 3), `rotation` (axis-angle or 3 x 3) and `translation` (metres) from the meshes' world
            to the camera, which the set's own documents state.
        vertices: of the home's body.

    Raises:
        StudentError: no meshes, a mesh of another body, a camera that is none, or an image that is missing.
    """
    import trimesh

    matrix, turn, shift = _ehf_camera(camera)
    found = []
    for mesh in sorted(path.glob(f"*{_EHF_MESH}.ply")):
        try:
            points = np.asarray(trimesh.load(mesh, process=False).vertices, float)  # pyright: ignore[reportAttributeAccessIssue]
        except (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            raise StudentError(f"{mesh}: no readable ply: {error!r}") from error
        if len(points) != vertices:
            raise StudentError(
                f"{mesh}: {len(points)} vertices, and the body of this home has {vertices}: vertices of two bodies are not "
                "compared; set body.model_path to the licensed SMPL-X file"
            )
        name = mesh.name.removesuffix(f"{_EHF_MESH}.ply")
        pictures = sorted(path.glob(f"{name}{_EHF_IMAGE}.*"))
        if not pictures:
            raise StudentError(f"{mesh}: no image {name}{_EHF_IMAGE} beside it")
        placed = needs_finite(mesh, "vertices", points) @ turn.T + shift
        pixels = placed @ matrix.T
        xy = pixels[:, :2] / pixels[:, 2:]
        box = np.concatenate([xy.min(0), np.ptp(xy, axis=0)])
        found.append(Person(pictures[0], pictures[0].name, "ehf", box, matrix, vertices_m=placed))
    if not found:
        raise StudentError(f"{path}: no meshes named NN{_EHF_MESH}.ply")
    return found


def _ehf_camera(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        page = json.loads(path.read_bytes())
        matrix, turn, shift = (np.asarray(page[k], float) for k in ("intrinsics", "rotation", "translation"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudentError(f"{path}: expected a JSON with intrinsics, rotation and translation: {error!r}") from error
    if turn.shape == (3,):
        turn = axis_angle_to_matrix(turn[None])[0]
    if (matrix.shape, turn.shape, shift.shape) != ((3, 3), (3, 3), (3,)):
        raise StudentError(
            f"{path}: intrinsics, rotation and translation are {matrix.shape}, {turn.shape}, {shift.shape}"
        )
    return matrix, turn, shift


BY_IMAGES: dict[str, Callable[[Path, Path], list[Person]]] = {
    "humandata": read_humandata,
    "hmr2": read_hmr2,
    "3dpw": read_3dpw,
}
"""Readers that need the folder of images and nothing more, by kind."""

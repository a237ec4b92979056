"""Test sets in JSON: COCO keypoints, EFT's fits, NeuralAnnot's parameters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.errors import StudentError
from posedreamer_assets.students.labels import BODY_JOINTS
from posedreamer_assets.students.outside import Person, file_in, needs_finite

_EFT_UNIT = 200.0  # pixels that a box of scale 1 is wide


def read_coco(path: Path, images: Path) -> list[Person]:
    """Everybody who has a keypoint and is no crowd; 2D alone.

    Raises:
        StudentError: no COCO keypoints JSON, or an annotation that lacks something, by its id.
    """
    page = _page(path)
    files = _files(path, page)
    found = []
    for entry in _listed(path, page, "annotations"):
        numbers = entry.get("keypoints") or []
        if entry.get("iscrowd") or not any(numbers[2::3]):
            continue
        name = f"annotation {entry.get('id')}"
        keypoints = _numbers(path, name, entry, "keypoints", 51).reshape(17, 3)
        if (picture := files.get(entry.get("image_id"))) is None:
            raise StudentError(f"{path}: {name}: image_id {entry.get('image_id')!r} is not among the images")
        labelled = keypoints[:, 2] > 0
        # COCO counts pixels from the middle of the first.
        pixels = np.where(labelled[:, None], keypoints[:, :2] + 0.5, 0.0)
        box = _numbers(path, name, entry, "bbox", 4)
        found.append(
            Person(
                file_in(images, picture), f"{picture}#{entry['id']}", picture, box, keypoints=pixels, labelled=labelled
            )
        )
    return found


def read_eft(path: Path, images: Path) -> list[Person]:
    """SMPL rotations of EFT's fits in the frame of their crop, whose camera is a weak-perspective one.

    An entry has `imageName`, `bbox_center`, `bbox_scale` (box of 200 scale pixels), `parm_pose` (24 rotation matrices) and
    `parm_shape`. Joints need SMPL's own file, which is not read: angles alone are compared.

    Raises:
        StudentError: no such JSON, or an entry that lacks something, by its number.
    """
    found = []
    for i, entry in enumerate(_listed(path, _page(path), "data")):
        name = f"entry {i}"
        pose = _numbers(path, name, entry, "parm_pose", 24 * 9).reshape(24, 3, 3)
        _need_rotations(path, name, pose)
        x, y = _numbers(path, name, entry, "bbox_center", 2)
        side = _EFT_UNIT * _numbers(path, name, entry, "bbox_scale", 1)[0]
        picture = str(entry.get("imageName") or "")
        if not picture:
            raise StudentError(f"{path}: {name}: imageName is missing")
        box = np.array([x - side / 2, y - side / 2, side, side])
        file = file_in(images, picture)
        found.append(Person(file, f"{picture}#{i}", picture, box, rotations=pose[:BODY_JOINTS]))
    return found


def read_neuralannot(path: Path, annotations: Path, images: Path) -> list[Person]:
    """SMPL or SMPL-X parameters by the id of a COCO annotation, with a camera of focal length and principal point.

    `{"<id>": {"smplx_param": {root_pose, body_pose, shape, trans, ...}, "cam_param": {focal, princpt}}}`, or `smpl_param` with
    `pose` (72). Hands are not read, because what they are relative to is not written in the file.

    Raises:
        StudentError: one of the two is no such JSON, or an entry that lacks something, by its id.
    """
    by_name = {one.name.rpartition("#")[2]: one for one in read_coco(annotations, images)}
    page = _page(path)
    found = []
    for key, entry in page.items():
        person, name = by_name.get(str(key)), f"annotation {key}"
        if person is None or entry is None:
            continue  # a crowd, or somebody without a keypoint or a fit
        camera = _section(path, name, entry, "cam_param")
        focal = _numbers(path, f"{name}: cam_param", camera, "focal", 2)
        centre = _numbers(path, f"{name}: cam_param", camera, "princpt", 2)
        pose, betas = _neural_pose(path, name, entry)
        params = None
        if betas is not None:
            rows = pose[None].astype(np.float32)
            params = BodyParams.zeros(1).replace(
                global_orient=rows[:, 0], body_pose=rows[:, 1:], betas=betas[None].astype(np.float32)
            )
        # Its principal point counts from the middle of the first pixel.
        matrix = np.array([[focal[0], 0, centre[0] + 0.5], [0, focal[1], centre[1] + 0.5], [0, 0, 1.0]])
        found.append(
            Person(
                person.picture,
                person.name,
                person.group,
                person.box,
                matrix,
                person.keypoints,
                person.labelled,
                rotations=axis_angle_to_matrix(pose),
                params=params,
            )
        )
    if not found:
        raise StudentError(f"{path}: no entry has the id of an annotated person of {annotations}")
    return found


def _neural_pose(
    path: Path, name: str, entry: Mapping[str, Any]
) -> tuple[Float[np.ndarray, "22 3"], Float[np.ndarray, "10"] | None]:
    """Axis-angle of 22 joints; shape where it is SMPL-X's."""
    if "smplx_param" in entry:
        own, name = _section(path, name, entry, "smplx_param"), f"{name}: smplx_param"
        root, body = (_numbers(path, name, own, key, n) for key, n in (("root_pose", 3), ("body_pose", 63)))
        return np.concatenate([root, body]).reshape(-1, 3), _numbers(path, name, own, "shape", 10)
    own = _section(path, name, entry, "smpl_param")
    return _numbers(path, f"{name}: smpl_param", own, "pose", 72).reshape(-1, 3)[:BODY_JOINTS], None


def _page(path: Path) -> dict[str, Any]:
    try:
        page = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StudentError(f"{path}: no readable JSON: {error}") from error
    if not isinstance(page, dict):
        raise StudentError(f"{path}: expected a JSON object, found {type(page).__name__}")
    return page


def _listed(path: Path, page: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = page.get(key)
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise StudentError(f"{path}: expected a list of objects under {key!r}")
    return entries


def _files(path: Path, page: Mapping[str, Any]) -> dict[Any, str]:
    """Name of each image by its id."""
    listed = _listed(path, page, "images")
    if bad := [one for one in listed if "id" not in one or not isinstance(one.get("file_name"), str)]:
        raise StudentError(f"{path}: images: expected id and file_name, found {sorted(bad[0])}")
    return {one["id"]: one["file_name"] for one in listed}


def _section(path: Path, name: str, entry: Any, key: str) -> Mapping[str, Any]:
    found = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(found, dict):
        raise StudentError(f"{path}: {name}: expected an object {key!r}")
    return found


def _numbers(path: Path, name: str, entry: Mapping[str, Any], key: str, count: int) -> Float[np.ndarray, "n"]:
    try:
        found = np.asarray(entry[key], float).ravel()
    except (KeyError, TypeError, ValueError) as error:
        raise StudentError(f"{path}: {name}: {key}: expected {count} numbers: {error!r}") from error
    if found.size != count:
        raise StudentError(f"{path}: {name}: {key} holds {found.size} values, expected {count}")
    return needs_finite(path, f"{name}: {key}", found)


def _need_rotations(path: Path, name: str, matrices: Float[np.ndarray, "j 3 3"]) -> None:
    off = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max()
    if off > 0.01 or (np.linalg.det(matrices) < 0).any():
        raise StudentError(f"{path}: {name}: parm_pose holds matrices that are no rotations")

"""Users' test sets: each kind of file is read with its truth, each crop keeps labels exact, and each bad file is named."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.errors import PoseFileError, StudentError
from posedreamer_assets.students.outside import Person, crop_about, picture_of, turned
from posedreamer_assets.students.outside_arrays import read_3dpw, read_ehf, read_hmr2, read_humandata
from posedreamer_assets.students.outside_json import read_coco, read_eft, read_neuralannot
from posedreamer_assets_tests.students.outside_files import (
    MATRIX,
    coco_set,
    draw,
    humandata_set,
    params_of,
    pixels_of,
)

BODY = load_body(None)
BOX = np.array([250.0, 60, 70, 180])


def test_what_the_turned_camera_sees_is_what_the_homography_gives() -> None:
    crop = crop_about(BOX, MATRIX, 128, 128)
    points = np.random.default_rng(0).normal([0.6, 0.1, 4], 0.3, (50, 3))
    seen = points @ crop.turn.T
    pixels = crop.focal_px * seen[:, :2] / seen[:, 2:] + 64
    assert np.allclose(crop.points(pixels_of(points)), pixels, atol=1e-9)
    assert np.allclose(crop.turn @ crop.turn.T, np.eye(3)) and np.linalg.det(crop.turn) > 0
    assert np.allclose(crop.points((BOX[:2] + BOX[2:] / 2)[None]), 64), "the box's middle is the crop's"


@pytest.mark.parametrize("matrix", [None, MATRIX])
def test_dots_of_the_image_are_where_their_keypoints_are_in_the_crop(tmp_path: Path, matrix: np.ndarray | None) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    dots = np.array([[262.0, 80], [300, 150], [280, 225]])
    draw(tmp_path / "a.png", dots, colours)
    crop = crop_about(BOX, matrix, 128, 96)
    picture = picture_of(tmp_path / "a.png", crop, 128, 96).astype(float)
    for pixel, channel in zip(crop.points(dots), range(3), strict=True):
        weight = np.clip(picture[..., channel] - picture[..., [c for c in range(3) if c != channel]].max(-1), 0, None)
        y, x = (np.indices(weight.shape) + 0.5).reshape(2, -1) @ weight.ravel() / weight.sum()
        assert np.hypot(x - pixel[0], y - pixel[1]) < 0.35
    assert crop.box(BOX)[2:].max() / 96 == pytest.approx(1 / 1.2, rel=0.08)


def test_large_images_are_averaged_not_sampled(tmp_path: Path) -> None:
    fine = np.zeros((600, 800, 3), np.uint8)
    fine[:, ::2] = 255
    Image.fromarray(fine).save(tmp_path / "fine.png")
    crop = crop_about(np.array([100.0, 50, 500, 500]), None, 64, 64)
    inner = picture_of(tmp_path / "fine.png", crop, 64, 64)[16:48, 16:48]
    assert np.abs(inner.astype(int) - 127).max() <= 40


def test_coco_is_read_with_its_half_pixel_and_without_crowds(tmp_path: Path) -> None:
    path = coco_set(tmp_path)
    found = read_coco(path, tmp_path / "images")
    assert [one.name for one in found] == ["0.png#0", "1.png#1", "2.png#2"]
    truth = pixels_of(BODY.joints(params_of(1))[0, COCO17_FROM_SMPLX])
    assert found[1].keypoints is not None and np.allclose(found[1].keypoints, truth, atol=1e-4)
    assert found[1].joints_m is None and found[1].intrinsics is None


def test_humandata_of_plain_arrays_is_read_whole(tmp_path: Path) -> None:
    found = read_humandata(humandata_set(tmp_path, "abc"), tmp_path / "images")
    one, truth = found[1], params_of(1)
    assert one.body == "abc" and one.params is not None and one.intrinsics is not None
    assert np.allclose(one.params.body_pose, truth.body_pose) and np.allclose(one.intrinsics, MATRIX)
    assert one.joints_m is not None and np.allclose(one.joints_m, BODY.joints(truth)[0, :22], atol=1e-5)
    assert one.rotations is not None
    assert np.allclose(one.rotations[0], Rotation.from_rotvec(truth.global_orient[0]).as_matrix(), atol=1e-6)
    said = humandata_set(tmp_path, "abc", **{"misc/flat_hand_mean": np.array(False)})  # type: ignore[arg-type]
    mean_hands = read_humandata(said, tmp_path / "images")
    assert mean_hands[0].body == "", "not posed whole: nobody says what its hands are relative to"


def test_compressed_humandata_is_the_same(tmp_path: Path) -> None:
    plain = read_humandata(humandata_set(tmp_path, "abc"), tmp_path)
    points = np.load(tmp_path / "humandata.npz")["keypoints3d"][:, :76]
    packed = read_humandata(humandata_set(tmp_path, "abc", keypoints3d=points), tmp_path)
    assert plain[0].joints_m is not None and packed[0].joints_m is not None
    assert np.array_equal(plain[0].joints_m, packed[0].joints_m)


def hmr2_arrays() -> dict[str, Any]:
    joints = BODY.joints(params_of(0))[0]
    of_25 = np.array([55, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65])
    pixels = np.concatenate([pixels_of(joints[of_25]) - 0.5, np.ones((25, 1))], 1)
    space = np.concatenate([joints[of_25], np.ones((25, 1))], 1)
    pixels[4, 2] = space[4, 3] = 0  # the right wrist, which the further points have
    extra = np.zeros((19, 3))
    extra[6] = [*(pixels_of(joints[21]) - 0.5), 1]
    pose = np.zeros(72)
    pose[:66] = np.concatenate([params_of(0).global_orient[0], params_of(0).body_pose[0].ravel()])
    return {
        "imgname": np.array(["0.png"]),
        "center": np.array([[200.0, 150]]),
        "scale": np.array([1.0]),
        "body_keypoints_2d": pixels[None],
        "extra_keypoints_2d": extra[None],
        "body_keypoints_3d": space[None],
        "body_pose": pose[None],
        "has_body_pose": np.ones(1),
    }


def test_hmr2_is_read_by_names_of_joints(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **hmr2_arrays())
    (one,) = read_hmr2(tmp_path / "a.npz", tmp_path)
    joints = BODY.joints(params_of(0))[0]
    assert one.keypoints is not None and one.labelled is not None and one.labelled.all()
    assert np.allclose(one.keypoints, pixels_of(joints[COCO17_FROM_SMPLX]), atol=1e-4)
    assert one.joints_m is not None
    known = np.isfinite(one.joints_m).all(1)
    limbs = {1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20}
    assert set(np.flatnonzero(known)) == limbs and np.allclose(one.joints_m[known], joints[:22][known], atol=1e-6)
    assert np.allclose(one.box, [100.5, 50.5, 200, 200])
    assert one.rotations is not None and one.rotations.shape == (22, 3, 3)


def sequence_arrays() -> dict[str, Any]:
    """Two people in two frames, of whom the second is not valid in the second frame; the world is turned."""
    turn = Rotation.from_rotvec([0.3, -0.4, 1.0]).as_matrix()
    before = np.tile(np.eye(4), (2, 1, 1))
    before[:, :3, :3], before[:, :3, 3] = turn, [0.1, 0.2, 0.3]
    poses, joints = np.zeros((2, 2, 72)), np.zeros((2, 2, 24, 3))
    for person in range(2):
        params = params_of(person)
        in_camera = BODY.joints(params)[0, :24]
        joints[person] = (in_camera - before[0, :3, 3]) @ turn
        root = turn.T @ Rotation.from_rotvec(params.global_orient[0]).as_matrix()
        poses[person, :, :3] = Rotation.from_matrix(root).as_rotvec()
        poses[person, :, 3:66] = params.body_pose[0].ravel()
    return {
        "sequence": np.array("walk"),
        "cam_intrinsics": MATRIX,
        "cam_poses": before,
        "campose_valid": np.array([[1, 1], [1, 0]]),
        "poses": poses,
        "jointPositions": joints.reshape(2, 2, 72),
    }


def test_3dpw_is_moved_to_its_camera(tmp_path: Path) -> None:
    np.savez(tmp_path / "walk.npz", **sequence_arrays())
    found = read_3dpw(tmp_path, tmp_path / "imageFiles")
    assert sorted(one.name for one in found) == [
        "walk/image_00000.jpg#0",
        "walk/image_00000.jpg#1",
        "walk/image_00001.jpg#0",
    ]
    other = next(one for one in found if one.name.endswith("#1"))
    assert other.joints_m is not None and other.rotations is not None
    assert np.allclose(other.joints_m, BODY.joints(params_of(1))[0, :22], atol=1e-5)
    assert np.allclose(other.rotations[0], axis_angle_to_matrix(params_of(1).global_orient)[0], atol=1e-5)
    assert other.group == "walk"


def test_eft_gives_rotations_and_a_box(tmp_path: Path) -> None:
    pose = Rotation.random(24, rng=np.random.default_rng(0)).as_matrix()
    entry = {"imageName": "COCO/0.png", "bbox_center": [100, 90], "bbox_scale": 0.5, "parm_pose": pose.tolist()}
    (tmp_path / "eft.json").write_text(json.dumps({"ver": 0.1, "data": [entry]}))
    draw(tmp_path / "0.png", np.zeros((0, 2)), [])
    (one,) = read_eft(tmp_path / "eft.json", tmp_path)
    assert one.rotations is not None and np.allclose(one.rotations, pose[:22])
    assert np.allclose(one.box, [50, 40, 100, 100]) and one.picture == tmp_path / "0.png"
    mirrored = {**entry, "parm_pose": (pose * [1, 1, -1]).tolist()}
    (tmp_path / "eft.json").write_text(json.dumps({"data": [mirrored]}))
    with pytest.raises(StudentError, match="entry 0: parm_pose holds matrices that are no rotations"):
        read_eft(tmp_path / "eft.json", tmp_path)


@pytest.mark.parametrize("kind", ["smplx_param", "smpl_param"])
def test_neuralannot_is_joined_to_coco_by_id(tmp_path: Path, kind: str) -> None:
    annotations = coco_set(tmp_path)
    own = params_of(1)
    root, pose = own.global_orient[0].tolist(), own.body_pose[0].ravel().tolist()
    wholes: dict[str, Any] = {
        "smplx_param": {"root_pose": root, "body_pose": pose, "shape": own.betas[0].tolist()},
        "smpl_param": {"pose": [*root, *pose, *[0.0] * 6]},
    }
    entry = {kind: wholes[kind], "cam_param": {"focal": [520, 500], "princpt": [189.5, 159.5]}}
    (tmp_path / "fits.json").write_text(json.dumps({"1": entry, "99": entry}))
    (one,) = read_neuralannot(tmp_path / "fits.json", annotations, tmp_path / "images")
    assert one.name == "1.png#1" and one.intrinsics is not None and np.allclose(one.intrinsics, MATRIX)
    assert one.rotations is not None
    assert np.allclose(one.rotations[1:], axis_angle_to_matrix(own.body_pose.astype(float))[0], atol=1e-6)
    assert (one.params is not None) == (kind == "smplx_param") and one.keypoints is not None


def ehf_set(folder: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    """One mesh in a turned world, its image, and the camera that sees it where MATRIX does."""
    turn = Rotation.from_rotvec([0.2, 0.1, -0.3]).as_matrix()
    world = (vertices - [0.1, 0, 0.2]) @ turn
    trimesh.Trimesh(world, faces, process=False).export(folder / "01_align.ply")
    draw(folder / "01_img.png", np.zeros((0, 2)), [])
    rotation = Rotation.from_matrix(turn).as_rotvec().tolist()
    camera = {"intrinsics": MATRIX.tolist(), "rotation": rotation, "translation": [0.1, 0, 0.2]}
    (folder / "camera.json").write_text(json.dumps(camera))
    return folder / "camera.json"


def test_ehf_is_its_mesh_before_its_camera(tmp_path: Path) -> None:
    truth = BODY.forward(params_of(0)).vertices[0]
    camera = ehf_set(tmp_path, truth, BODY.faces)
    (one,) = read_ehf(tmp_path, camera, len(truth))
    assert one.vertices_m is not None and np.allclose(one.vertices_m, truth, atol=1e-5)
    with pytest.raises(StudentError, match=r"01_align.ply: 13718 vertices, and the body of this home has 10475"):
        read_ehf(tmp_path, camera, 10475)
    (tmp_path / "01_img.png").unlink()
    with pytest.raises(StudentError, match="no image 01_img beside it"):
        read_ehf(tmp_path, camera, len(truth))


def saved(folder: Path, arrays: dict[str, Any], **changed: Any) -> Path:
    whole = {**arrays, **changed}
    np.savez(folder / "bad.npz", **{k: v for k, v in whole.items() if v is not None})
    return folder / "bad.npz"


BAD_ARRAYS = {
    "no names": (read_hmr2, hmr2_arrays, {"imgname": None}, "no array 'imgname'"),
    "a box of nothing": (
        read_hmr2,
        hmr2_arrays,
        {"center": np.full((1, 2), np.nan)},
        "center: values that are not finite",
    ),
    "other points": (read_hmr2, hmr2_arrays, {"body_keypoints_2d": np.zeros((1, 17, 3))}, "expected \\(1, 25, 3\\)"),
    "pickled poses": (read_hmr2, hmr2_arrays, {"body_pose": np.array([{}])}, "pickle"),
    "a camera per nobody": (
        read_3dpw,
        sequence_arrays,
        {"cam_poses": np.zeros((3, 4, 4))},
        "cam_poses is \\(3, 4, 4\\)",
    ),
    "joints that are lost": (
        read_3dpw,
        sequence_arrays,
        {"jointPositions": np.full((2, 2, 72), np.nan)},
        "jointPositions: values that are not finite",
    ),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_a_bad_file_of_arrays_is_named(tmp_path: Path, name: str) -> None:
    reader, arrays, changed, words = BAD_ARRAYS[name]
    path = saved(tmp_path, arrays(), **changed)
    with pytest.raises((StudentError, PoseFileError), match=words) as found:
        reader(path, tmp_path)
    assert str(path) in str(found.value)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "walk.pkl").write_bytes(pickle.dumps({"poses": 1}))
    with pytest.raises(StudentError, match="1 pickles, which are never loaded"):
        read_3dpw(tmp_path, tmp_path)
    with pytest.raises(PoseFileError, match="pickle"):
        read_3dpw(tmp_path / "walk.pkl", tmp_path)
    nested = {"image_path": np.array(["a.png"]), "smplx": np.array({"global_orient": np.zeros((1, 3))})}
    with pytest.raises(StudentError, match="smplx is a pickled dictionary"):
        read_humandata(saved(tmp_path, nested), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda page: page.pop("images"), "expected a list of objects under 'images'"),
        (lambda page: page["annotations"][0].update(keypoints=[1, 2, 2]), "annotation 0: keypoints holds 3 values"),
        (lambda page: page["annotations"][0].update(image_id=77), "image_id 77 is not among the images"),
        (lambda page: page["annotations"][1].update(bbox=[1, 2, None, 4]), "annotation 1: bbox"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, change: Any, words: str) -> None:
    path = coco_set(tmp_path)
    page = json.loads(path.read_text())
    change(page)
    path.write_text(json.dumps(page))
    with pytest.raises(StudentError, match=words):
        read_coco(path, tmp_path / "images")
    path.write_text("[")
    with pytest.raises(StudentError, match="no readable JSON"):
        read_coco(path, tmp_path / "images")


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not an image")
    with pytest.raises(StudentError, match=r"a\.jpg: cannot be read as an image"):
        picture_of(tmp_path / "a.jpg", crop_about(BOX, None, 64, 64), 64, 64)


def test_labels_are_turned_with_the_crop() -> None:
    crop = crop_about(BOX, MATRIX, 128, 128)
    joints = BODY.joints(params_of(0))[0, :22].astype(float)
    rotations = Rotation.random(22, rng=np.random.default_rng(1)).as_matrix()
    one = Person(Path("a.png"), "a", "a", BOX, MATRIX, joints_m=joints, rotations=rotations)
    moved = turned(one, crop)
    assert moved.joints_m is not None and moved.rotations is not None
    assert np.allclose(moved.joints_m, joints @ crop.turn.T)
    assert np.allclose(moved.rotations[0], crop.turn @ rotations[0]) and np.array_equal(
        moved.rotations[1:], rotations[1:]
    )

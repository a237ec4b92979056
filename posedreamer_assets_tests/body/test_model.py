"""The body model: against smplx, against a naive loop, and against broken files."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.free_body import joint_regressor_error_mm
from posedreamer_assets.body.joints import (
    COCO17,
    COCO17_FROM_SMPLX,
    COCO17_MIRROR,
    JOINT_INDEX,
    JOINT_MIRROR,
    JOINT_NAMES,
    LANDMARK_VERTICES,
    OUTPUT_JOINT_NAMES,
    PARENTS,
)
from posedreamer_assets.body.model import FREE_BODY_PATH, BodyModel, load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.errors import BodyModelError


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


def random_params(n: int, seed: int = 0, scale: float = 0.3) -> BodyParams:
    rng = np.random.default_rng(seed)
    zeros = BodyParams.zeros(n)
    return zeros.replace(
        **{k: rng.normal(0, scale, getattr(zeros, k).shape).astype(np.float32) for k in zeros.to_flat()}
    )


def test_forward_agrees_with_stock_smplx(body: BodyModel, tmp_path: Path) -> None:
    smplx = pytest.importorskip("smplx")
    torch = pytest.importorskip("torch")
    (tmp_path / "smplx").mkdir()
    (tmp_path / "smplx" / "SMPLX_NEUTRAL.npz").write_bytes(FREE_BODY_PATH.read_bytes())
    params = random_params(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = smplx.create(
            str(tmp_path),
            "smplx",
            use_pca=False,
            flat_hand_mean=True,
            num_betas=10,
            num_expression_coeffs=10,
            batch_size=3,
        )
        with torch.no_grad():
            expected = stock(**{k: torch.tensor(v) for k, v in params.to_flat().items()})
    ours = body.forward(params)
    np.testing.assert_allclose(ours.vertices, expected.vertices.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.joints, expected.joints.numpy()[:, :76], atol=1e-5)


def test_landmark_ids_are_those_of_stock_smplx() -> None:
    ids = pytest.importorskip("smplx.vertex_ids").vertex_ids["smplx"]
    names = {"nose": "nose", "reye": "right_eye", "leye": "left_eye", "rear": "right_ear", "lear": "left_ear"}
    names |= {"LBigToe": "left_big_toe", "LSmallToe": "left_small_toe", "LHeel": "left_heel"}
    names |= {"RBigToe": "right_big_toe", "RSmallToe": "right_small_toe", "RHeel": "right_heel"}
    for side, word in (("l", "left"), ("r", "right")):
        names |= {f"{side}{f}": f"{word}_{f}" for f in ("thumb", "index", "middle", "ring", "pinky")}
    assert {names[k]: v for k, v in ids.items()} == LANDMARK_VERTICES


def test_pose_blend_shapes_are_applied(body: BodyModel) -> None:
    """With pose blend shapes, vertices equal a naive per-vertex skinning loop."""
    rng = np.random.default_rng(1)
    posed = BodyModel(
        **{
            **{
                f: getattr(body, f)
                for f in ("name", "v_template", "shapedirs", "exprdirs", "J_regressor", "weights", "faces")
            },
            "posedirs": rng.normal(0, 1e-3, (486, body.v_template.size)).astype(np.float32),
        }
    )
    params = random_params(1, seed=2)
    rotations = axis_angle_to_matrix(params.full_pose())[0].astype(np.float64)
    shaped = body.v_template + body.shapedirs @ params.betas[0] + body.exprdirs @ params.expression[0]
    joints = body.J_regressor @ shaped
    feature = (rotations[1:] - np.eye(3)).reshape(-1)
    transforms = []
    for j in range(55):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] - (joints[PARENTS[j]] if j else 0)
        transforms.append(local if j == 0 else transforms[PARENTS[j]] @ local)
    assert posed.posedirs is not None
    for vertex in (0, 9120, 5000, 13000):
        point = shaped[vertex] + (feature @ posed.posedirs[:, 3 * vertex : 3 * vertex + 3])
        expected = np.zeros(3)
        for j in np.flatnonzero(body.weights[vertex]):
            relative = transforms[j] @ np.concatenate([point - joints[j], [1.0]])
            expected += body.weights[vertex, j] * relative[:3]
        np.testing.assert_allclose(posed.forward(params).vertices[0, vertex], expected + params.transl[0], atol=1e-4)


def test_a_body_is_the_same_to_the_last_bit_in_any_batch(body: BodyModel) -> None:
    params = random_params(5)
    together = body.forward(params)
    for i in range(5):
        np.testing.assert_array_equal(body.forward(params.take([i])).vertices[0], together.vertices[i])


def test_empty_batch(body: BodyModel) -> None:
    assert body.forward(BodyParams.zeros(0)).vertices.shape == (0, len(body.v_template), 3)


def test_free_body_is_a_standing_t_pose(body: BodyModel) -> None:
    joints = dict(zip(OUTPUT_JOINT_NAMES, body.joints(BodyParams.zeros(1))[0], strict=True))
    assert joints["left_wrist"][0] > joints["left_elbow"][0] > joints["left_shoulder"][0] > 0.1
    assert joints["right_wrist"][0] < -0.5
    assert abs(joints["left_wrist"][1] - joints["left_shoulder"][1]) < 0.02
    assert joints["left_ankle"][1] < joints["left_knee"][1] < joints["left_hip"][1] < joints["head"][1]
    assert joints["left_big_toe"][2] > joints["left_heel"][2] + 0.15
    assert joints["nose"][2] > joints["head"][2]
    assert joints["left_eye"][0] > 0 > joints["right_eye"][0]
    assert joints["left_ear"][0] > joints["left_eye"][0]
    for side, sign in (("left", 1), ("right", -1)):
        for finger in ("index", "middle", "ring", "pinky"):
            assert sign * (joints[f"{side}_{finger}"][0] - joints[f"{side}_{finger}3"][0]) > 0.005
    height = np.ptp(body.v_template[:, 1])
    assert 1.5 < height < 1.9


def test_free_body_joints_regress_from_vertices() -> None:
    """On bodies that the regressor was not fitted to; needs the recipe's package."""
    pytest.importorskip("anny")
    errors = joint_regressor_error_mm()
    assert errors["left_knee"] < 10
    assert errors["right_knee"] < 10
    assert max(errors.values()) < 15


def test_hands_and_jaw_articulate(body: BodyModel) -> None:
    rest = body.forward(BodyParams.zeros(1))
    curl = np.zeros((1, 15, 3), np.float32)
    curl[..., 2] = -0.4
    moved = body.forward(BodyParams.zeros(1).replace(left_hand_pose=curl))
    tip = OUTPUT_JOINT_NAMES.index("left_index")
    assert rest.joints[0, tip, 1] - moved.joints[0, tip, 1] > 0.03
    np.testing.assert_allclose(
        moved.joints[0, OUTPUT_JOINT_NAMES.index("right_index")],
        rest.joints[0, OUTPUT_JOINT_NAMES.index("right_index")],
    )
    jaw = body.forward(BodyParams.zeros(1).replace(jaw_pose=np.array([[0.35, 0, 0]], np.float32)))
    shift = np.linalg.norm(jaw.vertices - rest.vertices, axis=-1)[0]
    assert shift.max() > 0.015
    assert (shift > 1e-4).mean() < 0.5
    nose = OUTPUT_JOINT_NAMES.index("nose")
    np.testing.assert_allclose(jaw.joints[0, nose], rest.joints[0, nose], atol=1e-3)


def test_betas_and_expression_change_the_body(body: BodyModel) -> None:
    rest = body.forward(BodyParams.zeros(1)).vertices
    for name in ("betas", "expression"):
        for k in range(10):
            array = np.zeros((1, 10), np.float32)
            array[0, k] = 1.0
            assert np.abs(body.forward(BodyParams.zeros(1).replace(**{name: array})).vertices - rest).max() > 1e-3


def test_mirror_tables_are_involutions() -> None:
    np.testing.assert_array_equal(COCO17_MIRROR[COCO17_MIRROR], np.arange(17))
    np.testing.assert_array_equal(JOINT_MIRROR[JOINT_MIRROR], np.arange(55))
    assert COCO17[COCO17_MIRROR[5]] == "right_shoulder"


def test_coco_keypoints_are_the_named_joints() -> None:
    assert OUTPUT_JOINT_NAMES[COCO17_FROM_SMPLX[0]] == "nose"
    assert OUTPUT_JOINT_NAMES[COCO17_FROM_SMPLX[9]] == "left_wrist"
    assert JOINT_NAMES[JOINT_INDEX["left_thumb3"]] == "left_thumb3"


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as data:
        return {k: data[k] for k in data.files}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda a: a.pop("weights"), "no array 'weights'"),
        (lambda a: a.update(weights=a["weights"][:, :24]), "weights is"),
        (lambda a: a.update(v_template=a["v_template"][:6890]), "v_template is"),
        (lambda a: a.update(J_regressor=a["J_regressor"][:24]), "J_regressor is"),
        (lambda a: a.update(shapedirs=a["shapedirs"][..., :10]), "shapedirs is"),
        (lambda a: a.update(v_template=np.full_like(a["v_template"], np.nan)), "not finite"),
        (lambda a: a.update(kintree_table=a["kintree_table"][:, :24]), "joint tree"),
        (lambda a: a.update(f=a["f"] + 99_999), "triangles"),
    ],
)
def test_wrong_model_files_get_a_named_error(damage, words: str, tmp_path: Path) -> None:
    arrays = arrays_of(FREE_BODY_PATH)
    damage(arrays)
    path = tmp_path / "broken.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the names are none of savez' own
    with pytest.raises(BodyModelError, match=words) as caught:
        load_body(str(path))
    assert str(path) in str(caught.value)


def test_truncated_missing_and_pickled_files_get_a_named_error(tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(FREE_BODY_PATH.read_bytes()[:50_000])
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, v_template=np.array([{"a": 1}], dtype=object))
    for path in (truncated, tmp_path / "missing.npz", pickled):
        with pytest.raises(BodyModelError, match=path.name):
            load_body(str(path))


def test_full_size_files_take_expression_from_component_300(body: BodyModel, tmp_path: Path) -> None:
    arrays = arrays_of(FREE_BODY_PATH)
    directions = np.zeros((*arrays["v_template"].shape, 400), np.float32)
    directions[..., :10], directions[..., 300:310] = body.shapedirs, body.exprdirs
    path = tmp_path / "full.npz"
    np.savez(path, **{**arrays, "shapedirs": directions})
    np.testing.assert_array_equal(load_body(str(path)).exprdirs, body.exprdirs)

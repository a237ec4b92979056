"""The torch body is the body, augmentations move pixels and labels alike, and losses are zero at the truth alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posedreamer_assets.body.model import BodyModel, load_body, rest_joints
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.students import losses
from posedreamer_assets.students.augment import Augmentation, affine, augment_image, augment_labels
from posedreamer_assets.students.labels import Labels, labels_of
from posedreamer_assets.students.networks import PoseHead, matrices_of_6d
from posedreamer_assets.students.skinning import TorchBody, all_vertices

SIDE = 128
BODY = load_body()


def people(count: int, seed: int = 0) -> tuple[BodyParams, Cameras]:
    rng = np.random.default_rng(seed)
    params = BodyParams.zeros(count)
    random = {name: rng.normal(0, 0.4, getattr(params, name).shape).astype(np.float32) for name in vars(params)}
    params = params.replace(**random)
    upright = axis_angle_to_matrix(np.array([[np.pi, 0, 0]] * count)).astype(np.float32)
    cameras = Cameras(
        upright,
        np.tile(np.array([0.1, 0.2, 4.0], np.float32), (count, 1)),
        np.full(count, 200, np.float32),
        np.tile(np.array([60, 66], np.float32), (count, 1)),
        SIDE,
        SIDE,
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
    )
    return params, cameras


def with_pose_shapes() -> BodyModel:
    rng = np.random.default_rng(1)
    v = len(BODY.v_template)
    return replace(BODY, posedirs=rng.normal(0, 1e-3, (486, 3 * v)).astype(np.float32))


@pytest.mark.parametrize("body", [BODY, with_pose_shapes()], ids=["free", "pose shapes"])
@pytest.mark.parametrize("joints", [22, 55])
def test_the_torch_body_is_the_body(body: BodyModel, joints: int) -> None:
    params, _ = people(3)
    params = params.replace(expression=np.zeros((3, 10), np.float32))
    if joints == 22:
        rest = {
            n: np.zeros_like(getattr(params, n))
            for n in ("left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose")
        }
        params = params.replace(**rest)
    out = body.forward(params)
    rotations = axis_angle_to_matrix(params.full_pose())[:, :joints]
    found_joints, found = all_vertices(TorchBody(body, joints=joints), rotations, params.betas)
    root = out.joints[:, :1]
    assert np.abs(found_joints - (out.joints[:, :joints] - root)).max() < 1e-5
    assert np.abs(found - (out.vertices - root)).max() < 1e-5
    few = TorchBody(body, every=84, joints=joints)(torch.tensor(rotations), torch.tensor(params.betas))[1]
    assert np.abs(few.numpy() - found[:, ::84]).max() < 1e-6


def test_the_torch_body_has_the_right_slopes() -> None:
    body = TorchBody(BODY, every=997, dtype=torch.float64)
    sixes = torch.randn(1, 22, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    betas = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)

    def of(sixes: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        joints, vertices = body(matrices_of_6d(sixes), betas)
        return joints.square().sum() + vertices.square().sum()

    assert torch.autograd.gradcheck(of, (sixes, betas), atol=1e-5)


def test_labels_are_the_body_before_the_camera() -> None:
    params, cameras = people(4)
    params = params.replace(expression=np.zeros((4, 10), np.float32))
    labels = labels_of(BODY, params, cameras)
    assert np.allclose(rest_joints(BODY, params), BODY.forward(params.replace(**{
        name: np.zeros_like(getattr(params, name)) for name in vars(params) if name not in ("betas", "expression")
    })).joints[:, :55], atol=1e-5)  # fmt: skip
    joints, _ = all_vertices(TorchBody(BODY), labels.rotations, labels.betas)
    expected = cameras.to_camera(BODY.forward(params).joints[:, :22])
    assert np.abs(joints + labels.pelvis_cam_m[:, None] - expected).max() < 1e-4


def pixels(labels: Labels) -> np.ndarray:
    joints = TorchBody(BODY).posed_joints(torch.tensor(labels.rotations), torch.tensor(labels.betas)).numpy()
    points = joints + labels.pelvis_cam_m[:, None]
    return labels.focal_px[:, None, None] * points[..., :2] / points[..., 2:] + labels.principal_px[:, None]


AUGMENTATIONS = st.builds(
    Augmentation,
    mirror=st.booleans(),
    turn_rad=st.floats(-3, 3),
    scale=st.floats(0.5, 2),
    shift_px=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
)


@settings(max_examples=25, deadline=None)
@given(AUGMENTATIONS)
def test_labels_move_as_pixels_do(aug: Augmentation) -> None:
    """Distances of joints to the image plane stay; left and right change places in a mirror, of the free body to a millimetre."""
    from posedreamer_assets.body.joints import JOINT_MIRROR

    labels = labels_of(BODY, *people(3))
    labels = replace(labels, betas=np.zeros_like(labels.betas))
    a, b = affine(aug, SIDE, SIDE)
    moved = pixels(labels) @ a.T + b
    if aug.mirror:
        moved = moved[:, np.array(JOINT_MIRROR[:22])]
    found = pixels(augment_labels(labels, [aug] * 3, SIDE, SIDE))
    assert np.abs(found - moved).max() < (0.4 if aug.mirror else 1e-2)


def test_two_mirrors_and_a_whole_turn_are_nothing() -> None:
    labels = labels_of(BODY, *people(2))
    twice = labels
    for _ in range(2):
        twice = augment_labels(twice, [Augmentation(mirror=True)] * 2, SIDE, SIDE)
    turned = labels
    for _ in range(5):
        turned = augment_labels(turned, [Augmentation(turn_rad=2 * np.pi / 5)] * 2, SIDE, SIDE)
    for name in vars(labels):
        assert np.allclose(getattr(twice, name), getattr(labels, name), atol=1e-5), name
        assert np.allclose(getattr(turned, name), getattr(labels, name), atol=1e-4), name


@pytest.mark.parametrize(
    "aug",
    [Augmentation(), Augmentation(mirror=True), Augmentation(turn_rad=0.4), Augmentation(scale=0.7, shift_px=(9, -6))],
    ids=["none", "mirror", "turn", "scale and shift"],
)
def test_images_move_by_the_same_map(aug: Augmentation) -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[50:54, 80:84] = 255
    centre = np.array([82.0, 52.0])
    a, b = affine(aug, SIDE, SIDE)
    out = augment_image(image, aug)[..., 0].astype(float)
    out[out < 120] = 0  # the grey of what comes from outside
    rows, columns = np.indices(out.shape) + 0.5
    found = np.array([(columns * out).sum(), (rows * out).sum()]) / out.sum()
    assert np.abs(found - (a @ centre + b)).max() < 0.3


def test_an_untouched_image_is_the_same_and_colours_change_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    assert (augment_image(image, Augmentation()) == image).all()
    assert (augment_image(image, Augmentation(gains=(1, 0.5, 1)))[..., [0, 2]] == image[..., [0, 2]]).all()
    labels = labels_of(BODY, *people(1))
    changed = augment_labels(labels, [Augmentation(gamma=1.3, gains=(1, 0.5, 1), quality=60)], SIDE, SIDE)
    assert all(np.allclose(getattr(changed, name), getattr(labels, name)) for name in vars(labels))


def test_the_loss_is_zero_at_the_truth_and_each_term_sees_its_own_fault() -> None:
    truth = torch.eye(3).expand(2, 22, 3, 3)
    points = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    flat = points[..., :2] * 10 + 64
    assert losses.points_l1(points, points) == losses.rotations_squared(truth, truth) == 0
    assert losses.pixels_clamped(flat, flat, SIDE, SIDE) == losses.betas_squared(points[0], points[0]) == 0
    assert losses.points_l1(points + 0.1, points).item() == pytest.approx(0.1, abs=1e-6)
    half_turn = truth @ torch.diag(torch.tensor([1.0, -1, -1]))
    assert losses.rotations_squared(half_turn, truth).item() == pytest.approx(8 / 9)
    assert losses.pixels_clamped(flat + torch.tensor([32.0, 0]), flat, SIDE, SIDE).item() == pytest.approx(0.5)
    assert losses.pixels_clamped(flat + 1e6, flat, SIDE, SIDE).item() == 2, (
        "a point behind the camera is no catastrophe"
    )
    outside = flat.clone()
    outside[0, 0] = -5
    moved = outside.clone()
    moved[0, 0] = 1000
    assert losses.pixels_clamped(moved, outside, SIDE, SIDE) == 0, "what the image does not show is not asked"
    terms = {name: torch.tensor(1.0) for name in losses.WEIGHTS}
    assert losses.weighted(terms).item() == pytest.approx(10 + 10 + 2 + 0.005 + 1)


def test_a_student_starts_upright_before_the_camera() -> None:
    torch.manual_seed(0)
    head = PoseHead().eval()
    from posedreamer_assets.students.features import WIDTH

    with torch.no_grad():
        found = head(torch.randn(4, WIDTH), torch.full((4,), 200.0), SIDE)
    up = found.rotations[:, 0] @ torch.tensor([0.0, 1.0, 0.0])
    assert (up[:, 1] < -0.9).all(), "the head is up: y points down"
    assert (found.pelvis_cam_m[:, 2] > 0).all()
    assert torch.allclose(found.rotations @ found.rotations.mT, torch.eye(3).expand_as(found.rotations), atol=1e-5)

"""Crops of people: labels and intrinsics follow pixels exactly, images move by the same map, and predictions come back."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from posedreamer_assets.body.joints import JOINT_MIRROR
from posedreamer_assets.body.model import load_body
from posedreamer_assets.students.augment import Augmentation, affine, augment_image
from posedreamer_assets.students.labels import Labels, labels_of
from posedreamer_assets.students.person_crops import body_boxes, crops_of, labels_in, turned_back
from posedreamer_assets.students.person_pictures import Pictures, read_pictures, roomy, write_pictures
from posedreamer_assets.students.predict import Predictions
from posedreamer_assets.students.skinning import TorchBody
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets_tests.students.test_geometry import AUGMENTATIONS, SIDE, people

BODY = load_body()
SIZE = (64, 48)  # height, width


def precise(count: int, seed: int = 0) -> Labels:
    """Labels of people at many places of the image, in double precision."""
    labels = labels_of(BODY, *people(count, seed))
    rng = np.random.default_rng(seed)
    found = Labels(**{one.name: getattr(labels, one.name).astype(np.float64) for one in fields(labels)})
    shift = rng.uniform(-1.2, 1.2, (count, 3)) * [1, 1, 0.5]
    return replace(found, pelvis_cam_m=found.pelvis_cam_m + shift, betas=np.zeros_like(found.betas))


def pixels(labels: Labels) -> np.ndarray:
    body = TorchBody(BODY, dtype=torch.float64)
    joints = body.posed_joints(torch.tensor(labels.rotations), torch.tensor(labels.betas)).numpy()
    points = joints + labels.pelvis_cam_m[:, None]
    return labels.focal_px[:, None, None] * points[..., :2] / points[..., 2:] + labels.principal_px[:, None]


def boxes(labels: Labels) -> np.ndarray:
    return body_boxes(TorchBody(BODY, every=84), labels, SIDE, SIDE)


def test_joints_before_the_crops_camera_are_the_moved_pixels() -> None:
    labels = precise(6)
    crops = crops_of(boxes(labels), labels.focal_px, labels.principal_px, SIZE)
    before = pixels(labels)
    moved = np.stack([crop.points(points) for crop, points in zip(crops, before, strict=True)])
    after = labels_in(labels, crops, SIZE)
    assert np.abs(pixels(after) - moved).max() < 1e-6
    assert (after.principal_px == [24, 32]).all(), "the camera looks at the middle"
    assert np.allclose(np.linalg.norm(after.pelvis_cam_m, axis=1), np.linalg.norm(labels.pelvis_cam_m, axis=1))


@settings(max_examples=25, deadline=None)
@given(AUGMENTATIONS)
def test_labels_of_a_picture_move_as_its_pixels_do(aug: Augmentation) -> None:
    """The camera of the room about a crop is the crop's, moved by its margin; then labels go through the augmentation."""
    labels = precise(3)
    whole, margin = roomy(SIZE), np.array([SIZE[1] // 8, SIZE[0] // 8])
    crops = crops_of(boxes(labels), labels.focal_px, labels.principal_px, whole)
    inside = labels_in(labels, crops, whole)
    pictures = Pictures(np.zeros((3, *whole, 3), np.uint8), inside, SIZE)
    a, b = affine(aug, SIZE[1], SIZE[0])
    moved = (pixels(inside) - margin) @ a.T + b
    if aug.mirror:
        moved = moved[:, np.array(JOINT_MIRROR[:22])]
    found = pictures.labels_seen(np.arange(3), [aug] * 3)
    assert np.abs(pixels(found) - moved).max() < (
        0.4 if aug.mirror else 1e-2
    )  # the free body is no perfect mirror image


def test_room_about_a_crop_does_not_move_it() -> None:
    """Cut with room and looked at as it is, a picture is the very crop."""
    labels = precise(4)
    own = crops_of(boxes(labels), labels.focal_px, labels.principal_px, SIZE)
    whole = roomy(SIZE)
    padded = crops_of(boxes(labels), labels.focal_px, labels.principal_px, whole, 1.2 * whole[0] / SIZE[0])
    margin = np.array([[1, 0, SIZE[1] // 8], [0, 1, SIZE[0] // 8], [0, 0, 1.0]])
    for one, other in zip(own, padded, strict=True):
        assert np.allclose(one.turn, other.turn) and one.focal_px == pytest.approx(other.focal_px)
        expected = margin @ one.homography
        assert np.allclose(other.homography / other.homography[2, 2], expected / expected[2, 2])


def test_a_dot_of_the_image_is_where_the_crop_says(tmp_path: Path) -> None:
    labels = precise(1)
    labels.pelvis_cam_m[:] = [0.2, 0.1, 4]
    dot = pixels(labels)[0, 0]  # the pelvis
    assert (dot > 10).all() and (dot < SIDE - 10).all()
    rows, columns = np.indices((SIDE, SIDE)) + 0.5
    image = np.exp(-((columns - dot[0]) ** 2 + (rows - dot[1]) ** 2) / 8)[..., None].repeat(3, -1)
    files = [encode_png((image * 255).astype(np.uint8))]
    pictures = write_pictures(tmp_path, files, boxes(labels), labels, SIZE)
    again = read_pictures(tmp_path, SIZE)
    assert (again.pixels == pictures.pixels).all()
    for aug in (Augmentation(), Augmentation(turn_rad=0.3, scale=1.1, shift_px=(2, -1)), Augmentation(mirror=True)):
        seen = again.seen(0, aug)[..., 0].astype(float)
        seen[seen < 120] = 0  # the grey of what comes from outside
        rows, columns = np.indices(SIZE) + 0.5
        found = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
        expected = pixels(again.labels_seen(np.array([0]), [aug]))[0, 0]
        assert np.abs(found - expected).max() < 0.4


def test_colours_of_a_picture_are_those_of_an_image() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, *roomy(SIZE), 3)).astype(np.uint8)
    pictures = Pictures(pixels, precise(1), SIZE)
    aug = Augmentation(gamma=1.2, gains=(0.9, 1.1, 1.0), quality=80)
    plain = pictures.seen(0, Augmentation())
    assert (plain == pixels[0, 8:72, 6:54]).all()
    assert (pictures.seen(0, aug) == augment_image(plain, aug)).all()


def test_predictions_come_back_to_the_camera_of_the_image() -> None:
    labels = precise(5)
    crops = crops_of(boxes(labels), labels.focal_px, labels.principal_px, SIZE)
    inside = labels_in(labels, crops, SIZE)
    found = turned_back(Predictions(inside.rotations, inside.betas, inside.pelvis_cam_m), crops)
    assert np.allclose(found.rotations, labels.rotations, atol=1e-12)
    assert np.allclose(found.pelvis_cam_m, labels.pelvis_cam_m, atol=1e-12)


def test_a_box_is_cut_by_the_image_and_a_body_outside_has_all_of_it() -> None:
    labels = precise(3)
    labels.pelvis_cam_m[:] = [[0, 0, 4], [1.4, 0, 4], [60, 0, 4]]
    found = boxes(labels)
    assert (found[:, :2] >= 0).all() and (found[:, :2] + found[:, 2:] <= SIDE).all()
    assert found[1, 0] + found[1, 2] == SIDE, "who is cut by the image's side"
    assert found[2].tolist() == [0, 0, SIDE, SIDE]
    middle = found[0, :2] + found[0, 2:] / 2
    assert np.abs(middle - pixels(labels)[0].mean(0)).max() < 15

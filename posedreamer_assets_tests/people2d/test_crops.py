"""Crops: image, joints and masks move together."""

import numpy as np
import pytest

from posedreamer_assets.people2d.crops import MIRRORED, Placement, crop_picture, draw_crops
from posedreamer_assets.people2d.samples import Picture, person_sizes
from posedreamer_assets.scenes.points import MPII16
from posedreamer_assets_tests.people2d.samples import TINY, picture, source


def one_dot(x: float, y: float) -> Picture:
    """A picture that is black but for a white square about joint 0 of its person, whose instance and ignored pixels are it."""
    image, marks = np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
    rows, columns = slice(int(y) - 2, int(y) + 3), slice(int(x) - 2, int(x) + 3)
    image[rows, columns], marks[rows, columns] = 255, 1
    joints, known = np.full((1, 16, 2), np.nan), np.zeros((1, 16), bool)
    joints[0, 0], known[0, 0] = (x, y), True
    return Picture(image, joints, known, np.array([True]), np.array([8.0]), marks > 0, marks)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("scale", "angle"), [(1.0, 0.0), (0.7, 0.6), (1.6, -0.7), (0.4, 0.3)])
def test_image_joints_and_masks_move_together(scale: float, angle: float, mirror: bool) -> None:
    place = Placement(np.array([60.0, 40.0]), scale, angle, mirror, np.array([30.0, 34.0]))
    crop = crop_picture(one_dot(64.5, 43.5), place, 64)
    joint = 5 if mirror else 0  # the right ankle of a mirrored person is their left
    assert crop.known[0, 0].tolist() == [k == joint for k in range(16)]
    marks = (crop.images[0, ..., 0] > 128, crop.instances[0] == 1, crop.ignore[0] & (crop.images[0, ..., 0] != 124))
    for mark in marks:
        rows, columns = np.nonzero(mark)
        np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], crop.joints[0, 0, joint], atol=0.6)


def test_what_lies_outside_of_the_picture_is_grey_and_says_nothing() -> None:
    place = Placement(np.array([0.0, 0.0]), 1.0, 0.0, False, np.array([32.0, 32.0]))
    crop = crop_picture(one_dot(20.5, 20.5), place, 64)
    assert crop.ignore[0, :32].all() and crop.ignore[0, :, :32].all() and not crop.ignore[0, 33:45, 33:45].any()
    assert (crop.images[0, :32] == (124, 116, 104)).all()


def test_a_mirrored_joint_is_that_of_the_other_side() -> None:
    other = {"left": "right", "right": "left"}
    for joint, name in enumerate(MPII16):
        side, _, rest = name.partition("_")
        assert MPII16[MIRRORED[joint]] == (f"{other[side]}_{rest}" if side in other else name)


def test_people_who_are_not_in_the_crop_are_left_out_and_instances_numbered_anew() -> None:
    rng = np.random.default_rng(0)
    seen = picture(rng, people=3, size=192, synthetic=(2,))
    middle = seen.joints[2].mean(0)
    crop = crop_picture(seen, Placement(middle, 2.0, 0.0, False, np.array([32.0, 32.0])), 64)
    assert (
        crop.synthetic.tolist() == [[True]]
        and set(np.unique(crop.instances)) <= {0, 1}
        and crop.instances[0, 32, 32] == 1
    )


def test_the_person_in_the_middle_is_as_long_as_asked_for() -> None:
    import dataclasses

    still = dataclasses.replace(TINY, scale_min=1.0, scale_max=1.0, rotate_deg=0.0, shift_share=0.0)
    people = source(1)
    crops = draw_crops(people, np.array([0, 3]), still, np.random.default_rng(0))
    for k, (image, person) in enumerate(people.people[[0, 3]]):
        size = person_sizes(people.pictures[image])[person]
        spread = np.ptp(people.pictures[image].joints[person], axis=0) * still.person_share * still.size / size
        gaps = [np.abs(np.ptp(joints, axis=0) - spread).max() for joints in crops.joints[k]]
        assert min(gaps) < 1e-6


def test_crops_depend_on_the_generator_alone() -> None:
    first, second, other = (draw_crops(source(1), np.arange(4), TINY, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.joints, second.joints)
    assert (first.images != other.images).any()

"""Targets and weights against loops over cells."""

import numpy as np
import pytest
import torch

from posedreamer_assets.people2d.crops import Crops
from posedreamer_assets.people2d.masking import OWN_HEAT, synthetic_cells, targets_and_weights
from posedreamer_assets.people2d.targets import BACKGROUND, HEATS, LIMBS, MAPS, affinity_fields, heat_maps
from posedreamer_assets_tests.people2d.samples import TINY, person_at

SIDE, STRIDE, SIGMA, HALF = 16, 4, 5.0, 4.0


@pytest.fixture
def people() -> tuple[np.ndarray, np.ndarray]:
    """Two crops of three people; some joints not known, one person nowhere."""
    rng = np.random.default_rng(4)
    joints = np.stack([[person_at(rng, x, 30, 7) for x in (15, 22, 50)] for _ in range(2)])
    known = rng.random((2, 3, 16)) < 0.8
    known[1, 2] = False
    return joints, known


def loop_heats(joints: np.ndarray, known: np.ndarray) -> np.ndarray:
    found = np.zeros((HEATS, SIDE, SIDE))
    for row in range(SIDE):
        for column in range(SIDE):
            for joint in range(16):
                gaps = [
                    np.hypot((column + 0.5) * STRIDE - x, (row + 0.5) * STRIDE - y)
                    for (x, y), k in zip(joints[:, joint], known[:, joint], strict=True)
                    if k
                ]
                found[joint, row, column] = max((np.exp(-(g**2) / (2 * SIGMA**2)) for g in gaps), default=0.0)
            found[BACKGROUND, row, column] = 1 - found[:16, row, column].max()
    return found


def loop_fields(joints: np.ndarray, known: np.ndarray) -> np.ndarray:
    found = np.zeros((len(LIMBS), 2, SIDE, SIDE))
    for limb, (a, b) in enumerate(LIMBS):
        for row in range(SIDE):
            for column in range(SIDE):
                units = []
                for person, labelled in zip(joints, known, strict=True):
                    way = person[b] - person[a]
                    length = np.hypot(*way)
                    if not (labelled[a] and labelled[b]) or length == 0:
                        continue
                    gap = np.array([(column + 0.5) * STRIDE, (row + 0.5) * STRIDE]) - person[a]
                    along, beside = gap @ way / length, abs(gap[0] * way[1] - gap[1] * way[0]) / length
                    if 0 <= along <= length and beside <= HALF:
                        units.append(way / length)
                if units:
                    found[limb, :, row, column] = np.mean(units, axis=0)
    return found.reshape(-1, SIDE, SIDE)


def tensors(joints: np.ndarray, known: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(joints), torch.from_numpy(known)


def test_heat_maps_are_the_highest_of_all_people(people: tuple[np.ndarray, np.ndarray]) -> None:
    joints, known = people
    found = heat_maps(*tensors(joints, known), SIDE, STRIDE, SIGMA).numpy()
    for crop in range(2):
        np.testing.assert_allclose(found[crop], loop_heats(joints[crop], known[crop]), atol=1e-12)
    assert found.max() <= 1, "a sum of people would exceed 1"


def test_fields_are_the_mean_of_those_who_cover_a_cell(people: tuple[np.ndarray, np.ndarray]) -> None:
    joints, known = people
    found = affinity_fields(*tensors(joints, known), SIDE, STRIDE, HALF).numpy()
    for crop in range(2):
        np.testing.assert_allclose(found[crop], loop_fields(joints[crop], known[crop]), atol=1e-12)


def test_limbs_that_cross_average_and_one_without_length_is_nowhere() -> None:
    joints, known = np.zeros((1, 2, 16, 2)), np.zeros((1, 2, 16), bool)
    start, end = LIMBS[0]
    joints[0, 0, start], joints[0, 0, end] = (10, 34), (58, 34)  # to the right
    joints[0, 1, start], joints[0, 1, end] = (34, 10), (34, 58)  # down
    known[0, :, [start, end]] = True
    found = affinity_fields(*tensors(joints, known), SIDE, STRIDE, HALF)[0, :2, 8, 8]
    np.testing.assert_allclose(found, [0.5, 0.5])

    joints[0, 1, end] = joints[0, 1, start]
    found = affinity_fields(*tensors(joints, known), SIDE, STRIDE, HALF)
    assert found.isfinite().all()
    np.testing.assert_allclose(found[0, :2, 8, 8], [1, 0])


def crops_of(joints: np.ndarray, known: np.ndarray, synthetic: list[bool]) -> Crops:
    size = TINY.size
    blank = np.zeros((1, size, size), np.uint8)
    images = np.zeros((1, size, size, 3), np.uint8)
    return Crops(images, joints[None], known[None], np.array([synthetic]), blank.astype(bool), blank.copy())


def test_cells_of_ignored_people_count_in_no_map(people: tuple[np.ndarray, np.ndarray]) -> None:
    crops = crops_of(people[0][0], np.ones((3, 16), bool), [False] * 3)
    crops.ignore[0, 9, 21] = True
    weights = targets_and_weights(crops, TINY)[1][0]
    assert (weights[:, 2, 5] == 0).all()
    assert (weights > 0).sum() == weights.numel() - MAPS


def test_around_a_person_whose_knee_is_not_labelled_nothing_is_said_of_knees(
    people: tuple[np.ndarray, np.ndarray],
) -> None:
    known = np.ones((3, 16), bool)
    known[0, 1] = False
    crops = crops_of(people[0][0], known, [False] * 3)
    weights = targets_and_weights(crops, TINY)[1][0]
    silent = {channel for channel in range(MAPS) if (weights[channel] == 0).any()}
    limbs = {HEATS + 2 * k + axis for k, limb in enumerate(LIMBS) if 1 in limb for axis in (0, 1)}
    assert silent == {1, BACKGROUND} | limbs
    row, column = (people[0][0][0, 1, ::-1] / STRIDE).astype(int)
    assert weights[1, row, column] == 0, "where the knee may be"


def test_a_weight_of_the_foreground_is_that_of_its_formula(people: tuple[np.ndarray, np.ndarray]) -> None:
    crops = crops_of(people[0][0], np.ones((3, 16), bool), [False] * 3)
    targets, weights = targets_and_weights(crops, TINY)
    np.testing.assert_allclose(weights[0, :16], 1 + 12 * targets[0, :16], rtol=1e-6)
    on = (targets[0, HEATS:].unflatten(0, (14, 2)) != 0).any(1).repeat_interleave(2, 0)
    np.testing.assert_allclose(weights[0, HEATS:], 1 + 6 * on)


def test_synthetic_people_are_masked_in_their_own_cells_and_maps(people: tuple[np.ndarray, np.ndarray]) -> None:
    joints = people[0][0]
    crops = crops_of(joints, np.ones((3, 16), bool), [False, True, False])
    found = synthetic_cells(crops, TINY)[0].numpy()
    alone = loop_heats(joints[1:2], np.ones((1, 16), bool))[:16] > OWN_HEAT
    fields = loop_fields(joints[1:2], np.ones((1, 16), bool)).reshape(14, 2, SIDE, SIDE)
    np.testing.assert_array_equal(found[:16], alone)
    np.testing.assert_array_equal(found[BACKGROUND], alone.any(0))
    np.testing.assert_array_equal(found[HEATS:], (fields != 0).any(1).repeat(2, 0))
    real = targets_and_weights(crops, TINY)[1][0]
    masked = targets_and_weights(crops, TINY, masked=True)[1][0]
    assert (masked[torch.from_numpy(found)] == 0).all()
    assert torch.equal(masked[~torch.from_numpy(found)], real[~torch.from_numpy(found)])


def test_silhouettes_mask_what_synthetic_people_cover_and_nobody_else(people: tuple[np.ndarray, np.ndarray]) -> None:
    import dataclasses

    crops = crops_of(people[0][0], np.ones((3, 16), bool), [False, True, False])
    crops.instances[0, :8, :8], crops.instances[0, 20:24, 20:24] = 1, 2
    found = synthetic_cells(crops, dataclasses.replace(TINY, masks="silhouette"))[0]
    assert found[:, 5, 5].all() and found.sum() == MAPS


def test_masks_without_synthetic_people_change_nothing(people: tuple[np.ndarray, np.ndarray]) -> None:
    crops = crops_of(people[0][0], people[1][0], [False] * 3)
    assert torch.equal(targets_and_weights(crops, TINY)[1], targets_and_weights(crops, TINY, masked=True)[1])

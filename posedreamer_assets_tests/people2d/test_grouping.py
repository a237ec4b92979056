"""Perfect maps give back whom they were made of."""

import numpy as np
import pytest
import torch

from posedreamer_assets.metrics.mpii_ap import Predicted
from posedreamer_assets.people2d.grouping import find_peaks, group_people, match_greedily
from posedreamer_assets.people2d.targets import HEATS, LIMBS, MAPS, affinity_fields, heat_maps
from posedreamer_assets_tests.people2d.samples import person_at

STRIDE = 4
_OF_A_TREE = sorted({joint for limb in LIMBS for joint in limb})


def perfect_maps(people: np.ndarray, side: int) -> np.ndarray:
    joints, known = torch.from_numpy(people)[None], torch.ones(1, len(people), 16, dtype=torch.bool)
    heats = heat_maps(joints, known, side, STRIDE, 5.0)
    return torch.cat([heats, affinity_fields(joints, known, side, STRIDE, 4.0)], 1)[0].numpy()


def nearest(found: Predicted, person: np.ndarray) -> int:
    gaps = np.where(found.found, np.linalg.norm(found.joints - person, axis=-1), 0).sum(1)
    return int(gaps.argmin())


def test_twelve_people_come_back_within_a_quarter_of_a_cell() -> None:
    rng = np.random.default_rng(3)
    people = np.stack([person_at(rng, x, y, 14) for y in (60, 180, 300) for x in (40, 110, 180, 250)])
    found = group_people(perfect_maps(people, 90), STRIDE)
    assert len(found.joints) == 12
    for person in people:
        row = nearest(found, person)
        assert found.found[row].tolist() == [joint in _OF_A_TREE for joint in range(16)]
        gap = np.abs(found.joints[row] - person)[_OF_A_TREE]
        assert gap.max() <= STRIDE / 4


def test_two_people_whose_hips_meet_stay_two() -> None:
    rng = np.random.default_rng(5)
    people = np.stack([person_at(rng, 70, 100, 16), person_at(rng, 100, 100, 16)])
    people[1, 2] = people[0, 3]  # the right hip of one lies where the left of the other does
    found = group_people(perfect_maps(people, 50), STRIDE)
    assert len(found.joints) == 2
    for person in people:
        row = nearest(found, person)
        assert np.abs(found.joints[row] - person)[found.found[row]].max() <= STRIDE / 4


def test_joints_of_half_a_person_rank_below_those_of_a_whole_one() -> None:
    rng = np.random.default_rng(3)
    maps = perfect_maps(np.stack([person_at(rng, 60, 90, 14), person_at(rng, 200, 90, 14)]), 64)
    maps[[0, 1, 4, 5], :, :30] = 0  # knees and ankles of the left one
    found = group_people(maps, STRIDE)
    half, whole = sorted(found.scores.max(1))
    assert half == pytest.approx(11 / 15, abs=0.1) and whole == pytest.approx(1, abs=0.1)


def test_empty_maps_give_nobody() -> None:
    found = group_people(np.zeros((MAPS, 12, 10)), STRIDE)
    assert found.joints.shape == (0, 16, 2) and found.found.shape == found.scores.shape == (0, 16)


def test_without_fields_joints_are_of_nobody() -> None:
    maps = perfect_maps(np.stack([person_at(np.random.default_rng(1), 70, 90, 16)]), 45)
    maps[HEATS:] = 0
    assert len(group_people(maps, STRIDE).joints) == 0


def test_a_limb_whose_field_runs_the_other_way_is_none() -> None:
    maps = perfect_maps(np.stack([person_at(np.random.default_rng(1), 70, 90, 16)]), 45)
    maps[HEATS:] *= -1
    assert len(group_people(maps, STRIDE).joints) == 0


@pytest.mark.parametrize(("x", "y"), [(20.0, 20.0), (21.3, 18.9), (22.0, 22.0)])
def test_a_peak_is_where_its_gaussian_is(x: float, y: float) -> None:
    joints = torch.full((1, 1, 16, 2), 0.0, dtype=torch.float64)
    joints[0, 0, 0] = torch.tensor([x, y])
    known = torch.zeros(1, 1, 16, dtype=torch.bool)
    known[0, 0, 0] = True
    (peak, *others) = find_peaks(heat_maps(joints, known, 12, STRIDE, 5.0)[0, 0].numpy())
    np.testing.assert_allclose(peak[:2] * STRIDE, [x, y], atol=1e-6)
    assert all(other[2] == peak[2] for other in others), "only a tie of two cells may be found twice"


def test_greedy_matching_takes_the_best_pair_first() -> None:
    assert match_greedily(np.array([[0.5, 0.9], [0.4, 0.8], [-np.inf, 0.05]])) == [(0, 1), (1, 0)]

"""The teacher network learns which group is hard."""

import numpy as np
import pytest
import torch

from posedreamer_assets.config import TeacherConfig
from posedreamer_assets.errors import StudentError
from posedreamer_assets.people2d.teach import Teacher, TeacherNet

BANDIT = TeacherConfig(
    groups=4, window=1, history=3, alpha=0.5, epsilon=0.2, min_samples=5, narrow=16, learning_rate=3e-3
)
MEMBERS = np.repeat([0, 1, 2, 3], [20, 20, 20, 2])  # the last group has too few people
IMAGE = np.full((32, 32, 3), 120, np.uint8)


def taught(cfg: TeacherConfig, hard: int, windows: int) -> Teacher:
    """The loss is 1 on the hard group and 0 elsewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = Teacher(cfg, MEMBERS, seed=1)
    for _ in range(windows):
        rows = teacher.rows(IMAGE)
        assert len(set(MEMBERS[rows])) == 1 and len(rows) == 20
        teacher.saw(IMAGE[None], np.array([1.0]), float(MEMBERS[rows[0]] == hard))
    return teacher


@pytest.mark.parametrize("hard", [0, 2])
def test_the_group_that_is_always_harder_becomes_more_probable_than_not(hard: int) -> None:
    teacher = taught(BANDIT, hard, 150)
    assert teacher.probabilities[hard] > 0.5 and 3 not in teacher.groups
    assert teacher.probabilities[3] == 0 and teacher.probabilities.sum() == pytest.approx(1)


def test_an_update_moves_the_network_towards_its_target() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = Teacher(BANDIT, MEMBERS, seed=1)
    for loss in (0.0, 0.0, 0.0, 1.0):
        teacher.rows(IMAGE)
        before = teacher.probabilities
        teacher.saw(IMAGE[None], np.array([1.0]), loss)
    (row,) = teacher.log
    np.testing.assert_allclose(row.probabilities, before, atol=1e-6)
    teacher.rows(IMAGE)
    gap_before, gap_after = (float(np.abs(row.target - p)[:3].sum()) for p in (before, teacher.probabilities))
    assert gap_after < gap_before


def test_chance_draws_usable_groups_alike_and_learns_nothing() -> None:
    import dataclasses

    teacher = taught(dataclasses.replace(BANDIT, kind="uniform"), 0, 600)
    counts = np.bincount(teacher.groups, minlength=4)
    assert counts[3] == 0 and np.abs(counts[:3] - 200).max() < 4 * np.sqrt(600 * 2 / 9) and not teacher.log


def test_the_hardest_real_crop_of_the_last_window_is_what_it_looks_at() -> None:
    import dataclasses

    teacher = Teacher(dataclasses.replace(BANDIT, window=2), MEMBERS, seed=1)
    crops = np.stack([np.full((32, 32, 3), value, np.uint8) for value in range(6)])
    for losses in ([0.1, 0.9, 0.2], [0.3, 0.8, 0.7]):
        teacher.rows(crops[0])
        teacher.saw(crops[:3], np.array(losses), 0.0)
    teacher.rows(crops[0])
    assert teacher.image is not None and teacher.image[0, 0, 0] == 1
    for losses in ([0.1, 0.2, 0.5], [0.3, 0.4, 0.4]):
        teacher.rows(crops[0])
        teacher.saw(crops[3:], np.array(losses), 0.0)
    teacher.rows(crops[0])
    assert teacher.image[0, 0, 0] == 5, "not that of a window before"


def test_a_group_that_does_not_exist_is_named() -> None:
    with pytest.raises(StudentError, match="from 0 to 3: expected 0 to 2"):
        Teacher(TeacherConfig(groups=3), MEMBERS, seed=1)


def test_the_network_has_the_layers_of_the_authors_and_a_quarter_of_their_widths() -> None:
    convolutions = [layer for layer in TeacherNet(10, 4).layers if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [16, 16, 32, 32, 64, 64, 64, 64, 128, 128, 64, 32, 16, 16]

"""The teacher's equations against numbers by hand, thousands of random states, a bandit, and the fault of the authors' code."""

import dataclasses

import numpy as np
import pytest

from posedreamer_assets.curriculum.teacher import (
    TENTH_OF_RANGE,
    choose,
    distance_edges,
    divergence,
    edges_between,
    follows_eq2,
    group_edges,
    group_of_values,
    masked,
    reward_of,
    target_of,
    update,
)
from posedreamer_assets.errors import CurriculumError

FOUR = np.array([0.4, 0.3, 0.2, 0.1])
ALL = np.ones(4, bool)


def test_eq1_compares_with_the_mean_of_the_last_windows() -> None:
    assert reward_of([1.0, 2.0], 9.0, 3) is None
    assert reward_of([100.0, 1.0, 2.0, 3.0], 2.0, 3) == 1  # at least the mean
    assert reward_of([100.0, 1.0, 2.0, 3.0], 1.99, 3) == -1


def test_eq2_by_hand() -> None:
    assert target_of(FOUR, 1, 1, 0.1) == pytest.approx([0.39, 0.33, 0.19, 0.09])
    assert target_of(FOUR, 1, -1, 0.1) == pytest.approx([0.41, 0.27, 0.21, 0.11])


def test_a_group_that_was_no_harder_loses() -> None:
    """The authors' code compares where it should assign: a chosen group was never decreased."""
    assert target_of(FOUR, 0, -1, 0.01)[0] < FOUR[0]


def test_targets_are_probabilities_whatever_comes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        p = rng.dirichlet(np.full(10, rng.choice([0.05, 1.0, 10.0])))
        usable = rng.random(10) < 0.8
        usable[rng.choice(10, 2, replace=False)] = True
        p = masked(p, usable)
        target = target_of(
            p, int(rng.choice(np.flatnonzero(usable))), int(rng.choice([-1, 1])), rng.uniform(0, 1), usable
        )
        assert target.sum() == pytest.approx(1) and (target[usable] > 0).all() and not target[~usable].any()


def test_a_group_that_is_always_harder_wins_in_the_steps_that_can_be_computed() -> None:
    """p grows by (1 + alpha) with each reward as long as nothing is floored: ln(0.5 / 0.25) / ln(1.1) = 7.3 steps."""
    p, steps = np.full(4, 0.25), 0
    while p[2] <= 0.5:
        p, steps = target_of(p, 2, 1, 0.1), steps + 1
    assert steps == int(np.ceil(np.log(2) / np.log(1.1)))


def test_the_kl_divergence_is_that_of_its_definition_and_zero_alone_at_itself() -> None:
    target = target_of(FOUR, 1, 1, 0.1)
    assert divergence(target, FOUR) == pytest.approx(sum(t * np.log(t / p) for t, p in zip(target, FOUR, strict=True)))
    assert divergence(FOUR, FOUR) == 0 and divergence(target, FOUR) > 0
    assert divergence(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == pytest.approx(np.log(2))


def test_exploring_is_uniform_over_usable_groups_and_as_often_as_asked() -> None:
    rng, usable = np.random.default_rng(0), np.array([True, True, False, True])
    drawn = [choose(np.array([0.98, 0.01, 0.0, 0.01]), usable, 0.1, rng) for _ in range(20_000)]
    explored = np.array([flag for _, flag in drawn])
    assert explored.mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 20_000))
    groups = np.array([group for group, _ in drawn])
    assert not (groups == 2).any()
    shares = [np.mean(groups[explored] == k) for k in (0, 1, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)
    assert np.mean(groups[~explored] == 0) == pytest.approx(0.98, abs=0.01)


def test_groups_of_pitch_use_the_printed_formula_where_it_works_and_refuse_it_where_not() -> None:
    pitch = np.linspace(0, 45, 4001)
    edges = group_edges(pitch, 10)
    drawn_in = np.rad2deg(np.var(np.deg2rad(pitch)))
    assert (len(edges), edges[0]) == (9, pytest.approx(drawn_in)) and drawn_in == pytest.approx(2.95, abs=0.01)
    assert edges[-1] < 45 - drawn_in
    for groups in (4, 10):
        assert group_edges(pitch, groups, TENTH_OF_RANGE)[0] == pytest.approx(4.5)
    with pytest.raises(CurriculumError, match=r"0 \+ 168\.8.* = 168\.8.* and 45 - .*nothing is between"):
        edges_between(0.0, 45.0, float(np.var(pitch)), 10)
    with pytest.raises(CurriculumError, match="spread 'degrees'"):
        group_edges(pitch, 10, "degrees")


def test_every_group_of_distances_has_the_same_width_and_the_last_has_all_beyond() -> None:
    edges = distance_edges(10)
    assert edges == pytest.approx(np.arange(64, 640, 64))
    values = np.array([0.0, 63.9, 64.0, 639.0, 9999.0, np.inf])
    assert group_of_values(values, edges).tolist() == [0, 0, 1, 9, 9, 9]


def test_a_log_row_can_be_checked_and_faults_in_it_are_found() -> None:
    sizes = np.array([50, 60, 5, 40])
    history, p = [1.0, 1.2, 1.1], np.full(4, 0.25)
    row = update(7, p, (1, False), history, 1.3, sizes, length=3, alpha=0.2, min_samples=32)
    assert row is not None and (row.reward, row.target[2]) == (1, 0.0)
    assert follows_eq2(row, 0.2, 32)
    assert update(1, p, (1, False), history[:1], 1.3, sizes, length=3, alpha=0.2, min_samples=32) is None
    lower = update(8, row.target, (1, True), history, 0.1, sizes, length=3, alpha=0.2, min_samples=32)
    assert lower is not None and lower.reward == -1 and follows_eq2(lower, 0.2, 32)
    never_lowered = dataclasses.replace(lower, target=lower.probabilities)
    doubled = dataclasses.replace(row, target=2 * row.target)
    other = dataclasses.replace(row, group=0)
    wrong_sign = dataclasses.replace(row, reward=-1)
    too_small = dataclasses.replace(row, group=2)
    alone = dataclasses.replace(row, sizes=np.array([5, 60, 5, 4]))
    bad = (never_lowered, doubled, other, wrong_sign, too_small, alone)
    assert not any(follows_eq2(one, 0.2, 32) for one in bad)


def test_a_lonely_group_is_refused() -> None:
    with pytest.raises(CurriculumError, match="nothing to be weighed against"):
        target_of(FOUR, 1, 1, 0.1, np.array([False, True, False, False]))
    with pytest.raises(CurriculumError, match="samples enough"):
        masked(FOUR, np.zeros(4, bool))
    assert masked(FOUR, ALL) == pytest.approx(FOUR)

"""Preference pairs, against a written-out table and their defining properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from posedreamer_assets.diffusion.pairs import PairDecision, all_pairs, make_pairs
from posedreamer_assets.errors import AlignmentError


def test_statuses_follow_the_two_thresholds() -> None:
    oks = np.array([[0.9, 0.3, 0.6], [0.6, 0.58, 0.57], [0.2, 0.45, 0.0], [0.5, 0.25, 0.4]])
    assert make_pairs(oks, min_gap=0.25, min_winner=0.5) == [
        PairDecision("pair", 0, 1),
        PairDecision("small_gap", 0, 2),
        PairDecision("weak_winner", 1, 2),
        PairDecision("pair", 0, 1),
    ]


def test_every_pair_keeps_its_promise() -> None:
    oks = np.random.default_rng(0).random((200, 4))
    decisions = make_pairs(oks, min_gap=0.3, min_winner=0.7)
    for row, decision in zip(oks, decisions, strict=True):
        gap = row[decision.winner] - row[decision.loser]
        assert row[decision.winner] == row.max() and row[decision.loser] == row.min()
        assert (decision.status == "pair") == (row.max() >= 0.7 and gap >= 0.3)
        assert (decision.status == "weak_winner") == (row.max() < 0.7)


def test_permuting_candidates_permutes_the_decision() -> None:
    oks = np.random.default_rng(1).random((50, 5))
    order = np.array([3, 0, 4, 1, 2])
    for plain, permuted in zip(make_pairs(oks, 0.1, 0.5), make_pairs(oks[:, order], 0.1, 0.5), strict=True):
        assert (order[permuted.winner], order[permuted.loser], permuted.status) == (
            plain.winner,
            plain.loser,
            plain.status,
        )


def test_no_poses_make_no_pairs() -> None:
    assert make_pairs(np.zeros((0, 4)), 0.05, 0.5) == []


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.2])
def test_a_score_that_is_no_similarity_is_an_error(bad: float) -> None:
    with pytest.raises(AlignmentError, match="pose 1, candidate 0"):
        make_pairs(np.array([[0.5, 0.6], [bad, 0.2]]), 0.05, 0.5)


def test_one_candidate_cannot_make_a_pair() -> None:
    with pytest.raises(AlignmentError, match="two candidates"):
        make_pairs(np.ones((3, 1)), 0.05, 0.5)


@given(arrays(np.float64, 5, elements=st.floats(0, 1)))
def test_all_pairs_are_those_of_every_two_candidates_taken_alone(oks: np.ndarray) -> None:
    found = all_pairs(oks, 0.05, 0.5)
    for a in range(5):
        for b in range(5):
            alone = make_pairs(oks[None, [a, b]], 0.05, 0.5)[0]
            assert ((a, b) in found) == (alone.status == "pair" and alone.winner == 0 and a != b)
    best = make_pairs(oks[None], 0.05, 0.5)[0]
    assert ((best.winner, best.loser) in found) == (best.status == "pair") == bool(found)

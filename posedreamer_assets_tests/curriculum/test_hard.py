"""Hard-sample selection against a naive loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedreamer_assets.curriculum.hard import pose_distances, select_hard
from posedreamer_assets.errors import CurriculumError


def naive(features: np.ndarray, predicted: np.ndarray, count: int, min_distance: float) -> list[int]:
    """Greedy selection, one pair at a time."""
    chosen: list[int] = []
    for i in sorted(range(len(predicted)), key=lambda k: (predicted[k], k)):
        distances = [float(np.sqrt(np.mean((features[i].astype(float) - features[j]) ** 2))) for j in chosen]
        if len(chosen) < count and all(d >= min_distance for d in distances):
            chosen.append(i)
    return chosen


def pool(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, 20, n).astype(np.float32) / 20


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), share=st.floats(0.02, 1), distance=st.floats(0, 3))
def test_agrees_with_the_naive_loop(seed: int, n: int, share: float, distance: float) -> None:
    features, predicted = pool(n, seed)
    count = max(1, int(share * n))
    assert select_hard(features, predicted, count, distance).tolist() == naive(features, predicted, count, distance)


def test_without_a_distance_the_lowest_are_taken() -> None:
    features, predicted = pool(50, 0)
    chosen = select_hard(features, predicted, 10, 0.0)
    assert chosen.tolist() == np.argsort(predicted, kind="stable")[:10].tolist()


def test_no_two_are_close_and_the_hardest_is_always_there() -> None:
    features, predicted = pool(200, 1)
    chosen = select_hard(features, predicted, 40, 0.9)
    for i in chosen:
        others = chosen[chosen != i]
        assert (pose_distances(features[others], features[i]) >= 0.9).all()
    assert chosen[0] == predicted.argmin()


def test_copies_of_a_pose_are_taken_once() -> None:
    features = np.repeat(pool(3, 2)[0], 5, axis=0)
    assert len(select_hard(features, np.zeros(15, np.float32), 15, 0.01)) == 3


def test_bad_arguments_are_named() -> None:
    features, predicted = pool(10, 3)
    with pytest.raises(CurriculumError, match="11 hard samples from a pool of 10"):
        select_hard(features, predicted, 11, 0.1)
    with pytest.raises(CurriculumError, match="at least 0, found -1"):
        select_hard(features, predicted, 2, -1.0)
    predicted[4] = np.inf
    with pytest.raises(CurriculumError, match="finite"):
        select_hard(features, predicted, 2, 0.1)

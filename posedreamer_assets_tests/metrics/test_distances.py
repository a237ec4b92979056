"""Distances against closed forms, matrix square roots and naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import entropy

from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics import distances


def correlated(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d) + shift).astype(
        np.float32
    )


def fid_by_square_root(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook formula, with SciPy's Schur-based matrix square root."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(gap @ gap + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2))))


def fid_by_eigenvalues(x: np.ndarray, y: np.ndarray) -> float:
    """The same with the eigenvalues of the product of covariances, as torch-fidelity computes it."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(axis=0) - y.mean(axis=0)
    roots = np.sqrt(np.clip(np.linalg.eigvals(s1 @ s2).real, 0, None))
    return float(gap @ gap + np.trace(s1) + np.trace(s2) - 2 * roots.sum())


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 16), (90, 300, 64), (64, 65, 64)])
def test_fid_equals_matrix_square_root_formula(n: int, m: int, d: int) -> None:
    x, y = correlated(n, d, 1), correlated(m, d, 2, shift=0.3)
    assert distances.fid(x, y) == pytest.approx(fid_by_square_root(x, y), rel=1e-3)


@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 128), (20, 200, 100), (200, 20, 100)])
def test_fid_equals_eigenvalue_formula_with_fewer_images_than_features(n: int, m: int, d: int) -> None:
    x, y = correlated(n, d, 3), correlated(m, d, 4, shift=0.2)
    assert distances.fid(x, y) == pytest.approx(fid_by_eigenvalues(x, y), rel=1e-3)


def test_fid_of_features_that_repeat_each_other() -> None:
    x, y = correlated(200, 16, 1), correlated(150, 16, 2, shift=0.3)
    x[:, -1] = x[:, 0]
    assert distances.fid(x, y) == pytest.approx(fid_by_eigenvalues(x, y), rel=1e-4)


def test_fid_of_axis_aligned_gaussians_reaches_the_closed_form() -> None:
    rng = np.random.default_rng(5)
    sigma_1, sigma_2 = np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5])
    x = rng.normal(size=(40_000, 3)) * sigma_1
    y = rng.normal(size=(40_000, 3)) * sigma_2 + np.array([1.0, 0.0, -1.0])
    expected = 2.0 + ((sigma_1 - sigma_2) ** 2).sum()
    assert distances.fid(x, y) == pytest.approx(expected, rel=0.02)


def test_fid_from_statistics_agrees_with_fid_from_features() -> None:
    x, y = correlated(100, 24, 6).astype(np.float64), correlated(80, 24, 7, 0.5).astype(np.float64)
    from_statistics = distances.fid_from_statistics(
        x.mean(axis=0), np.cov(x, rowvar=False), y.mean(axis=0), np.cov(y, rowvar=False)
    )
    assert from_statistics == pytest.approx(distances.fid(x, y), rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 30), m=st.integers(3, 30), d=st.integers(1, 40))
def test_fid_is_symmetric_unmoved_by_shifts_and_zero_on_itself(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, shift = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.normal(size=d)
    value = distances.fid(x, y)
    assert distances.fid(y, x) == pytest.approx(value, rel=1e-6, abs=1e-8)
    assert distances.fid(x + shift, y + shift) == pytest.approx(value, rel=1e-6, abs=1e-8)
    assert distances.fid(x, x[::-1]) == pytest.approx(0.0, abs=1e-6)


def test_weights_act_as_repeated_images() -> None:
    x, y = correlated(12, 8, 8).astype(np.float64), correlated(9, 8, 9).astype(np.float64)
    wx, wy = np.array([0, 1, 3, 1, 1, 1, 0, 2, 1, 1, 1, 0.0]), np.array([2, 0, 1, 1, 1, 1, 0, 2, 1.0])
    repeated = np.repeat(x, wx.astype(int), axis=0), np.repeat(y, wy.astype(int), axis=0)
    assert distances._frechet(x, wx, y, wy) == pytest.approx(fid_by_eigenvalues(*repeated), rel=1e-6)


def naive_kid(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / len(a) + 1.0) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


def test_kid_equals_double_loop() -> None:
    x, y = correlated(14, 10, 10).astype(np.float64), correlated(11, 10, 11, 0.4).astype(np.float64)
    assert distances.kid(x, y) == pytest.approx(naive_kid(x, y), rel=1e-9)


def test_kid_is_unbiased_where_fid_is_not() -> None:
    values = [distances.kid(correlated(20, 8, s), correlated(20, 8, 1000 + s)) for s in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    fids = [distances.fid(correlated(20, 8, s), correlated(20, 8, 1000 + s)) for s in range(50)]
    assert np.mean(fids) > 5 * np.std(fids) / np.sqrt(len(fids))


def test_kid_over_blocks_of_all_images_has_no_spread() -> None:
    x, y = correlated(20, 6, 12), correlated(20, 6, 13, 0.2)
    mean, std = distances.kid_blocks(x, y, 5, 100, np.random.default_rng(0))
    assert mean == pytest.approx(distances.kid(x, y), rel=1e-9)
    assert std == pytest.approx(0.0, abs=1e-12)


def naive_share_inside(queries: np.ndarray, support: np.ndarray, neighbours: int) -> float:
    hits = 0
    for q in queries:
        for i, s in enumerate(support):
            others = sorted(float(np.linalg.norm(s - o)) for j, o in enumerate(support) if j != i)
            if np.linalg.norm(q - s) <= others[neighbours - 1]:
                hits += 1
                break
    return hits / len(queries)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_precision_recall_equal_naive_loops(neighbours: int) -> None:
    x, y = correlated(30, 5, 14, 0.6).astype(np.float64), correlated(25, 5, 15).astype(np.float64)
    precision, recall = distances.precision_recall(x, y, neighbours)
    assert 0 < precision < 1
    assert precision == naive_share_inside(x, y, neighbours)
    assert recall == naive_share_inside(y, x, neighbours)


def test_precision_and_recall_see_dropped_and_invented_modes() -> None:
    rng = np.random.default_rng(16)
    left, right = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 30
    precision, recall = distances.precision_recall(left[:50], np.concatenate([left[10:], right]))
    assert precision > 0.8
    assert recall < 0.6


def test_classifier_score_equals_mean_relative_entropy() -> None:
    probs = np.random.default_rng(17).dirichlet(np.ones(6), size=40)
    marginal = probs.mean(axis=0)
    expected = np.exp(np.mean([entropy(p, marginal) for p in probs]))
    assert distances.classifier_score(probs) == pytest.approx(expected, rel=1e-9)


def test_classifier_score_reaches_its_bounds() -> None:
    assert distances.classifier_score(np.eye(7)) == pytest.approx(7.0)
    assert distances.classifier_score(np.tile([0.2, 0.3, 0.5], (9, 1))) == pytest.approx(1.0)


def test_bootstrap_spread_matches_fresh_samples() -> None:
    """The standard error from one sample is near the spread over many samples."""
    fresh = [distances.kid(correlated(60, 6, s, 0.3), correlated(60, 6, 500 + s)) for s in range(120)]
    rng = np.random.default_rng(18)
    estimates = [
        distances.kid_estimate(correlated(60, 6, s, 0.3), correlated(60, 6, 500 + s), 100, rng) for s in range(8)
    ]
    error = np.mean([e.standard_error for e in estimates if e.standard_error is not None])
    assert 0.6 < error / np.std(fresh) < 1.6


def test_interval_covers_the_value_and_is_reproducible() -> None:
    x, y = correlated(40, 80, 19), correlated(30, 80, 20, 0.3)
    first, second = (distances.fid_estimate(x, y, 30, np.random.default_rng(1)) for _ in range(2))
    assert first == second
    assert first.value == pytest.approx(distances.fid(x, y))
    assert first.low is not None and first.high is not None
    assert first.low < first.value < first.high
    assert distances.fid_estimate(x, y, 0, np.random.default_rng(1)).low is None


def test_a_draw_of_few_images_is_the_distance_of_its_repeated_images() -> None:
    rng = np.random.default_rng(22)
    x, y = correlated(40, 80, 19) + 3.0, correlated(30, 80, 20, 0.3)
    for _ in range(5):
        drawn_x, drawn_y = rng.integers(40, size=40), rng.integers(30, size=30)
        weights = (np.bincount(drawn, minlength=n).astype(float) for drawn, n in ((drawn_x, 40), (drawn_y, 30)))
        expected = distances.fid(x[drawn_x], y[drawn_y])
        assert distances._Products(x, y).frechet(*weights) == pytest.approx(expected, rel=1e-6)


def test_share_interval_stays_within_zero_and_one() -> None:
    hits = np.array([True] * 19 + [False])
    estimate = distances.share_estimate(hits, 100, np.random.default_rng(21))
    assert (estimate.value, estimate.high) == (0.95, 1.0)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "feature sizes differ: 3 and 4"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "first set has 1 images"),
        (np.zeros((5, 3)), np.full((5, 3), np.nan), "second set holds features that are not finite"),
    ],
)
def test_unusable_features_are_named_errors(x: np.ndarray, y: np.ndarray, words: str) -> None:
    checked = distances._checked
    with pytest.raises(MetricsError, match=words):
        checked(x, y)


def test_too_few_images_for_the_neighbours_is_an_error() -> None:
    with pytest.raises(MetricsError, match="3 neighbours"):
        distances.precision_recall(np.zeros((9, 2)), np.zeros((3, 2)), 3)


def test_rows_that_are_not_distributions_are_an_error() -> None:
    with pytest.raises(MetricsError, match="one distribution over classes"):
        distances.classifier_score(np.ones((3, 4)))

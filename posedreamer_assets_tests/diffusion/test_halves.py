"""Half images: which tokens they hold, and that they show the body."""

import numpy as np

from posedreamer_assets.diffusion.halves import body_share, body_window, half_windows


def test_half_windows_cover_half_the_grid_upright_and_lying() -> None:
    windows = half_windows(4, 4)
    assert windows.shape == (6, 8)
    rows, columns = windows // 4, windows % 4
    assert [sorted(set(c.tolist())) for c in columns[:3]] == [[0, 1], [1, 2], [2, 3]]
    assert [sorted(set(r.tolist())) for r in rows[3:]] == [[0, 1], [1, 2], [2, 3]]


def test_the_window_shows_more_of_the_body_than_any_other() -> None:
    rng = np.random.default_rng(0)
    share = (rng.random((50, 64)) ** 8).astype(np.float32)
    chosen = body_window(share, half_windows(8, 8), rng)
    shown = np.array([[row[list(window)].sum() for window in half_windows(8, 8)] for row in share])
    np.testing.assert_allclose(shown[np.arange(50), chosen], shown.max(1), atol=2e-3)


def test_windows_of_a_grid_that_is_wider_than_high_have_one_size() -> None:
    windows = half_windows(4, 6)
    assert windows.shape == (4 + 3, 12)
    assert all(len(set(window.tolist())) == 12 for window in windows)


def test_the_body_share_counts_pixels_that_are_not_black() -> None:
    control = np.zeros((8, 16, 3), np.uint8)
    control[0:4, 4:8, 1] = 9  # a whole token
    control[4, 12, 0] = 1  # one pixel of sixteen
    naive = [
        np.mean([control[y, x].any() for y in range(4 * r, 4 * r + 4) for x in range(4 * c, 4 * c + 4)])
        for r in range(2)
        for c in range(4)
    ]
    np.testing.assert_allclose(body_share(control, 2, 4), naive)
    assert naive[1] == 1.0
    assert naive[7] == 1 / 16

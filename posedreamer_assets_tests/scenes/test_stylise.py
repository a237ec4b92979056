"""Stylised regions: identity, the closed form of two Gaussians, and what is left alone."""

import numpy as np
import pytest

from posedreamer_assets.scenes.stylise import NO_STYLE, STYLISED, TOO_SMALL, stylise, transported

RNG = np.random.default_rng(0)
HALF = np.zeros((64, 64), bool)
HALF[:, :32] = True


def gaussian(mean: tuple[float, ...], spread: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    values = np.array(mean) + RNG.normal(0, 1, (*shape, 3)) @ spread.T
    return np.clip(values * 255, 0, 255).astype(np.uint8)


def test_colours_get_the_mean_and_covariance_of_the_style() -> None:
    content = RNG.normal(0, 1, (4000, 3)) @ np.diag([0.2, 0.1, 0.05]) + 0.3
    style = RNG.normal(0, 1, (5000, 3)) @ np.array([[0.1, 0.05, 0], [0, 0.1, 0], [0.02, 0, 0.1]]) + 0.6
    moved = transported(content, content, style)
    assert moved.mean(axis=0) == pytest.approx(style.mean(axis=0), abs=1e-9)
    assert np.cov(moved.T) == pytest.approx(np.cov(style.T), abs=2e-3)  # but for the ridge on both sides


def test_the_map_is_the_one_of_least_transport() -> None:
    """Symmetric and positive: the gradient of a convex function, which least transport between Gaussians is."""
    content, style = (
        RNG.normal(0, 0.1, (3000, 3)),
        RNG.normal(0, 1, (3000, 3)) @ np.array([[0.2, 0.1, 0], [0, 0.1, 0], [0, 0, 0.3]]),
    )
    origin = transported(np.zeros((1, 3)), content, style)
    matrix = (transported(np.eye(3), content, style) - origin).T
    assert matrix == pytest.approx(matrix.T, abs=1e-9) and (np.linalg.eigvalsh(matrix) > 0).all()


def test_a_region_made_like_its_own_copy_stays() -> None:
    tile = gaussian((0.5, 0.4, 0.6), 0.1 * np.eye(3), (64, 32))
    picture = np.concatenate([tile, tile], axis=1)
    inner = HALF.copy()
    found = stylise(picture, inner, ~inner, 50)
    assert found.status == STYLISED
    inside = found.picture[:, 4:28].astype(int) - picture[:, 4:28]
    assert np.abs(inside).max() <= 2


def test_pixels_outside_stay_and_colours_inside_come_near_to_the_style() -> None:
    picture = np.where(HALF[..., None], gaussian((0.8, 0.2, 0.2), 0.05 * np.eye(3), (64, 64)),
                       gaussian((0.3, 0.5, 0.3), 0.1 * np.eye(3), (64, 64)))  # fmt: skip
    found = stylise(picture, HALF, ~HALF, 50)
    assert np.array_equal(found.picture[~HALF], picture[~HALF])
    gap = np.abs(found.picture[HALF].mean(0) - picture[~HALF].mean(0))
    assert (gap < 3).all() and np.abs(picture[HALF].mean(0) - picture[~HALF].mean(0)).max() > 50
    assert found.colour_shift == pytest.approx(
        np.linalg.norm((found.picture[HALF] / 255 - picture[HALF] / 255), axis=1).mean()
    )


def test_a_region_of_one_colour_gives_numbers() -> None:
    picture = np.where(HALF[..., None], np.uint8(200), gaussian((0.3, 0.5, 0.3), 0.1 * np.eye(3), (64, 64)))
    found = stylise(picture.astype(np.uint8), HALF, ~HALF, 50)
    assert found.status == STYLISED and np.isfinite([found.colour_shift, found.detail_gain]).all()


@pytest.mark.parametrize(
    ("content", "style", "status"), [(30, 2000, TOO_SMALL), (2000, 30, NO_STYLE), (60, 60 * 64 - 60 * 2, STYLISED)]
)
def test_small_regions_are_left_alone_with_a_reason(content: int, style: int, status: str) -> None:
    picture = gaussian((0.5, 0.4, 0.6), 0.1 * np.eye(3), (64, 64))
    flat = np.arange(64 * 64)
    found = stylise(picture, (flat < content).reshape(64, 64), (flat >= 4096 - style).reshape(64, 64), 50)
    assert found.status == status
    assert (found.picture is picture) == (status != STYLISED)


def test_regions_of_very_different_size_are_left_alone() -> None:
    picture = gaussian((0.5, 0.4, 0.6), 0.1 * np.eye(3), (100, 100))
    flat = np.arange(10_000).reshape(100, 100)
    assert stylise(picture, flat < 60, flat >= 3000, 50).status == NO_STYLE
    assert stylise(picture, flat < 80, flat >= 3000, 50).status == STYLISED

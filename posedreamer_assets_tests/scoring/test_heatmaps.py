import numpy as np
import pytest
import torch

from posedreamer_assets.scoring.heatmaps import decode, gaussian_targets


def test_decoding_undoes_the_target() -> None:
    points = torch.tensor(np.random.default_rng(0).uniform(12, 116, (6, 17, 2)), dtype=torch.float64)
    targets = gaussian_targets(points, 32, 32, 4, 1.0)
    found = decode(np.log(np.maximum(targets.numpy(), 1e-30)).astype(np.float32), 4, 4)
    np.testing.assert_allclose(found[..., :2], points.numpy(), atol=1e-3)


def test_targets_are_distributions_with_the_keypoint_as_their_mean() -> None:
    points = torch.tensor([[[40.0, 70.0]]])
    target = gaussian_targets(points, 32, 32, 4, 1.0)[0, 0]
    assert float(target.sum()) == pytest.approx(1, abs=1e-5)
    centres = (torch.arange(32) + 0.5) * 4
    assert float((target.sum(0) * centres).sum()) == pytest.approx(40, abs=0.01)
    assert float((target.sum(1) * centres).sum()) == pytest.approx(70, abs=0.01)


def test_peaks_at_the_border_are_not_refined() -> None:
    maps = np.full((1, 1, 8, 8), -9.0, np.float32)
    maps[0, 0, 0, 5] = 1.0
    np.testing.assert_allclose(decode(maps, 2, 4)[0, 0, :2], [11.0, 2.0])


def test_confidence_tells_a_peak_from_a_plain() -> None:
    maps = np.zeros((2, 1, 16, 16), np.float32)
    maps[0, 0, 7, 7] = 20.0
    sharp, flat = decode(maps, 1, 1)[:, 0, 2]
    assert sharp > 0.99
    assert flat < 0.05


def test_a_constant_added_to_a_map_changes_nothing() -> None:
    maps = np.random.default_rng(1).normal(size=(3, 2, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(decode(maps + 5, 1, 1), decode(maps, 1, 1), atol=1e-4)

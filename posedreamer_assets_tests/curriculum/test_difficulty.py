"""The difficulty model: what it finds where there is something to find, and where there is nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import CurriculumConfig
from posedreamer_assets.curriculum.difficulty import DifficultyModel, fit_difficulty, pose_features, r_squared, spearman
from posedreamer_assets.errors import CurriculumError

CFG = CurriculumConfig(boost_rounds=120, learning_rate=0.08, folds=4)


def planted(n: int, seed: int, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """OKS that falls with two of twelve features."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 12)).astype(np.float32)
    signal = 0.7 - 0.15 * np.tanh(2 * features[:, 3]) - 0.1 * (features[:, 7] > 0)
    return features, (signal + rng.normal(0, noise, n)).astype(np.float32)


def test_a_planted_signal_is_recovered_on_held_out_rows() -> None:
    features, oks = planted(400, 0)
    model = fit_difficulty(features, oks, CFG, seed=0)
    figures = model.metrics
    assert figures["r2"] > 0.8 and figures["spearman"] > 0.85
    assert figures["r2_low"] < figures["r2"] < figures["r2_high"]
    assert figures["spearman_low"] < figures["spearman"] < figures["spearman_high"]
    fresh, truth = planted(300, 1)
    assert r_squared(truth, model.predict(fresh)) == pytest.approx(figures["r2"], abs=0.12)


def test_noise_explains_nothing() -> None:
    figures = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        features, oks = rng.normal(size=(250, 12)).astype(np.float32), rng.uniform(0.2, 1, 250).astype(np.float32)
        figures.append(fit_difficulty(features, oks, CFG, seed).metrics)
    assert max(abs(f["r2"]) for f in figures) < 0.12
    assert sum(f["spearman_low"] <= 0 <= f["spearman_high"] for f in figures) >= 2


def test_the_same_arguments_give_the_same_text_and_threads_change_nothing(tmp_path: Path) -> None:
    features, oks = planted(120, 2)
    texts, cfg = [], dataclasses.replace(CFG, boost_rounds=30)  # threads wait for each other busily on a busy computer
    for name, threads in (("a", 1), ("b", 1), ("c", 2)):
        model = fit_difficulty(features, oks, cfg, seed=3, num_threads=threads)
        model.save(tmp_path / f"{name}.txt")
        texts.append((tmp_path / f"{name}.txt").read_text().split("parameters:")[0])
    assert texts[0] == texts[1] == texts[2]


def test_saving_keeps_predictions_and_figures(tmp_path: Path) -> None:
    features, oks = planted(120, 4)
    model = fit_difficulty(features, oks, CFG, seed=0)
    model.save(tmp_path / "deep" / "model.txt")
    loaded = DifficultyModel.load(tmp_path / "deep" / "model.txt")
    np.testing.assert_array_equal(loaded.predict(features), model.predict(features))
    assert loaded.metrics == model.metrics
    assert (tmp_path / "deep" / "model.txt").read_bytes().startswith(b"tree\n")


def test_predictions_are_oks_and_do_not_depend_on_the_batch() -> None:
    features, oks = planted(150, 5)
    model = fit_difficulty(features, oks, CFG, seed=0)
    predicted = model.predict(features * 5)
    assert predicted.dtype == np.float32 and predicted.min() >= 0 and predicted.max() <= 1
    alone = np.concatenate([model.predict(row[None]) for row in features[:10] * 5])
    np.testing.assert_array_equal(alone, predicted[:10])


def test_unusable_rows_are_named() -> None:
    features, oks = planted(30, 6)
    with pytest.raises(CurriculumError, match="at least 4"):
        fit_difficulty(features[:3], oks[:3], CFG, 0)
    with pytest.raises(CurriculumError, match="folds must be"):
        fit_difficulty(features, oks, dataclasses.replace(CFG, folds=1), 0)
    oks[11] = np.nan
    with pytest.raises(CurriculumError, match="the first is row 11"):
        fit_difficulty(features, oks, CFG, 0)


def test_few_or_constant_rows_still_fit() -> None:
    features, oks = planted(6, 7)
    assert np.isfinite(list(fit_difficulty(features, oks, CFG, 0).metrics.values())).all()
    constant = fit_difficulty(features, np.full(6, 0.5, np.float32), CFG, 0)
    assert constant.metrics["r2"] == 0.0
    np.testing.assert_allclose(constant.predict(features), 0.5, atol=1e-6)


def test_damaged_models_and_other_features_are_refused(tmp_path: Path) -> None:
    features, oks = planted(40, 8)
    model = fit_difficulty(features, oks, CFG, 0)
    with pytest.raises(CurriculumError, match="takes 12 features, found 5"):
        model.predict(features[:, :5])
    model.save(tmp_path / "model.txt")
    (tmp_path / "cut.txt").write_text((tmp_path / "model.txt").read_text()[:300])
    for name in ("cut.txt", "absent.txt"):
        with pytest.raises(CurriculumError, match=name):
            DifficultyModel.load(tmp_path / name)


def test_spearman_agrees_with_scipy_and_r2_with_its_definition() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 60).astype(float), rng.normal(size=60)
    result: Any = spearmanr(a, b)
    assert spearman(a, b) == pytest.approx(result.statistic)
    assert spearman(a, np.ones(60)) == 0.0
    assert r_squared(a, a) == 1.0
    assert r_squared(a, np.full(60, a.mean())) == pytest.approx(0.0)


def cameras(n: int, turn: np.ndarray) -> Cameras:
    rotation = (np.diag([1.0, -1.0, -1.0]) @ turn).astype(np.float32)
    zeros = np.zeros(n, np.float32)
    return Cameras(
        np.broadcast_to(rotation, (n, 3, 3)),
        np.zeros((n, 3), np.float32),
        zeros + 100,
        np.zeros((n, 2), np.float32),
        128,
        128,
        zeros,
        zeros,
    )


def test_features_see_the_body_from_the_camera() -> None:
    """Body and camera turned together about the vertical look the same, but for the camera's direction."""
    rng = np.random.default_rng(0)
    params = BodyParams.zeros(3)
    orient = rng.normal(size=(3, 3)).astype(np.float32)
    params = params.replace(body_pose=rng.normal(size=(3, 21, 3)).astype(np.float32), global_orient=orient)
    turn = Rotation.from_euler("y", 70, degrees=True)
    turned = (turn * Rotation.from_rotvec(orient)).as_rotvec().astype(np.float32)
    still = pose_features(params, cameras(3, np.eye(3)))
    moved = pose_features(params.replace(global_orient=turned), cameras(3, turn.as_matrix().T))
    assert still.shape == (3, 145) and still.dtype == np.float32
    np.testing.assert_allclose(moved[:, :-3], still[:, :-3], atol=1e-5)
    assert np.abs(moved[:, -3:] - still[:, -3:]).max() > 0.5


def test_features_are_continuous_where_axis_angle_jumps() -> None:
    pose = np.zeros((2, 21, 3), np.float32)
    pose[0, 4, 0], pose[1, 4, 0] = np.pi - 1e-3, -np.pi + 1e-3
    features = pose_features(BodyParams.zeros(2).replace(body_pose=pose), cameras(2, np.eye(3)))
    assert np.abs(features[0] - features[1]).max() < 0.01

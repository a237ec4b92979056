"""Which poses the generator finds hard: gradient-boosted trees from body parameters to OKS (paper section 3.4)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_6d, axis_angle_to_matrix, matrix_to_6d
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import CurriculumConfig
from posedreamer_assets.errors import CurriculumError
from posedreamer_assets.progress import track

BETA_SCALE = 0.25  # so that one standard deviation of shape counts about as much as a clear change of a joint
BOOTSTRAP = 500
MIN_ROWS = 4
INNER_SHARE = 0.2  # of a fold's training rows, to choose the number of trees
PATIENCE = 25


def pose_features(params: BodyParams, cameras: Cameras) -> Float[np.ndarray, "n 145"]:
    """What the difficulty model sees, continuous in the pose.

    In order: the body's orientation in the camera frame and its 21 joint rotations in 6D (Zhou et al., 2019); ten betas
    times `BETA_SCALE`; the camera's viewing direction in the world. Trees do not mind the scale; distances between
    features (`hard.pose_distances`) do.
    """
    n = len(params)
    root = axis_angle_to_matrix(params.global_orient)
    view = np.einsum("nij,njk->nik", cameras.rotation.astype(np.float32), root)
    joints = axis_angle_to_6d(params.body_pose).reshape(n, -1)
    forward = cameras.rotation[:, 2].astype(np.float32)
    parts = [matrix_to_6d(view), joints, params.betas * np.float32(BETA_SCALE), forward]
    return np.concatenate(parts, axis=1, dtype=np.float32)


@dataclass(frozen=True)
class DifficultyModel:
    """A fitted booster and its held-out figures."""

    booster: lightgbm.Booster
    metrics: dict[str, Any] = field(default_factory=dict)

    def predict(self, features: Float[np.ndarray, "n d"], num_threads: int = 1) -> Float[np.ndarray, " n"]:
        """Predicted OKS in 0..1, float32.

        Raises:
            CurriculumError: another number of features than the model was fitted with.
        """
        expected = self.booster.num_feature()
        if features.shape[1] != expected:
            raise CurriculumError(f"the difficulty model takes {expected} features, found {features.shape[1]}")
        predicted = self.booster.predict(features.astype(np.float64), num_threads=num_threads)
        return np.asarray(predicted, np.float32).clip(0, 1)

    def save(self, path: Path) -> None:
        """Write LightGBM's text, and the figures as JSON beside it; never a pickle."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.booster.model_to_string())
        path.with_suffix(".json").write_text(json.dumps(self.metrics, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "DifficultyModel":
        """Read what `save` wrote.

        Raises:
            CurriculumError: no such file, or not a LightGBM text model.
        """
        try:
            text = path.read_text()
            # LightGBM's own reader can end the process on some damaged texts; whole files have both ends.
            if not text.startswith("tree\n") or "end of trees" not in text:
                raise CurriculumError(f"{path}: not a LightGBM text model")
            booster = lightgbm.Booster(model_str=text)
        except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
            raise CurriculumError(f"{path}: cannot read the difficulty model: {error}") from error
        figures = path.with_suffix(".json")
        return cls(booster, json.loads(figures.read_text()) if figures.exists() else {})


def fit_difficulty(
    features: Float[np.ndarray, "n d"],
    oks: Float[np.ndarray, " n"],
    cfg: CurriculumConfig,
    seed: int,
    num_threads: int = 1,
) -> DifficultyModel:
    """Fit on all rows; figures come from k-fold predictions of rows that were not fitted on.

    The number of trees is chosen inside of each fold on rows of its own, at most `cfg.boost_rounds`; the final model
    takes their median. The same arguments give the same model, byte for byte.

    Figures: `rows`, `folds`, `trees`, `r2` (1 - residual / variance), `spearman` with 95 % bootstrap intervals
    (`r2_low`, `r2_high`, ...), `oks_mean`, `rmse`.

    Raises:
        CurriculumError: fewer than four rows, fewer than two folds, or values that are not finite.
    """
    _check(features, oks, cfg)
    n = len(oks)
    folds = max(2, min(cfg.folds, n // 2))
    fold = np.random.default_rng(seed).permutation(n) % folds
    held_out = np.zeros(n)
    trees = []
    for k in track(range(folds)):
        booster = _fit_early_stopped(features[fold != k], oks[fold != k], cfg, seed + k, num_threads)
        held_out[fold == k] = np.asarray(booster.predict(features[fold == k], num_threads=num_threads))
        trees.append(booster.current_iteration())
    rounds = max(1, int(np.median(trees)))
    booster = lightgbm.train(_parameters(cfg, n, seed, num_threads), _data(features, oks), num_boost_round=rounds)
    figures = {"rows": n, "folds": folds, "trees": rounds, **held_out_figures(oks, held_out, seed)}
    return DifficultyModel(booster, figures)


def held_out_figures(oks: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"], seed: int) -> dict[str, float]:
    """R2, Spearman's rank correlation and their percentile bootstrap intervals over rows."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(oks), size=(BOOTSTRAP, len(oks)))
    out = {"oks_mean": float(oks.mean()), "rmse": float(np.sqrt(np.mean((oks - predicted) ** 2)))}
    for name, measure in (("r2", r_squared), ("spearman", spearman)):
        out[name] = measure(oks, predicted)
        low, high = np.percentile([measure(oks[p], predicted[p]) for p in picks], [2.5, 97.5])
        out[f"{name}_low"], out[f"{name}_high"] = float(low), float(high)
    return out


def r_squared(truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"]) -> float:
    """1 - squared error / variance; 0 where the truth does not vary."""
    total = float(((truth - truth.mean()) ** 2).sum())
    return 0.0 if total < 1e-12 else 1.0 - float(((truth - predicted) ** 2).sum()) / total


def spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Correlation of ranks, ties averaged; 0 where one side does not vary."""
    ra, rb = rankdata(a), rankdata(b)
    ra, rb = ra - ra.mean(), rb - rb.mean()
    norm = float(np.sqrt((ra**2).sum() * (rb**2).sum()))
    return 0.0 if norm < 1e-12 else float((ra * rb).sum()) / norm


def _check(features: np.ndarray, oks: np.ndarray, cfg: CurriculumConfig) -> None:
    if len(oks) < MIN_ROWS:
        raise CurriculumError(f"the difficulty model needs at least {MIN_ROWS} scored samples, found {len(oks)}")
    if cfg.folds < 2 or cfg.boost_rounds < 1:
        raise CurriculumError(
            f"curriculum.folds must be at least 2, found {cfg.folds}; boost_rounds {cfg.boost_rounds}"
        )
    bad = ~(np.isfinite(features).all(1) & np.isfinite(oks))
    if bad.any():
        raise CurriculumError(f"{int(bad.sum())} rows are not finite, the first is row {int(bad.argmax())}")


def _parameters(cfg: CurriculumConfig, rows: int, seed: int, num_threads: int) -> dict[str, Any]:
    return {
        "objective": "regression",
        "learning_rate": cfg.learning_rate,
        "num_leaves": 15,
        "min_data_in_leaf": max(1, min(20, rows // 12)),
        "min_data_in_bin": 1,
        "feature_fraction": 0.6,
        "lambda_l2": 1.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,  # the automatic choice times both ways and may differ from run to run
        "num_threads": num_threads,
        "verbosity": -1,
    }


def _data(features: np.ndarray, oks: np.ndarray, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        features.astype(np.float64), oks.astype(np.float64), reference=reference, free_raw_data=True
    )


def _fit_early_stopped(
    features: np.ndarray, oks: np.ndarray, cfg: CurriculumConfig, seed: int, num_threads: int
) -> lightgbm.Booster:
    """Choose the number of trees on a fifth of the rows, then fit that many on all."""
    n = len(oks)
    order = np.random.default_rng(seed).permutation(n)
    inner = order[: max(1, int(n * INNER_SHARE))]
    rest = order[len(inner) :]
    parameters = _parameters(cfg, len(rest), seed, num_threads)
    fitted = _data(features[rest], oks[rest])
    chosen = lightgbm.train(
        parameters,
        fitted,
        num_boost_round=cfg.boost_rounds,
        valid_sets=[_data(features[inner], oks[inner], reference=fitted)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return lightgbm.train(parameters, _data(features, oks), num_boost_round=max(1, chosen.best_iteration))

"""The difficulty model's rows, and the poses that it expects to fail."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.config import Profile
from posedreamer_assets.curriculum.difficulty import DifficultyModel, fit_difficulty, pose_features
from posedreamer_assets.curriculum.hard import select_hard
from posedreamer_assets.errors import CurriculumError
from posedreamer_assets.pipeline.pose_batches import PresentFiles
from posedreamer_assets.pipeline.pose_library import batch_ids, draw_poses, pose_rows
from posedreamer_assets.tables.fields import HARD_SAMPLES
from posedreamer_assets.tables.rows import array, bodies, cameras, make_table, texts

MODEL_FILE = "difficulty.txt"


@dataclass(frozen=True)
class DifficultyFit:
    """A fitted model, ready to be written."""

    model: DifficultyModel

    def write(self, folder: Path) -> dict[str, Any]:
        """Save it as LightGBM text and return its held-out figures."""
        self.model.save(folder / MODEL_FILE)
        return dict(self.model.metrics)


def fit_from_rows(profile: Profile, poses: pa.Table, scores: pa.Table) -> DifficultyFit:
    """Fit OKS of the base round from its poses; rows are matched by sample id."""
    oks = dict(zip(texts(scores, "sample_id"), array(scores, "oks"), strict=True))
    scored = poses.filter(pa.array([i in oks and np.isfinite(oks[i]) for i in texts(poses, "sample_id")]))
    target = np.array([oks[i] for i in texts(scored, "sample_id")], np.float32)
    if len(target) == 0:
        raise CurriculumError("no scored poses to learn difficulty from")
    features = pose_features(bodies(scored), cameras(scored))
    return DifficultyFit(fit_difficulty(features, target, profile.curriculum, profile.seed))


def make_hard_table(
    profile: Profile, body: BodyModel, model_folder: Path, key: str, files: PresentFiles | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Rows of `records.HARD_SAMPLES`, and figures of the choice.

    The pool has the ids `<key>/000000` onwards; a chosen pose keeps its id, so that it is the same pose, camera and
    caption whatever else is chosen.
    """
    cfg = profile.curriculum
    ids = batch_ids(key, cfg.pool_size)
    pool = make_table(pose_rows(profile, body, draw_poses(profile, body, key, ids, files), ids, key), HARD_SAMPLES)
    features = pose_features(bodies(pool), cameras(pool))
    predicted = DifficultyModel.load(model_folder / MODEL_FILE).predict(features)
    chosen = np.sort(select_hard(features, predicted, cfg.hard_batch_size, cfg.min_distance))
    rows = pool.take(pa.array(chosen))
    place = rows.schema.get_field_index("predicted_oks")
    rows = rows.set_column(place, HARD_SAMPLES.field(place), pa.array(predicted[chosen].astype(np.float32)))
    figures = {
        "pool": len(ids),
        "predicted_oks": round(float(predicted[chosen].mean()), 4),
        "pool_predicted_oks": round(float(predicted.mean()), 4),
    }
    return rows, figures

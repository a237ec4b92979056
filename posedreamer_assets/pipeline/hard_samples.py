"""Poses that the difficulty model expects to fail."""

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import difficulty_model, pose_library
from posedreamer_assets.pipeline.figures import mean
from posedreamer_assets.pipeline.rounds import Round, poses_of_batch
from posedreamer_assets.pipeline.stage import Inputs, Made, Stage
from posedreamer_assets.pipeline.thumbnails import stick_figures
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import group_of
from posedreamer_assets.tables.rows import bodies, cameras, make_table

TABLE = pose_library.TABLE


def make(inputs: Inputs) -> Made:
    """The hardest poses of a pool, no two alike.

    The pool has the ids `<key>/000000` onwards; a chosen pose keeps its id, so that it is the same pose, camera and
    caption whatever else is chosen.
    """
    from posedreamer_assets.curriculum.difficulty import DifficultyModel, pose_features
    from posedreamer_assets.curriculum.hard import select_hard

    cfg, key = inputs.profile.curriculum, inputs.key
    ids = pose_library.batch_ids(key, cfg.pool_size)
    pool = make_table(pose_library.pose_columns(inputs, ids), SCHEMAS[TABLE])
    features = pose_features(bodies(pool), cameras(pool))
    learnt = inputs.checkpoint(f"{group_of(key)}/{difficulty_model.NAME}").path / difficulty_model.MODEL_FILE
    predicted = DifficultyModel.load(learnt).predict(features)
    chosen = np.sort(select_hard(features, predicted, poses_of_batch(inputs.profile, key), cfg.min_distance))
    rows = pool.take(pa.array(chosen))
    place = rows.schema.get_field_index("predicted_oks")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(predicted[chosen].astype(np.float32)))
    said = {
        "pool": len(ids),
        "predicted_oks": round(float(predicted[chosen].mean()), 4),
        "pool_predicted_oks": round(float(predicted.mean()), 4),
    }
    return Made(rows, said, stick_figures(rows, inputs.models.body))


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """Those of the library, and how hard the poses are expected to be."""
    return {**pose_library.figures(rows, profile), "mean_predicted_oks": mean(rows, "predicted_oks")}


def stage(of: Round) -> Stage:
    """The poses of a round."""
    return Stage(
        "hard_samples",
        "One row per pose of the round (table `pose_library`): the lowest predicted OKS of a candidate pool of "
        "`curriculum.pool_size` poses, no two closer than `curriculum.min_distance`.",
        make,
        "4",
        table=TABLE,
        settings=(*pose_library.SETTINGS, "curriculum"),
        files=("poses", "captions", "caption_model"),
        checkpoints=("body_model", f"{of.name}/{difficulty_model.NAME}"),
        figures=figures,
        units=lambda profile: profile.curriculum.pool_size,
        kinds=frozenset(("lightgbm", "lance")),
    ).of_round(of.name, of.name)

"""Which poses the generator finds hard."""

import numpy as np
import pyarrow as pa

from posedreamer_assets.errors import CurriculumError
from posedreamer_assets.pipeline.rounds import Round
from posedreamer_assets.pipeline.stage import Inputs, Made, Reads, Stage
from posedreamer_assets.tables.fields import BODY, CAMERA, names_of
from posedreamer_assets.tables.rows import array, bodies, cameras, texts

MODEL_FILE = "difficulty.txt"
NAME = "difficulty_model"


def make(inputs: Inputs) -> Made:
    """Fit OKS of the rounds before from their poses; saved as LightGBM text."""
    from posedreamer_assets.curriculum.difficulty import fit_difficulty, pose_features

    poses, scores = inputs.rows("pose_library"), inputs.rows("sample_scores")
    oks = dict(zip(texts(scores, "sample_id"), array(scores, "oks"), strict=True))
    scored = poses.filter(pa.array([i in oks and np.isfinite(oks[i]) for i in texts(poses, "sample_id")], pa.bool_()))
    target = np.array([oks[i] for i in texts(scored, "sample_id")], np.float32)
    if len(target) == 0:
        raise CurriculumError("no scored poses to learn difficulty from")
    features = pose_features(bodies(scored), cameras(scored))
    model = fit_difficulty(features, target, inputs.profile.curriculum, inputs.profile.seed)
    model.save(inputs.place / MODEL_FILE)
    return Made(figures=dict(model.metrics))


def stage(of: Round) -> Stage:
    """The model that chooses the poses of a round: it reads the scores of all rounds before it."""
    return Stage(
        NAME,
        "One gradient-boosted model from body parameters and camera direction to the OKS that the rounds before reached, with R2 "
        "and rank correlation on held-out folds.",
        make,
        "1",
        settings=("curriculum.boost_rounds", "curriculum.learning_rate", "curriculum.folds"),
        reads=(
            Reads("pose_library", (*names_of(BODY), *names_of(CAMERA)), of.learns_from),
            Reads("sample_scores", ("oks",), of.learns_from),
        ),
        units=lambda profile: profile.curriculum.folds,
        kinds=frozenset(("lightgbm",)),
        starts="cron",
    ).of_round(of.name)

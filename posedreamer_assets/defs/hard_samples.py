"""Poses that the difficulty model expects to fail."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "hard_samples",
    group="curriculum",
    kinds={"lightgbm", "lance"},
    description="One row per pose of the hard round: the lowest predicted OKS of a candidate pool of "
    "`curriculum.pool_size` poses, no two closer than `curriculum.min_distance`. Columns as in `pose_library`.",
)
def hard_samples(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.pipeline.hard_samples import make_hard_table
    from posedreamer_assets.pipeline.thumbnails import stick_figures

    body = load_body(work.profile.body.model_path)
    model = work.checkpoint("difficulty_model").path
    rows, figures = make_hard_table(work.profile, body, model, work.one_key, work.pose_files)
    return work.write_rows(rows, stick_figures(rows, body), **figures)

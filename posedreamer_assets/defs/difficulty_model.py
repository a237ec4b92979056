"""Which poses the generator finds hard."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "difficulty_model",
    group="curriculum",
    kinds={"lightgbm"},
    description="One gradient-boosted model from body parameters and camera direction to the OKS that the base round "
    "reached, with R2 and rank correlation on held-out folds.",
)
def difficulty_model(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.pipeline.hard_samples import fit_from_rows

    model = fit_from_rows(work.profile, work.all_rows("pose_library"), work.all_rows("base/sample_scores"))
    return work.write_checkpoint(model.write)

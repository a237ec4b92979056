"""Which of several images of one pose shows the pose better."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "preference_pairs",
    group="alignment",
    kinds={"diffusers", "lance"},
    pool="gpu",
    description="One row per alignment pose of the train and val splits: `alignment.candidate_strengths` images of it, ranked "
    "by OKS of the ranking detector; the best and the worst make a pair when they are far enough apart and the best is "
    "good enough (`status` says why not). Test poses are never paired. With "
    "`alignment.method` none nothing is painted, and every status is `no_alignment`.",
)
def preference_pairs(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.pipeline.dpo_checkpoint import make_pair_rows

    rows, images = make_pair_rows(work.profile, work.rows("pose_library"), work.rows("base/control_maps"), work.one_key)
    return work.write_rows(rows, images)

"""The adapter that makes the generator keep to the pose."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "dpo_checkpoint",
    group="alignment",
    kinds={"diffusers", "peft"},
    pool="gpu",
    description="One LoRA adapter, trained by Flow-DPO on the train pairs, best on the val pairs, and measured on test "
    "poses by the judging detector, which neither ranked nor trained: OKS error with and without it, same noise, "
    "bootstrap interval over poses. The outside judge's figures stand beside it where one is configured. With "
    "`alignment.method` none it changes nothing and says so.",
)
def dpo_checkpoint(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.pipeline.dpo_checkpoint import align, write_unaligned

    if work.profile.alignment.off:
        return work.write_checkpoint(write_unaligned)
    outcome = align(
        work.profile,
        work.all_rows("pose_library"),
        work.all_rows("base/control_maps"),
        work.all_rows("preference_pairs"),
    )
    return work.write_checkpoint(outcome.write, outcome.before_and_after)

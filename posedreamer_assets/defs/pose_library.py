"""Who stands where, how, and in front of which camera."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "pose_library",
    group="poses",
    kinds={"numpy", "lance"},
    description="One row per pose: SMPL-X parameters (world frame, y up, ground at y = 0), camera (OpenCV), caption, "
    "appearance, provenance and licence. From procedural families, or from the batch's BVH, AMASS-style npz and fits; "
    "files that cannot be read are quarantined with a reason and counted.",
)
def pose_library(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.pipeline.pose_library import make_pose_table, quarantine_table, quarantined
    from posedreamer_assets.pipeline.thumbnails import stick_figures

    body = load_body(work.profile.body.model_path)
    rows = make_pose_table(work.profile, body, work.one_key, work.pose_files)
    errors = quarantined(work.profile, work.pose_files)
    if errors or work.store.partition("quarantine", work.one_key):
        work.store.replace_partition(
            "quarantine",
            work.one_key,
            quarantine_table(work.one_key, errors),
            input_digest=work.snapshot.input_digest(work.stage, work.key),
        )
    return work.write_rows(
        rows,
        stick_figures(rows, body),
        family_names=sorted(set(rows.column("family").to_pylist())),
        quarantined=len(errors),
    )

"""Clothed, lit renders of the same poses: reference of the quality report, and what the pocket models learn from."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "rendered_scenes",
    group="poses",
    kinds={"pyrender", "lance"},
    description="One row per pose: a render of the clothed body under sampled light before a background (procedural, "
    "or from `scenes.backgrounds`). Rows of split `reference` are what generated images are compared with, unless "
    "`quality.reference` names a folder of real images.",
)
def rendered_scenes(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.pipeline.rendered_scenes import render_scene_rows

    poses = work.rows("pose_library")
    rows, images = render_scene_rows(work.profile, poses, work.one_key)
    return work.write_rows(rows, images)

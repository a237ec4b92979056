"""A curriculum round: maps, images, scores and verdicts of one set of poses. `base` and `hard` are the same code."""

from typing import Literal

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


def round_assets(name: Literal["base", "hard"], poses: str) -> list[dg.AssetsDefinition]:
    """The four assets of a round whose poses come from the stage `poses`."""

    @stage_asset(
        f"{name}/control_maps",
        group=f"{name}_round",
        kinds={"pyrender", "lance"},
        description="One row per pose: mesh-to-RGB control image, depth (mm, 16 bit), normals, body parts, silhouette, "
        "and projected joints with visibility from the depth buffer.",
    )
    def control_maps(work: Work) -> dg.MaterializeResult:
        from posedreamer_assets.pipeline.control_maps import render_control_rows

        rows, controls = render_control_rows(work.profile, work.rows(poses), work.one_key)
        return work.write_rows(rows, controls)

    @stage_asset(
        f"{name}/raw_generations",
        group=f"{name}_round",
        kinds={"diffusers", "lance"},
        pool="gpu",
        description="One row per pose: the image painted over its control map (`generator.control`) by the generator, "
        "aligned unless `alignment.method` is none, with the seed that was used.",
    )
    def raw_generations(work: Work) -> dg.MaterializeResult:
        from posedreamer_assets.pipeline.controls import control_column
        from posedreamer_assets.pipeline.raw_generations import generate_rows

        control = control_column(work.profile.generator)
        rows, images = generate_rows(
            work.profile,
            name,
            work.rows(poses, ["sample_id", "caption"]),
            work.rows(f"{name}/control_maps", ["sample_id", control]),
            adapter=work.checkpoint("dpo_checkpoint"),
            key=work.one_key,
        )
        return work.write_rows(rows, images)

    @stage_asset(
        f"{name}/sample_scores",
        group=f"{name}_round",
        kinds={"torch", "lance"},
        pool="gpu",
        description="One row per image: OKS of the judging and of the ranking detector against the projected joints, "
        "people counted, head pose error, garment colour error.",
    )
    def sample_scores(work: Work) -> dg.MaterializeResult:
        from posedreamer_assets.pipeline.sample_scores import score_rows
        from posedreamer_assets.pipeline.thumbnails import detections

        generations = work.rows(f"{name}/raw_generations")
        rows = score_rows(work.profile, work.rows(poses), work.rows(f"{name}/control_maps"), generations, work.one_key)
        return work.write_rows(rows, detections(rows, generations))

    @stage_asset(
        f"{name}/filtered_dataset",
        group=f"{name}_round",
        kinds={"lance"},
        description="One row per image with its verdict: kept, or rejected with the reasons. Rejected rows stay.",
    )
    def filtered_dataset(work: Work) -> dg.MaterializeResult:
        from posedreamer_assets.pipeline.filtered_dataset import filter_rows, kept_first

        rows = filter_rows(
            work.profile,
            name,
            work.rows(poses),
            work.rows(f"{name}/control_maps"),
            work.rows(f"{name}/raw_generations"),
            work.rows(f"{name}/sample_scores"),
        )
        return work.write_rows(rows, kept_first(rows))

    return [control_maps, raw_generations, sample_scores, filtered_dataset]


base_round = round_assets("base", "pose_library")
hard_round = round_assets("hard", "hard_samples")

"""How close the images come to the reference set, and to their poses."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "quality_report",
    group="dataset",
    kinds={"torch"},
    description="One set of figures for all kept images: FID (2048-d; also 64-d, so labelled), KID, a classifier score "
    "named after its network, precision and recall, with intervals; and the outside judge's OKS where one is given.",
)
def quality_report(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.pipeline.quality_report import measure

    return work.write_checkpoint(
        measure(
            work.profile,
            scenes=work.all_rows("rendered_scenes"),
            maps=work.all_rows("base/control_maps"),
            generations=work.all_rows("base/raw_generations"),
            base=work.all_rows("base/filtered_dataset"),
            hard=work.all_rows("hard/filtered_dataset"),
        )
    )

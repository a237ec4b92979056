"""What people train on: the kept images of both rounds."""

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "dataset",
    group="dataset",
    kinds={"lance"},
    description="One row per kept image of either round, with label, camera, split and licence (table `dataset`, one "
    "partition for each pose batch), and a dataset card with counts.",
)
def dataset(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.pipeline.dataset import collect, some_images

    return work.write_checkpoint(
        collect(
            work.profile, work.store, work.all_keys("base/filtered_dataset"), work.all_keys("hard/filtered_dataset")
        ),
        lambda: some_images(work.store),
        releases=["dataset"],
    )

"""D_S: who stands where in scenes of many people."""

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.figures import mean_of
from posedreamer_assets.pipeline.layout_rows import TABLE, layout_table, left_out_table
from posedreamer_assets.pipeline.stage import Inputs, Made, Stage
from posedreamer_assets.tables.keys import SCENE, SCENE_TEST, sample_id
from posedreamer_assets.tables.rows import array, texts


def make(inputs: Inputs) -> Made:
    """People of each scene, placed until nobody touches another."""
    from posedreamer_assets import progress
    from posedreamer_assets.scenes.layout import lay_out

    profile, cfg = inputs.profile, inputs.profile.crowds
    names = [sample_id(inputs.key, index) for index in range(cfg.batch_size)]
    families = scene_families(profile)
    laid = [
        (name, None, lay_out(inputs.models.body, name, profile.seed, cfg, families)) for name in progress.track(names)
    ]
    return Made(layout_table(inputs.key, laid), beside={"quarantine": left_out_table(inputs.key, laid, cfg.max_tries)})


def scene_families(profile: Profile) -> tuple[str, ...]:
    """Pose families of synthetic people: those that are asked for, else those that a stand-in does not have."""
    from posedreamer_assets.scenes.stand_in import other_families

    if profile.crowds.families or profile.photos.kind != "stand_in":
        return profile.crowds.families
    return other_families()


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many people there are, and how far the camera looks down."""
    # Not the rows of person 0: who had no room has none.
    first = np.unique(np.array(texts(rows, "image_id"), str), return_index=True)[1]
    return {
        "images": len(first),
        "people_drawn": int(array(rows, "people_drawn")[first].sum()),
        "people_placed": rows.num_rows,
        "mean_camera_pitch_deg": mean_of(array(rows, "cam_pitch_deg")[first]),
    }


def scenes_of_batch(profile: Profile) -> int:
    """Units of progress of a stage that takes one for each scene."""
    return profile.crowds.batch_size


STAGE = Stage(
    "ds/scene_layouts",
    "One row per person of a scene: body, clothes, place on the ground, camera and light. The number of people is Poisson's; "
    "nobody touches another, and people for whom there is no room are counted with the reason `no_room`.",
    make,
    "1",
    table=TABLE,
    groups=(SCENE, SCENE_TEST),
    settings=("crowds", "photos.kind"),
    checkpoints=("body_model",),
    figures=figures,
    units=scenes_of_batch,
    ui_group="scenes",
    kinds=frozenset(("numpy", "lance")),
    starts="request",
)

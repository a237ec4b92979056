"""The images: people painted over control maps by the generator, aligned or as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.control_images import control_column, control_images
from posedreamer_assets.pipeline.dpo_checkpoint import adapter_in
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied, rows_of_batch
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import group_of
from posedreamer_assets.tables.rows import make_table, same_rows, texts

TABLE = "raw_generations"


def make(inputs: Inputs) -> Made:
    """Paint each pose once."""
    profile, generator = inputs.profile, inputs.models.generator
    poses, maps, adapter = inputs.rows("pose_library"), inputs.rows("control_maps"), inputs.checkpoint("dpo_checkpoint")
    aligned = adapter_in(adapter)
    made, columns = painted(inputs, poses, maps, aligned)
    count = poses.num_rows
    columns |= {
        "round": [group_of(inputs.key)] * count,
        "steps": [profile.generator.steps] * count,
        "guidance": [profile.generator.guidance] * count,
        "generator": [f"{generator.name}:{generator.digest}"] * count,
        "adapter": ["none" if aligned is None else adapter.digest] * count,
    }
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=made)


def painted(
    inputs: Inputs, poses: pa.Table, maps: pa.Table, adapter: Path | None
) -> tuple[np.ndarray, dict[str, list]]:
    """Images (n, h, w, 3) of the poses, and columns of who they are, with the seeds that follow from their ids.

    Args:
        inputs: of the stage that paints; its models and settings are used.
        poses: `sample_id` and `caption`.
        maps: the control column of the same samples.
        adapter: file of the alignment adapter; None paints without.
    """
    from posedreamer_assets.tables.images import encode

    profile = inputs.profile
    same_rows(poses, maps)
    ids, captions = texts(poses, "sample_id"), texts(poses, "caption")
    seeds = [derive_seed(profile.seed, i, "generation") for i in ids]
    controls = control_images(profile.generator, maps)
    made = inputs.models.generator.generate(controls, captions, seeds, adapter_path=adapter)
    return made, {
        "sample_id": ids,
        "partition_key": [inputs.key] * len(ids),
        "image": [encode(image, profile.image.format) for image in made],
        "caption": captions,
        "seed": seeds,
    }


def origins(profile: Profile) -> Origins:
    """Images come from control image and caption."""
    drawn = (*all_of("control_maps", control_column(profile.generator)), *all_of("pose_library", "caption"))
    return {**copied("pose_library", "sample_id", "partition_key", "image_id", "caption"), "image": drawn}


def under(stage: Stage, profile: Profile) -> Stage:
    """It reads the map that the profile's generator is given."""
    return replace(stage, reads=(stage.reads[0], Reads("control_maps", (control_column(profile.generator),))))


STAGE = Stage(
    TABLE,
    "One row per pose: the image painted over its control map (`generator.control`) by the generator, aligned unless "
    "`alignment.method` is none, with the seed that was used.",
    make,
    "1",
    table=TABLE,
    settings=("generator", "image"),
    reads=(Reads("pose_library", ("caption",)), Reads("control_maps", ("control",))),
    checkpoints=("control_checkpoint", "dpo_checkpoint"),
    origins=origins,
    units=rows_of_batch,
    under=under,
    names_checkpoint=("dpo_checkpoint", "adapter"),
    kinds=frozenset(("diffusers", "lance")),
    pool="gpu",
    only_paints=True,
)

"""Clothed, lit renders of the same poses: reference of the quality report, and what the pocket models learn from."""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.stage import POSES, Inputs, Made, Origins, Reads, Stage, all_of, copied, rows_of_batch
from posedreamer_assets.seeds import derive_seed, unit_hash
from posedreamer_assets.tables.fields import BODY, CAMERA, SCHEMAS, names_of
from posedreamer_assets.tables.rows import bodies, cameras, make_table, texts

TABLE = "rendered_scenes"
_SHOWN = (*names_of(BODY), *names_of(CAMERA), "appearance")


def make(inputs: Inputs) -> Made:
    """A picture of each pose; which rows are held out as reference is decided by their ids."""
    from posedreamer_assets.render.appearance import appearance_from_json
    from posedreamer_assets.render.scene import render_scenes
    from posedreamer_assets.tables.images import encode

    profile, poses = inputs.profile, inputs.rows("pose_library")
    ids = texts(poses, "sample_id")
    looks = [appearance_from_json(text) for text in texts(poses, "appearance")]
    pictures = render_scenes(
        inputs.models.body, bodies(poses), cameras(poses), looks, ids, profile.seed, profile.scenes
    )
    share = profile.scenes.reference_share
    columns: dict[str, Any] = {
        "sample_id": ids,
        "partition_key": [inputs.key] * len(ids),
        "image": [encode(image, profile.image.format) for image in pictures],
        "caption": texts(poses, "caption"),
        "seed": [derive_seed(profile.seed, i, "scene") for i in ids],
        "split": ["reference" if unit_hash(f"reference {i}") < share else "train" for i in ids],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=pictures)


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many rows are held out."""
    return {"reference_rows": rows.column("split").to_pylist().count("reference")}


def origins(profile: Profile) -> Origins:
    """Captions are carried along; pictures come from body, camera and look."""
    return {
        **copied("pose_library", "sample_id", "partition_key", "image_id", "caption"),
        "image": all_of("pose_library", *_SHOWN),
    }


_STAGE = Stage(
    "rendered_scenes",
    "One row per pose: a render of the clothed body under sampled light before a background (procedural, or from "
    "`scenes.backgrounds`). Rows of split `reference` are what generated images are compared with, unless "
    "`quality.reference` names a folder of real images.",
    make,
    "1",
    table=TABLE,
    groups=POSES,
    settings=("image", "scenes"),
    files=("backgrounds",),
    checkpoints=("body_model",),
    reads=(Reads("pose_library", (*_SHOWN, "caption")),),
    origins=origins,
    figures=figures,
    units=rows_of_batch,
    ui_group="poses",
    kinds=frozenset(("pyrender", "lance")),
)


def stage(every_batch: bool) -> Stage:
    """Of every pose batch, or of some alone (`scenes.reference_batches`), which are made on request, not by themselves."""
    return _STAGE if every_batch else replace(_STAGE, starts="request")

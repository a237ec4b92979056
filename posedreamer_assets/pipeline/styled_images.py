"""D_Style: mixtures whose synthetic people look like those of the photograph."""

from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import photo_people, scene_images
from posedreamer_assets.pipeline.figures import mean
from posedreamer_assets.pipeline.mixed_layouts import mixtures_of_batch
from posedreamer_assets.pipeline.scene_images import thumbnails
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, copied
from posedreamer_assets.tables.fields import OF_IMAGE, SCHEMAS, SIZE, names_of
from posedreamer_assets.tables.keys import PHOTO
from posedreamer_assets.tables.rows import make_table

TABLE = "styled_images"
ANNOTATION, WHOLE = "annotation", "whole"


def make(inputs: Inputs) -> Made:
    """Colours and detail of synthetic people, from the masks of annotated people, or the whole photograph without any."""
    from posedreamer_assets import progress
    from posedreamer_assets.scenes.stylise import stylise
    from posedreamer_assets.tables.images import decode, encode_png

    images = inputs.rows(scene_images.TABLE).to_pylist()
    annotated = photo_people.people_of_photos(
        inputs.rows(photo_people.TABLE), [row["photo_id"] for row in images], masks=True
    )
    found, sources = [], []
    for row in progress.track(images):
        picture, content = decode(row["image"]), decode(row["instances"]) > 0
        masks = [mask for mask in annotated[row["photo_id"]][1].masks if mask is not None]
        style = np.any(masks, axis=0) if masks else np.ones(content.shape, bool)
        sources.append(ANNOTATION if masks else WHOLE)
        found.append(stylise(picture, content, style, inputs.profile.style.min_pixels))
    columns: dict[str, Any] = {
        **{name: [row[name] for row in images] for name in ("sample_id", "photo_id", "width", "height")},
        "partition_key": [inputs.key] * len(images),
        "image": [encode_png(styled.picture) for styled in found],
        "status": [styled.status for styled in found],
        "style_source": sources,
        "colour_shift": [styled.colour_shift for styled in found],
        "detail_gain": [styled.detail_gain for styled in found],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=thumbnails(styled.picture for styled in found))


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many images were changed, and how much."""
    changed = rows.column("status").to_pylist().count("stylised")
    return {
        "stylised_share": round(changed / max(1, rows.num_rows), 4),
        "mean_colour_shift": mean(rows, "colour_shift"),
        "mean_detail_gain": mean(rows, "detail_gain"),
    }


def origins(profile: Profile) -> Origins:
    """Pictures come from mixtures and the masks of annotated people."""
    regions = ((scene_images.TABLE, "image"), (scene_images.TABLE, "instances"), (photo_people.TABLE, "person_mask"))
    made = ("image", "status", "style_source", "colour_shift", "detail_gain")
    return {
        **copied(scene_images.TABLE, *names_of(OF_IMAGE), *names_of(SIZE), "photo_id"),
        **dict.fromkeys(made, regions),
    }


STAGE = Stage(
    "dm/styled_images",
    "One row per mixture: colours and fine detail of its synthetic people made like those of the photograph, in closed form. "
    "Nothing else changes, so that labels are those of the mixture (scene_people).",
    make,
    "1",
    table=TABLE,
    groups=(PHOTO,),
    settings=("style",),
    reads=(
        Reads(scene_images.TABLE, ("photo_id", "image", "instances", "width", "height")),
        Reads(photo_people.TABLE, photo_people.LABELS_OF_PHOTO),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=mixtures_of_batch,
    ui_group="photos",
    kinds=frozenset(("numpy", "lance")),
)

"""D_Style: mixtures whose synthetic people look like those of the photograph."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from posedreamer_assets.scenes.stylise import Styled

TABLE = "styled_images"
ANNOTATION, WHOLE = "annotation", "whole"
_MOST_CORES = 4  # a network's features of a picture of 600 pixels take some GB


def make(inputs: Inputs) -> Made:
    """Colours and detail of synthetic people, from the masks of annotated people, or the whole photograph without any."""
    from posedreamer_assets import progress
    from posedreamer_assets.cores import map_on_cores
    from posedreamer_assets.tables.images import decode, encode_png

    stylise, cores = _stylist(inputs.profile)
    images = inputs.rows(scene_images.TABLE).to_pylist()
    annotated = photo_people.people_of_photos(
        inputs.rows(photo_people.TABLE), [row["photo_id"] for row in images], masks=True
    )
    masks = {photo: [m for m in people.masks if m is not None] for photo, (_, people) in annotated.items()}

    def styled_of(row: dict[str, Any]) -> "Styled":
        content, regions = decode(row["instances"]) > 0, masks[row["photo_id"]]
        style = np.any(regions, axis=0) if regions else np.ones(content.shape, bool)
        return stylise(decode(row["image"]), content, style)

    found = list(progress.track(map_on_cores(styled_of, images, cores)))
    columns: dict[str, Any] = {
        **{name: [row[name] for row in images] for name in ("sample_id", "photo_id", "width", "height")},
        "partition_key": [inputs.key] * len(images),
        "image": [encode_png(styled.picture) for styled in found],
        "status": [styled.status for styled in found],
        "style_source": [ANNOTATION if masks[row["photo_id"]] else WHOLE for row in images],
        "colour_shift": [styled.colour_shift for styled in found],
        "detail_gain": [styled.detail_gain for styled in found],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=thumbnails(styled.picture for styled in found))


def _stylist(profile: Profile) -> "tuple[Callable[[np.ndarray, np.ndarray, np.ndarray], Styled], int]":
    """What makes a region of a picture like another one, and how many cores may do so at a time.

    Raises:
        RenderError: a file of weights that does not fit.
    """
    least = profile.style.min_pixels
    if profile.style.weights is None:
        from posedreamer_assets.scenes.stylise import stylise

        return partial(stylise, min_pixels=least), 1
    from posedreamer_assets.cores import cores_of
    from posedreamer_assets.scenes.wct2 import load_wct2, stylise_by
    from posedreamer_assets.scoring.weights import default_device

    device = default_device()
    network = load_wct2(profile.style.weights).to(device)
    return partial(stylise_by, network, min_pixels=least), min(_MOST_CORES, cores_of(device))


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


def under(stage: Stage, profile: Profile) -> Stage:
    """What a network makes depends on its weights; rows in closed form do not say that they are none of its."""
    if profile.style.kind == "closed_form":
        return stage
    return replace(stage, settings=(*stage.settings, "style.kind"), files=(*stage.files, "style_weights"))


STAGE = Stage(
    "dm/styled_images",
    "One row per mixture: colours and fine detail of its synthetic people made like those of the photograph, in closed form "
    "or, under `style.kind: wct2`, by a network. Nothing else changes, so that labels are those of the mixture (scene_people).",
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
    under=under,
    ui_group="photos",
    kinds=frozenset(("numpy", "lance")),
)

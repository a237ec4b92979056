"""D_M: synthetic people over photographs."""

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import annotated_photos, layout_rows, scene_images
from posedreamer_assets.pipeline.layout_rows import DRAWN_FROM, placed_of
from posedreamer_assets.pipeline.mixed_layouts import mixtures_of_batch
from posedreamer_assets.pipeline.scene_images import MAPS, image_table, thumbnails
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.tables.keys import PHOTO


def make(inputs: Inputs) -> Made:
    """Each mixture at the photograph's own size; pixels that show no synthetic person are the photograph's."""
    from posedreamer_assets import progress
    from posedreamer_assets.scenes.picture import picture_of
    from posedreamer_assets.tables.images import decode_rgb

    photos = inputs.rows(annotated_photos.TABLE)
    files = dict(zip(photos.column("sample_id").to_pylist(), photos.column("image").to_pylist(), strict=True))
    drawn = []
    for placed in progress.track(placed_of(inputs.rows(layout_rows.TABLE))):
        found = picture_of(
            inputs.models.body,
            placed.params,
            placed.looks,
            placed.seeds,
            placed.instance_ids,
            placed.camera,
            placed.light,
            decode_rgb(files[placed.photo_id]),
            shadows=False,
            on_people=inputs.profile.crowds.shadows_on_people,
        )
        drawn.append((placed, *found))
    variants = [int(placed.image_id.rpartition("/")[2]) % inputs.profile.mixed.variants for placed, _, _ in drawn]
    return Made(image_table(inputs, drawn, variants), pictures=thumbnails(picture for _, picture, _ in drawn))


def origins(profile: Profile) -> Origins:
    """Pictures come from photographs, bodies, cameras and clothes."""
    geometry = all_of(layout_rows.TABLE, *DRAWN_FROM)
    return {
        **copied(layout_rows.TABLE, "photo_id"),
        **dict.fromkeys((*MAPS, "amodal_pixels"), geometry),
        "image": (*geometry, (annotated_photos.TABLE, "image")),
    }


STAGE = Stage(
    "dm/scene_images",
    "One row per mixture of a photograph: synthetic people over it at its own size, who is where, which part of the body, and "
    "depth. Pixels that show no synthetic person are the photograph's, bit for bit.",
    make,
    "2",
    table=scene_images.TABLE,
    groups=(PHOTO,),
    settings=("mixed.variants",),
    checkpoints=("body_model",),
    reads=(
        Reads(annotated_photos.TABLE, ("image",)),
        Reads(layout_rows.TABLE, ("image_id", "person", "photo_id", *DRAWN_FROM)),
    ),
    origins=origins,
    units=mixtures_of_batch,
    under=scene_images.with_shadows,
    ui_group="photos",
    kinds=frozenset(("pyrender", "lance")),
)

"""D_M: where synthetic people stand in photographs."""

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import annotated_photos, layout_rows, photo_people, scene_layouts
from posedreamer_assets.pipeline.layout_rows import layout_table, left_out_table
from posedreamer_assets.pipeline.stage import Inputs, Made, Reads, Stage
from posedreamer_assets.tables.keys import PHOTO, sample_id
from posedreamer_assets.tables.rows import texts


def make(inputs: Inputs) -> Made:
    """Some mixtures of each photograph, each with other people."""
    from posedreamer_assets import progress
    from posedreamer_assets.scenes.mix import lay_over_photo

    profile, cfg = inputs.profile, inputs.profile.mixed
    photos = inputs.rows(annotated_photos.TABLE)
    people = photo_people.people_of_photos(inputs.rows(photo_people.TABLE), texts(photos, "sample_id"))
    sizes = zip(photos.column("width").to_pylist(), photos.column("height").to_pylist(), strict=True)
    families, laid = scene_layouts.scene_families(profile), []
    for number, (photo, size) in enumerate(progress.track(list(zip(texts(photos, "sample_id"), sizes, strict=True)))):
        for variant in range(cfg.variants):
            name = sample_id(inputs.key, number * cfg.variants + variant)
            body = inputs.models.body
            laid.append((name, photo, lay_over_photo(body, name, profile.seed, people[photo][1], size, cfg, families)))
    return Made(layout_table(inputs.key, laid), beside={"quarantine": left_out_table(inputs.key, laid, cfg.max_tries)})


def mixtures_of_batch(profile: Profile) -> int:
    """Units of progress of a stage that takes one for each mixture."""
    return profile.photos.batch_size * profile.mixed.variants


STAGE = Stage(
    "dm/scene_layouts",
    "One row per synthetic person over a photograph: body, clothes, place, light, and the camera that was guessed from the "
    "annotated people. Nobody touches another; the box of somebody farther away may have a quarter of the smaller one in "
    "common with that of somebody annotated.",
    make,
    "2",
    table=layout_rows.TABLE,
    groups=(PHOTO,),
    settings=("mixed", "crowds.families", "photos.kind"),
    checkpoints=("body_model",),
    reads=(
        Reads(annotated_photos.TABLE, ("width", "height")),
        Reads(photo_people.TABLE, photo_people.LABELS_OF_PHOTO),
    ),
    figures=scene_layouts.figures,
    units=annotated_photos.photos_of_batch,
    ui_group="photos",
    kinds=frozenset(("numpy", "lance")),
)

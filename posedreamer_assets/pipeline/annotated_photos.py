"""D_R: annotated photographs, or what stands in for them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.scene_images import thumbnails
from posedreamer_assets.pipeline.stage import Inputs, Made, Stage
from posedreamer_assets.seeds import unit_hash
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PHOTO, sample_id
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from posedreamer_assets.scenes.photos import Photo

TABLE = "annotated_photos"


def make(inputs: Inputs) -> Made:
    """The photographs of the batch, with their people."""
    from posedreamer_assets.scenes.photos import people_to_json
    from posedreamer_assets.tables.images import decode_rgb, encode_png

    profile, photos = inputs.profile, photos_of(inputs)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, index) for index in range(len(photos))],
        "partition_key": [inputs.key] * len(photos),
        "kind": [profile.photos.kind] * len(photos),
        "name": [photo.name for photo in photos],
        "image": [photo.data for photo in photos],
        "width": [photo.width for photo in photos],
        "height": [photo.height for photo in photos],
        "ignore_mask": [encode_png(np.where(photo.ignore, 255, 0).astype(np.uint8)) for photo in photos],
        "annotations": [people_to_json(photo.people) for photo in photos],
        "split": [split_of(photo.data, profile, held_out=photo.held_out) for photo in photos],
        "licence": [photo.licence for photo in photos],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=thumbnails(decode_rgb(photo.data) for photo in photos))


def photos_of(inputs: Inputs) -> "list[Photo]":
    """The photographs of the batch.

    Raises:
        PhotoError: files that cannot be used, or a batch beyond the last photograph.
    """
    from posedreamer_assets import progress
    from posedreamer_assets.errors import PhotoError
    from posedreamer_assets.scenes.photo_files import photos_between
    from posedreamer_assets.scenes.stand_in import stand_in_photo

    cfg = inputs.profile.photos
    if cfg.kind == "stand_in":
        names = [sample_id(inputs.key, index) for index in range(cfg.batch_size)]
        seed, body = inputs.profile.seed, inputs.models.body
        traced = cfg.stand_in == "traced"
        return [stand_in_photo(body, name, seed, cfg.size, traced=traced) for name in progress.track(names)]
    first = int(inputs.key.rpartition("-")[2]) * cfg.batch_size
    found = photos_between(cfg, first, cfg.batch_size)
    if not found:
        raise PhotoError(
            f"{inputs.key}: {cfg.annotations} has no more than {first} photographs with annotated people; lower "
            "learning_to_train.photo_batches or photos.batch_size"
        )
    return found


def split_of(data: bytes, profile: Profile, *, held_out: bool = False) -> str:
    """train, val or test by the content of the photograph, so that a copy is never in two of them.

    Where groups of people are drawn for tests, `held_out` says whether the photograph has one, and content tells train from val.
    """
    from hashlib import blake2b

    if held_out:
        return "test"
    cfg = profile.photos
    test_share = 0.0 if cfg.kind == "mpii" and cfg.test_groups is not None else cfg.test_share
    place = unit_hash(blake2b(data, digest_size=16).hexdigest())
    if place < test_share:
        return "test"
    return "val" if place < test_share + cfg.val_share else "train"


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many photographs are for what."""
    splits = rows.column("split").to_pylist()
    return {f"{name}_photos": splits.count(name) for name in ("train", "val", "test")}


def photos_of_batch(profile: Profile) -> int:
    """Units of progress of a stage that takes one for each photograph."""
    return profile.photos.batch_size


def under(stage: Stage, profile: Profile) -> Stage:
    """Stand-ins depend on who draws them, where it is not the rasteriser."""
    if profile.photos.kind != "stand_in" or profile.photos.stand_in == "raster":
        return stage
    return replace(stage, settings=(*stage.settings, "photos.stand_in"))


STAGE = Stage(
    "photos/annotated_photos",
    "One row per annotated photograph: its file, its people, and who is in it without being annotated. Where no photographs are "
    "given, a rendered domain that is held apart stands in for them: `kind` is then `stand_in`.",
    make,
    "2",
    table=TABLE,
    groups=(PHOTO,),
    settings=("photos",),
    files=("photos", "photo_annotations", "photo_groups"),
    checkpoints=("body_model",),
    figures=figures,
    units=photos_of_batch,
    under=under,
    ui_group="photos",
    kinds=frozenset(("numpy", "lance")),
    starts="request",
)

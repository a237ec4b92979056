"""Features of the frozen backbone, once for all students: of some augmented copies of each training image, and of test images."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.pipeline.student_study import FEATURES, spec_of
from posedreamer_assets.seeds import sample_rng
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import BASE
from posedreamer_assets.tables.keys import TESTED as TEST_GROUPS
from posedreamer_assets.tables.rows import images, make_table, same_rows, texts

if TYPE_CHECKING:
    from posedreamer_assets.students.augment import Augmentation

TABLE = "student_features"
COLUMN_OF = {"rendered_scenes": "rendered", "raw_generations": "generated", "unaligned_generations": "unaligned"}


def make(inputs: Inputs) -> Made:
    """Features of each image of the batch, of its render as well where the round has some."""
    from posedreamer_assets.students.features import Backbone

    spec = spec_of(inputs.profile)
    backbone = Backbone(spec.init)
    read = {reads.table: inputs.rows(reads.table) for reads in inputs.stage.reads}
    same_rows(*read.values())
    ids = texts(next(iter(read.values())), "sample_id")
    seed = inputs.profile.seed
    found: dict[str, Any] = {
        "sample_id": ids,
        **{COLUMN_OF[table]: _copies(backbone, rows, ids, seed, spec.copies) for table, rows in read.items()},
    }
    return Made(_rows(inputs, found, spec.copies, backbone.digest))


def make_tested(inputs: Inputs) -> Made:
    """Features of test images as they are."""
    from posedreamer_assets.students.features import Backbone

    backbone = Backbone(spec_of(inputs.profile).init)
    rows = inputs.rows("benchmark_images")
    features = backbone(images(rows, "image"))
    found = {"sample_id": texts(rows, "sample_id"), "tested": [one.tobytes() for one in features]}
    return Made(_rows(inputs, found, 1, backbone.digest))


def augmentations(seed: int, name: str, copies: int, width: int, height: int) -> "list[Augmentation]":
    """What is done to each copy of a sample's images; the first one is left as it is."""
    from posedreamer_assets.students.augment import Augmentation, sample_augmentation

    others = [sample_augmentation(sample_rng(seed, name, f"student copy {k}"), width, height) for k in range(1, copies)]
    return [Augmentation(), *others]


def features_in(rows: pa.Table, column: str) -> np.ndarray:
    """The features (n, copies, width) of a column, half precision."""
    from posedreamer_assets.students.features import WIDTH

    found = [np.frombuffer(blob, np.float16).reshape(-1, WIDTH) for blob in rows.column(column).to_pylist()]
    return np.stack(found)


def _copies(backbone: Any, rows: pa.Table, ids: list[str], seed: int, copies: int) -> list[bytes]:
    from posedreamer_assets.students.augment import augment_image

    pictures = images(rows, "image")
    height, width = pictures.shape[1:3]
    changed = [
        augment_image(picture, aug)
        for name, picture in zip(ids, pictures, strict=True)
        for aug in augmentations(seed, name, copies, width, height)
    ]
    features = backbone(np.stack(changed)).reshape(len(ids), -1)
    return [one.tobytes() for one in features]


def _rows(inputs: Inputs, found: dict[str, Any], copies: int, backbone: str) -> pa.Table:
    count = len(found["sample_id"])
    columns = {
        "partition_key": [inputs.key] * count,
        "copies": [copies] * count,
        "backbone": [backbone] * count,
        **found,
    }
    return make_table(columns, SCHEMAS[TABLE])


def stage(name: str, unaligned: bool = False) -> Stage:
    """Of a round; only the base round has renders, and images without alignment where a recipe takes them."""
    tables = tuple(COLUMN_OF)[: 3 if unaligned else 2] if name == BASE else ("raw_generations",)
    origins: Origins = {COLUMN_OF[table]: all_of(table, "image") for table in tables}
    whole = {**copied("raw_generations", "sample_id", "partition_key", "image_id"), **origins}
    return Stage(
        TABLE,
        "One row per training image: features of a frozen network on augmented copies of the image"
        + (", and on those of its render and of what is painted without alignment." if name == BASE else "."),
        make,
        "1",
        table=TABLE,
        settings=(FEATURES,),
        files=("student_init",),
        reads=tuple(Reads(table, ("image",)) for table in tables),
        origins=lambda profile: whole,
        units=lambda profile: 2 * spec_of(profile).copies * profile.poses.batch_size,
        kinds=frozenset(("torch", "lance")),
        starts="request",
    ).of_round(name, name)


TESTED = replace(
    stage(BASE),
    key=f"benchmark/{TABLE}",
    about="One row per test image: features of the frozen network on the image as it is.",
    make=make_tested,
    groups=TEST_GROUPS,
    reads=(Reads("benchmark_images", ("image",)),),
    seeded=False,
    origins=lambda profile: {
        **copied("benchmark_images", "sample_id", "partition_key", "image_id"),
        "tested": all_of("benchmark_images", "image"),
    },
    units=lambda profile: profile.students.test_renders,
    ui_group="students",
)

"""People that a network finds in photographs of the test split."""

from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import annotated_photos, photo_people, pose2d_students
from posedreamer_assets.pipeline.arm_samples import LABELS, TEST, people_of_photographs, photos_of_split
from posedreamer_assets.pipeline.arm_study import TRAINED, arm_of
from posedreamer_assets.pipeline.pose2d_students import weights_of
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, copied
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PHOTO, sample_id
from posedreamer_assets.tables.rows import make_table

TABLE = "pose2d_predictions"
FOUND = ("found_2d", "found_joints", "found_scores")


def make(inputs: Inputs) -> Made:
    """A row for each test photograph, whether anybody is found in it or not.

    Of its labels only the mean size of its people is used, as MPII's protocol allows: images are looked at where they are as
    large as in training.
    """
    from posedreamer_assets import progress
    from posedreamer_assets.people2d.predict import find_people, load_network, typical_scale
    from posedreamer_assets.tables.images import decode_rgb

    cfg, (arm, number) = inputs.profile.pose2d, arm_of(inputs.key)
    data = inputs.rows(pose2d_students.TABLE, ["weights"]).column("weights")[0].as_py()
    network = load_network(weights_of(data), cfg)
    photos = photos_of_split(inputs, TEST)
    files = inputs.take(annotated_photos.TABLE, photos, ["image"]).column("image")
    sizes = sizes_of_people(inputs.rows(photo_people.TABLE))
    mean = float(np.mean(np.concatenate([*sizes.values()]))) if sizes else cfg.person_share * cfg.size
    found = []
    for photo, file in progress.track(list(zip(photos, files, strict=True))):
        typical = typical_scale(sizes.get(photo, np.array([mean])), cfg)
        scales = tuple(scale * typical for scale in cfg.scales)
        found.append(find_people(network, decode_rgb(file.as_py()), cfg, scales))
    count = len(photos)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, index) for index in range(count)],
        "partition_key": [inputs.key] * count,
        "arm": [arm.name] * count,
        "training_seed": [number] * count,
        "photo_id": photos,
        "split": [TEST] * count,
        "people_found": [len(one.joints) for one in found],
        "found_2d": [np.where(one.found[..., None], one.joints, 0.0).ravel().tolist() for one in found],
        "found_joints": [one.found.ravel().tolist() for one in found],
        "found_scores": [np.where(one.found, one.scores, 0.0).ravel().tolist() for one in found],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


def predicted_of(row: dict[str, Any]) -> "Any":
    """The people of a row, as the metric takes them."""
    from posedreamer_assets.metrics.mpii_ap import JOINTS, Predicted

    return Predicted(
        np.array(row["found_2d"], float).reshape(-1, JOINTS, 2),
        np.array(row["found_joints"], bool).reshape(-1, JOINTS),
        np.array(row["found_scores"], float).reshape(-1, JOINTS),
    )


def sizes_of_people(rows: pa.Table) -> dict[str, np.ndarray]:
    """By photograph, how long its people are, pixels."""
    from posedreamer_assets.people2d.samples import Picture, person_sizes

    empty = np.zeros((1, 1, 3), np.uint8)
    return {
        name: person_sizes(Picture(empty, of.joints, of.known, of.synthetic, of.head_px))
        for name, of in people_of_photographs(rows).items()
    }


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many people were found."""
    people = rows.column("people_found").to_pylist()
    return {"people_per_photo": round(float(np.mean(people)), 4) if people else 0.0}


def origins(profile: Profile) -> Origins:
    """People come from weights and photographs."""
    table = annotated_photos.TABLE
    sizes = tuple((photo_people.TABLE, name) for name in LABELS)
    seen = ((pose2d_students.TABLE, "weights"), (table, "image"), *sizes)
    return {
        **copied(pose2d_students.TABLE, "arm", "training_seed"),
        **dict.fromkeys(("people_found", *FOUND), seen),
        "photo_id": ((table, "sample_id"),),
        "split": ((table, "split"),),
    }


STAGE = Stage(
    TABLE,
    "One row per photograph of the test split and network: the people that it finds there, their joints and scores.",
    make,
    "1",
    table=TABLE,
    groups=TRAINED,
    settings=("pose2d",),
    reads=(
        Reads(pose2d_students.TABLE, ("arm", "training_seed", "weights")),
        Reads(annotated_photos.TABLE, ("image", "split"), (PHOTO,)),
        Reads(photo_people.TABLE, LABELS, (PHOTO,)),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=lambda profile: max(1, round(profile.photos.test_share * _photos(profile))),
    ui_group="arms",
    kinds=frozenset(("torch", "lance")),
    one_core=True,
    starts="request",
)


def _photos(profile: Profile) -> int:
    return profile.photos.batch_size * profile.learning_to_train.photo_batches

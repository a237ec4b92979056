"""People that a network finds in photographs of the test split."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import annotated_photos, photo_people, pose2d_students
from posedreamer_assets.pipeline.arm_samples import (
    LABELS,
    NOBODY,
    TEST,
    People,
    people_of_photographs,
    photos_of_split,
)
from posedreamer_assets.pipeline.arm_study import TRAINED, arm_of
from posedreamer_assets.pipeline.pose2d_students import weights_of
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, copied
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PHOTO, sample_id
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from posedreamer_assets.metrics.mpii_ap import Predicted
    from posedreamer_assets.people2d.network import PoseNet

TABLE = "pose2d_predictions"
LABELS_OF_TEST = (*LABELS, photo_people.GROUP)
FOUND = ("found_2d", "found_joints", "found_scores", "found_group")


def make(inputs: Inputs) -> Made:
    """A row for each test photograph, whether anybody is found in it or not.

    Of its labels only the mean size of its people, or of each group of them, is used, as MPII's protocol allows: images are
    looked at where people are as large as in training. The place of a group is used, too: who is found elsewhere is left out.
    """
    from posedreamer_assets import progress
    from posedreamer_assets.people2d.predict import load_network
    from posedreamer_assets.tables.images import decode_rgb

    arm, number = arm_of(inputs.key)
    data = inputs.rows(pose2d_students.TABLE, ["weights"]).column("weights")[0].as_py()
    network = load_network(weights_of(data), inputs.profile.pose2d)
    photos = photos_of_split(inputs, TEST)
    files = inputs.take(annotated_photos.TABLE, photos, ["image"]).column("image")
    people = people_of_photographs(inputs.rows(photo_people.TABLE))
    usual = _usual_size(people, inputs.profile)
    found = [
        _found(network, decode_rgb(file.as_py()), people.get(photo, NOBODY), inputs.profile, usual)
        for photo, file in progress.track(list(zip(photos, files, strict=True)))
    ]
    count = len(photos)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, index) for index in range(count)],
        "partition_key": [inputs.key] * count,
        "arm": [arm.name] * count,
        "training_seed": [number] * count,
        "photo_id": photos,
        "split": [TEST] * count,
        "people_found": [len(one) for one in found],
        "found_2d": [np.where(one.found[..., None], one.joints, 0.0).ravel().tolist() for one in found],
        "found_joints": [one.found.ravel().tolist() for one in found],
        "found_scores": [np.where(one.found, one.scores, 0.0).ravel().tolist() for one in found],
        "found_group": [None if one.group is None else one.group.tolist() for one in found],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


def _found(network: "PoseNet", image: np.ndarray, people: People, profile: Profile, usual: float) -> "Predicted":
    """Who is found in an image (h, w, 3): in all of it, or for each group of its people."""
    from posedreamer_assets.people2d.predict import find_groups, find_people, scales_of

    cfg, sizes = profile.pose2d, sizes_of(people)
    if people.group is None:
        return find_people(network, image, cfg, scales_of(sizes if len(sizes) else np.array([usual]), cfg))
    known = people.known[..., None]
    middles = (people.joints * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return find_groups(network, image, cfg, people.group, middles, sizes)


def sizes_of(people: People) -> np.ndarray:
    """How long people are, pixels: (p,)."""
    from posedreamer_assets.people2d.samples import Picture, person_sizes

    empty = np.zeros((1, 1, 3), np.uint8)
    return person_sizes(Picture(empty, people.joints, people.known, people.synthetic, people.head_px))


def _usual_size(people: Mapping[str, People], profile: Profile) -> float:
    """How long people are on average, for images in which nobody is annotated."""
    cfg = profile.pose2d
    sizes = np.concatenate([np.zeros(0), *(sizes_of(of) for of in people.values())])
    return float(sizes.mean()) if len(sizes) else cfg.person_share * cfg.size


def predicted_of(row: dict[str, Any]) -> "Predicted":
    """The people of a row, as the metric takes them."""
    from posedreamer_assets.metrics.mpii_ap import JOINTS, Predicted

    return Predicted(
        np.array(row["found_2d"], float).reshape(-1, JOINTS, 2),
        np.array(row["found_joints"], bool).reshape(-1, JOINTS),
        np.array(row["found_scores"], float).reshape(-1, JOINTS),
        None if row["found_group"] is None else np.array(row["found_group"], int),
    )


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many people were found."""
    people = rows.column("people_found").to_pylist()
    return {"people_per_photo": round(float(np.mean(people)), 4) if people else 0.0}


def origins(profile: Profile) -> Origins:
    """People come from weights and photographs."""
    table = annotated_photos.TABLE
    sizes = tuple((photo_people.TABLE, name) for name in LABELS_OF_TEST)
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
    "2",
    table=TABLE,
    groups=TRAINED,
    settings=("pose2d",),
    reads=(
        Reads(pose2d_students.TABLE, ("arm", "training_seed", "weights")),
        Reads(annotated_photos.TABLE, ("image", "split"), (PHOTO,)),
        Reads(photo_people.TABLE, LABELS_OF_TEST, (PHOTO,)),
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

"""People that a network finds in photographs of the test split, and in scenes that no network is trained on."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import annotated_photos, photo_people, pose2d_students, scene_images, scene_people
from posedreamer_assets.pipeline.arm_samples import (
    LABELS,
    LABELS_OF_SCENE,
    NOBODY,
    TEST,
    Files,
    People,
    people_of_photographs,
    people_of_scenes,
    tested_photographs,
)
from posedreamer_assets.pipeline.arm_study import TRAINED, arm_of, looking_gb, looks_at_scenes
from posedreamer_assets.pipeline.pose2d_students import weights_of
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PHOTO, SCENE_TEST, sample_id
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from posedreamer_assets.metrics.mpii_ap import Predicted
    from posedreamer_assets.people2d.network import PoseNet

TABLE = "pose2d_predictions"
LABELS_OF_TEST = (*LABELS, photo_people.GROUP)
FOUND = ("found_2d", "found_joints", "found_scores", "found_group")


def make(inputs: Inputs) -> Made:
    """A row for each test photograph, whether anybody is found in it or not, and for some arms for each held-out scene.

    Of its labels only the mean size of its people, or of each group of them, is used, as MPII's protocol allows: images are
    looked at where people are as large as in training. The place of a group is used, too: who is found elsewhere is left out.
    """
    from posedreamer_assets import progress
    from posedreamer_assets.people2d.predict import load_network

    arm, number = arm_of(inputs.key)
    data = inputs.rows(pose2d_students.TABLE, ["weights"]).column("weights")[0].as_py()
    network = load_network(weights_of(data), inputs.profile.pose2d)
    photos, scenes = _photographs(inputs), _scenes(inputs) if looks_at_scenes(inputs.key) else []
    usual = _usual_size([people for _, _, people in photos], inputs.profile)
    found = [
        _found(network, image(), people, inputs.profile, usual)
        for _, image, people in progress.track([*photos, *scenes])
    ]
    count = len(found)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, index) for index in range(count)],
        "partition_key": [inputs.key] * count,
        "arm": [arm.name] * count,
        "training_seed": [number] * count,
        "photo_id": [*(name for name, _, _ in photos), *(None for _ in scenes)],
        "scene_id": [*(None for _ in photos), *(name for name, _, _ in scenes)],
        "split": [TEST] * count,
        "people_found": [len(one) for one in found],
        "found_2d": [np.where(one.found[..., None], one.joints, 0.0).ravel().tolist() for one in found],
        "found_joints": [one.found.ravel().tolist() for one in found],
        "found_scores": [np.where(one.found, one.scores, 0.0).ravel().tolist() for one in found],
        "found_group": [None if one.group is None else one.group.tolist() for one in found],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


_Looked = tuple[str, Callable[[], np.ndarray], People]  # an image's name, the image (h, w, 3) and its people


def _photographs(inputs: Inputs) -> list[_Looked]:
    """Photographs of the split test."""
    from posedreamer_assets.tables.images import decode_rgb

    names = tested_photographs(inputs)
    files = Files(inputs, names, {annotated_photos.TABLE: ("image",)})
    people = people_of_photographs(inputs.rows(photo_people.TABLE))
    return [
        (name, lambda number=number: decode_rgb(files[number]["image"]), people.get(name, NOBODY))
        for number, name in enumerate(names)
    ]


def _scenes(inputs: Inputs) -> list[_Looked]:
    """Held-out scenes, with the people of whom a joint is seen."""
    from posedreamer_assets.tables.images import decode_rgb

    people = people_of_scenes(inputs.rows(scene_people.TABLE))
    names = sorted(people)
    files = Files(inputs, names, {scene_images.TABLE: ("image",)})
    return [
        (name, lambda number=number: decode_rgb(files[number]["image"]), people[name].take(people[name].more["seen"]))
        for number, name in enumerate(names)
    ]


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


def _usual_size(people: Sequence[People], profile: Profile) -> float:
    """How long people are on average, for images in which nobody is annotated."""
    cfg = profile.pose2d
    sizes = np.concatenate([np.zeros(0), *(sizes_of(of) for of in people)])
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
    people, of = rows.column("people_found").to_pylist(), rows.column("scene_id").to_pylist()
    photos = [count for count, scene in zip(people, of, strict=True) if scene is None]
    scenes = [count for count, scene in zip(people, of, strict=True) if scene is not None]
    found = {"people_per_photo": round(float(np.mean(photos)), 4) if photos else 0.0}
    return found | ({"people_per_scene": round(float(np.mean(scenes)), 4)} if scenes else {})


def origins(profile: Profile) -> Origins:
    """People come from weights and images."""
    table = annotated_photos.TABLE
    sizes = tuple((photo_people.TABLE, name) for name in LABELS_OF_TEST)
    scenes = (*all_of(scene_images.TABLE, "image"), *all_of(scene_people.TABLE, *LABELS_OF_SCENE))
    seen = ((pose2d_students.TABLE, "weights"), (table, "image"), *sizes, *scenes)
    return {
        **copied(pose2d_students.TABLE, "arm", "training_seed"),
        **dict.fromkeys(("people_found", *FOUND), seen),
        "photo_id": ((table, "sample_id"),),
        "scene_id": ((scene_images.TABLE, "sample_id"),),
        "split": ((table, "split"),),
    }


STAGE = Stage(
    TABLE,
    "One row per photograph of the test split and network, and, of arms without mixtures and groups, per held-out scene: the "
    "people that it finds there, their joints and scores.",
    make,
    "2",
    table=TABLE,
    groups=TRAINED,
    settings=("pose2d",),
    reads=(
        Reads(pose2d_students.TABLE, ("arm", "training_seed", "weights")),
        Reads(annotated_photos.TABLE, ("image", "split"), (PHOTO,)),
        Reads(photo_people.TABLE, LABELS_OF_TEST, (PHOTO,)),
        Reads(scene_images.TABLE, ("image",), (SCENE_TEST,), looks_at_scenes),
        Reads(scene_people.TABLE, LABELS_OF_SCENE, (SCENE_TEST,), looks_at_scenes),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=lambda profile: max(1, round(profile.photos.test_share * _photos(profile))),
    ui_group="arms",
    kinds=frozenset(("torch", "lance")),
    one_core=True,
    memory_gb=looking_gb,
    starts="request",
)


def _photos(profile: Profile) -> int:
    return profile.photos.batch_size * profile.learning_to_train.photo_batches

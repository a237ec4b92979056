"""Test images of students from the user's own files: photographs and other people's data sets, none of them shipped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.config import Profile, UserTestSet
from posedreamer_assets.errors import StudentError
from posedreamer_assets.pipeline import benchmark_images
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.pipeline.student_study import TEST_SET, user_set_of
from posedreamer_assets.progress import advance
from posedreamer_assets.seeds import derive_seed, unit_hash
from posedreamer_assets.tables.fields import BODY_COLUMNS, SCHEMAS
from posedreamer_assets.tables.keys import BENCH_USER, sample_id, source_of
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel
    from posedreamer_assets.students.outside import Crop, Person

_SMPLX_VERTICES = 10475
_WORLD = np.diag([1.0, -1.0, -1.0])  # a level camera's axes to a world with y up


def make(inputs: Inputs) -> Made:
    """Crops of the people that the user's files describe, with what is true of them there."""
    from posedreamer_assets.students.outside import crop_about, picture_of, turned
    from posedreamer_assets.tables.images import encode

    profile, body = inputs.profile, inputs.models.body
    test_set = user_set_of(profile, inputs.key)
    assert test_set is not None, "keys are planned from the profile's test sets"
    size = (profile.image.width, profile.image.height)
    people = [_known_joints(one, body) for one in _chosen(test_set, _read(test_set, body))]
    crops = [crop_about(one.box, one.intrinsics, *size) for one in people]
    pictures = []
    for one, crop in zip(people, crops, strict=True):
        pictures.append(picture_of(one.picture, crop, *size))
        advance(1)
    moved = [turned(one, crop) for one, crop in zip(people, crops, strict=True)]
    ids = [sample_id(inputs.key, i) for i in range(len(people))]
    own = _own_sha256(profile)
    count = len(people)
    columns: dict[str, Any] = {
        "sample_id": ids,
        "partition_key": [inputs.key] * count,
        "test_set": [source_of(inputs.key)] * count,
        "domain": ["photo"] * count,
        "image": [encode(picture, profile.image.format) for picture in pictures],
        "pose_group": [f"{source_of(inputs.key)}/{one.group}" for one in people],
        "family": [test_set.kind] * count,
        "licence": [test_set.licence] * count,
        "seed": [derive_seed(benchmark_images.SEED, f"{inputs.key} {one.name}", "user") for one in people],
        "shown": [one.name for one in people],
        "labels": [_kind(one, body, own) for one in people],
        **_parameters(body, people, crops, own),
        **_cameras(crops, size),
        **_partial(moved),
        "truncated": [None] * count,
        "body_digest": [inputs.checkpoint("body_model").digest] * count,
    }
    return Made(make_table(columns, SCHEMAS[benchmark_images.TABLE]), pictures=np.stack(pictures))


def _read(test_set: UserTestSet, body: "BodyModel") -> "list[Person]":
    """Everybody in the files.

    Raises:
        StudentError: files that cannot be used, or a setting that the kind needs.
    """
    from posedreamer_assets.students.outside_arrays import BY_IMAGES, read_ehf
    from posedreamer_assets.students.outside_json import read_coco, read_eft, read_neuralannot

    def needed(setting: str) -> Path:
        given = getattr(test_set, setting)
        if not given:
            raise StudentError(
                f"students.test_sets: {test_set.name or 'a test set'}: {test_set.kind} needs `{setting}`"
            )
        return Path(given).expanduser()

    path = needed("path")
    if not path.exists():
        raise StudentError(f"students.test_sets: {test_set.name}: {path} does not exist")
    if test_set.kind == "ehf":
        return read_ehf(path, needed("camera"), len(body.v_template))
    if test_set.kind == "neuralannot":
        return read_neuralannot(path, needed("annotations"), needed("images"))
    readers: dict[str, Callable[[Path, Path], list[Person]]] = {"coco": read_coco, "eft": read_eft, **BY_IMAGES}
    return readers[test_set.kind](path, needed("images"))


def _chosen(test_set: UserTestSet, people: "list[Person]") -> "list[Person]":
    """Those who are large and annotated enough, so many of them by a hash of their names.

    Raises:
        StudentError: none is left.
    """

    def usable(one: "Person") -> bool:
        if one.box[2:].max() < test_set.least_px or one.box[2:].min() <= 0:
            return False
        has_3d = any(value is not None for value in (one.joints_m, one.rotations, one.vertices_m))
        return has_3d or (one.labelled is not None and one.labelled.sum() >= test_set.least_keypoints)

    found = sorted((one for one in people if usable(one)), key=lambda one: (unit_hash(one.name), one.name))
    if not found:
        raise StudentError(
            f"students.test_sets: {test_set.name}: none of {len(people)} people has {test_set.least_keypoints} keypoints or 3D "
            f"labels, and a box of {test_set.least_px} pixels; lower least_keypoints or least_px"
        )
    return sorted(found[: test_set.people], key=lambda one: one.name)


def _own_sha256(profile: Profile) -> str:
    from posedreamer_assets.body.model import FREE_BODY_PATH
    from posedreamer_assets.export.records import sha256

    return sha256(Path(profile.body.model_path).expanduser() if profile.body.model_path else FREE_BODY_PATH)


def _is_whole(one: "Person", body: "BodyModel", own: str) -> bool:
    """Whether its parameters are of this home's very body."""
    smplx = one.body == "smplx" and len(body.v_template) == _SMPLX_VERTICES
    return one.params is not None and bool(one.body) and (one.body == own or smplx)


def _kind(one: "Person", body: "BodyModel", own: str) -> str:
    if _is_whole(one, body, own):
        return "body"
    if one.vertices_m is not None:
        return "mesh"
    return "pose" if one.joints_m is not None or one.rotations is not None else "keypoints"


def _known_joints(one: "Person", body: "BodyModel") -> "Person":
    """Where the home has SMPL-X itself, the 22 joints follow from its parameters, whatever hands are relative to."""
    from posedreamer_assets.students.labels import BODY_JOINTS

    if one.params is None or one.joints_m is not None or len(body.v_template) != _SMPLX_VERTICES:
        return one
    return replace(one, joints_m=body.joints(one.params)[0, :BODY_JOINTS].astype(float))


def _parameters(body: "BodyModel", people: "list[Person]", crops: "list[Crop]", own: str) -> dict[str, Any]:
    """SMPL-X columns in a world with y up that the crop's camera looks at level; null where the body is another one."""
    from posedreamer_assets.poses.sources.clips import turn_world

    flat: dict[str, list[Any]] = {name: [] for name in BODY_COLUMNS}
    for one, crop in zip(people, crops, strict=True):
        world = None
        if one.params is not None and _is_whole(one, body, own):
            world = turn_world(body, one.params, _WORLD @ crop.turn).to_flat()
        for name, values in flat.items():
            values.append(None if world is None else world[name][0].tolist())
    return flat


def _cameras(crops: "list[Crop]", size: tuple[int, int]) -> dict[str, Any]:
    from posedreamer_assets.cameras.pinhole import Cameras

    count = len(crops)
    level = np.zeros(count, np.float32)
    return Cameras(
        np.tile(_WORLD, (count, 1, 1)).astype(np.float32),
        np.zeros((count, 3), np.float32),
        np.array([crop.focal_px for crop in crops], np.float32),
        np.tile(np.array(size, np.float32) / 2, (count, 1)),
        *size,
        level,
        level,
    ).to_flat()


def _partial(people: "list[Person]") -> dict[str, Any]:
    """What is known in the crop beside whole bodies; NaN where it is not."""
    count = len(people)
    joints, rotations = np.full((count, 22, 3), np.nan), np.full((count, 22, 3, 3), np.nan)
    keypoints = np.full((count, 17, 2), np.nan)
    for i, one in enumerate(people):
        if one.joints_m is not None:
            joints[i] = one.joints_m
        if one.rotations is not None:
            rotations[i] = one.rotations
        if one.keypoints is not None and one.labelled is not None:
            keypoints[i, one.labelled] = one.keypoints[one.labelled]
    vertices = [None if one.vertices_m is None else one.vertices_m.astype(np.float32).tobytes() for one in people]
    return {
        "true_joints_m": joints,
        "true_rotations": rotations,
        "true_vertices_m": vertices,
        "labelled_keypoints": keypoints,
        "person_box": np.stack([one.box for one in people]),
    }


STAGE = replace(
    benchmark_images.STAGE,
    key=f"user/{benchmark_images.TABLE}",
    about="One row per person of a test set of the user's own files: the crop that students see, and what the file says of it "
    "(keypoints, joints and rotations, a mesh, or parameters of this home's body).",
    make=make,
    version="1",
    groups=(BENCH_USER,),
    settings=("image", TEST_SET),
    files=("test_set",),
    units=lambda profile: max((one.people for one in profile.students.test_sets), default=1),
    kinds=frozenset(("pillow", "lance")),
)

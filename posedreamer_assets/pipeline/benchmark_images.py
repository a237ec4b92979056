"""Test images of the students, frozen before any student: renders, other looks of the same poses, and unfiltered generations."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import StudentError
from posedreamer_assets.pipeline.stage import Inputs, Made, Stage
from posedreamer_assets.pipeline.student_study import OF_DOMAIN as DOMAIN_SETTING
from posedreamer_assets.pipeline.student_study import with_poses_of_domain
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import (
    BENCH,
    BENCH_CLIPS,
    BENCH_DOMAIN,
    BENCH_GENERATED,
    BENCH_LOOKS,
    BENCH_RENDERS,
    group_of,
    partition_key,
    sample_id,
    source_of,
)
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from posedreamer_assets.body.params import BodyParams
    from posedreamer_assets.cameras.pinhole import Cameras
    from posedreamer_assets.poses.draw import PoseBatch
    from posedreamer_assets.render.appearance import Appearance

TABLE = "benchmark_images"
SEED = derive_seed(0, "bench", "benchmark")
"""Of poses, cameras, looks and noise: never the run's, so that no run trains on a test pose."""
_DOMAINS = {BENCH_RENDERS: "render", BENCH_GENERATED: "generated"}


def make(inputs: Inputs) -> Made:
    """The images of a test set with their labels."""
    from posedreamer_assets.poses.draw import place_cameras, procedural_batch
    from posedreamer_assets.render.appearance import sample_appearance
    from posedreamer_assets.seeds import sample_rng
    from posedreamer_assets.tables.images import encode

    profile = _frozen(inputs.profile, inputs.key)
    name, body = source_of(inputs.key), inputs.models.body
    domain = _DOMAINS.get(name, "look")
    ids = [sample_id(inputs.key, i) for i in range(_test_images(inputs.profile, inputs.key))]
    # Looks show the poses of the renders.
    of_pose = [sample_id(partition_key(BENCH_RENDERS, 0), i) for i in range(len(ids))] if name == BENCH_LOOKS else ids
    of_files = group_of(inputs.key) == BENCH_CLIPS
    batch = _of_clips(inputs, profile, ids) if of_files else procedural_batch(profile, body, of_pose)
    cameras, truncated = place_cameras(profile, body, batch, of_pose)
    drawn = [
        sample_appearance(sample_rng(SEED, i, "appearance"), activity)
        for i, activity in zip(of_pose, batch.activities, strict=True)
    ]
    paint = _generated if name == BENCH_GENERATED else _rendered
    pictures = paint(inputs, profile, of_pose, batch.params, cameras, drawn)
    if domain == "look":
        pictures = _other_looks(inputs, ids, pictures, batch.params, cameras)
    columns: dict[str, Any] = {
        "sample_id": ids,
        "partition_key": [inputs.key] * len(ids),
        "test_set": [name] * len(ids),
        "domain": [domain] * len(ids),
        "labels": ["body"] * len(ids),
        "image": [encode(picture, profile.image.format) for picture in pictures],
        "pose_group": batch.provenance,
        "family": batch.families,
        "licence": batch.licences,
        "seed": [derive_seed(SEED, i, "pose") for i in ids],
        **batch.params.to_flat(),
        **cameras.to_flat(),
        "truncated": truncated,
        "body_digest": [inputs.checkpoint("body_model").digest] * len(ids),
    }
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=pictures)


def _test_images(profile: Profile, key: str) -> int:
    """How many images a test set has."""
    cfg = profile.students
    return {BENCH_GENERATED: cfg.test_generated, BENCH_CLIPS: cfg.test_clips}.get(source_of(key), cfg.test_renders)


def _frozen(profile: Profile, key: str) -> Profile:
    """Of any run of these sizes and cameras: its own seed, every family of poses (or its domain's), no file of the user."""
    every = replace(profile, poses=replace(profile.poses, source="procedural", families=()))
    chosen = with_poses_of_domain(every, key) if group_of(key) == BENCH_DOMAIN else every
    return replace(chosen, seed=SEED, scenes=replace(profile.scenes, backgrounds=None))


def _of_clips(inputs: Inputs, profile: Profile, ids: list[str]) -> "PoseBatch":
    """Poses of the user's test clips, one frame of each before a second one of any.

    Raises:
        StudentError: no file of the folder has a usable frame.
    """
    from posedreamer_assets.poses.draw import clips_batch
    from posedreamer_assets.poses.sources import HandSpace, read_folder
    from posedreamer_assets.poses.splits import pose_group

    folder, body, poses = Path(str(profile.students.test_poses)).expanduser(), inputs.models.body, profile.poses
    hands = HandSpace.load(profile.body.model_path)
    clips, errors = read_folder(
        folder, stride_s=poses.frame_stride_s, seed=SEED, body=body, up_axis=poses.up_axis, hands=hands
    )
    found = clips_batch(profile, body, ids, list(clips), group=BENCH_CLIPS)
    if found is None:
        reasons = "; ".join(str(error) for error in errors[:3]) or "no BVH, npz, npy or tar is in it"
        raise StudentError(f"students.test_poses: {folder}: no usable frame: {reasons}")
    return replace(found, provenance=[f"{BENCH_CLIPS}/{pose_group(name)}" for name in found.provenance])


def _rendered(
    inputs: Inputs,
    profile: Profile,
    ids: list[str],
    params: "BodyParams",
    cameras: "Cameras",
    looks: "list[Appearance]",
) -> np.ndarray:
    from posedreamer_assets.render.scene import render_scenes

    return render_scenes(inputs.models.body, params, cameras, looks, ids, SEED, profile.scenes)


def _generated(
    inputs: Inputs,
    profile: Profile,
    ids: list[str],
    params: "BodyParams",
    cameras: "Cameras",
    looks: "list[Appearance]",
) -> np.ndarray:
    """Painted by the aligned generator, none of them filtered."""
    from posedreamer_assets.pipeline.control_images import control_column, control_images
    from posedreamer_assets.pipeline.dpo_checkpoint import adapter_in
    from posedreamer_assets.render.captions import make_caption
    from posedreamer_assets.render.control import render_control_maps
    from posedreamer_assets.tables.images import encode_png

    maps = render_control_maps(inputs.models.body, params, cameras)
    column = control_column(profile.generator)
    drawn = {"control": maps.control, "depth": maps.depth_mm, "normals": maps.normals}[column]
    controls = control_images(profile.generator, pa.table({column: [encode_png(picture) for picture in drawn]}))
    seeds = [derive_seed(SEED, i, "generation") for i in ids]
    adapter = adapter_in(inputs.checkpoint("dpo_checkpoint"))
    captions = [make_caption(look) for look in looks]
    return inputs.models.generator.generate(controls, captions, seeds, adapter_path=adapter)


def _other_looks(
    inputs: Inputs, ids: list[str], pictures: np.ndarray, params: "BodyParams", cameras: "Cameras"
) -> np.ndarray:
    from posedreamer_assets.render.control import render_control_maps
    from posedreamer_assets.seeds import sample_rng
    from posedreamer_assets.students.looks import other_look

    masks = render_control_maps(inputs.models.body, params, cameras).silhouette > 0
    changed = zip(ids, pictures, masks, strict=True)
    return np.stack([other_look(picture, mask, sample_rng(SEED, i, "look")) for i, picture, mask in changed])


STAGE = Stage(
    TABLE,
    "One row per test image of the students, with its label: renders, and the same poses under other looks (backgrounds of dead "
    "leaves, colour casts, lost detail), which neither renders nor generated images have. Poses, cameras and looks follow from "
    "a seed of their own.",
    make,
    "2",
    table=TABLE,
    groups=(BENCH,),
    settings=("image", "cameras", "poses.ages", "scenes.supersample", "students.test_renders"),
    checkpoints=("body_model",),
    seeded=False,
    units=lambda profile: profile.students.test_renders,
    ui_group="students",
    kinds=frozenset(("pyrender", "lance")),
    starts="request",
)

GENERATED = replace(
    STAGE,
    key=f"generated/{TABLE}",
    about="One row per unfiltered image of the aligned generator that students are tested on, with its label: poses that no "
    "other stage has seen.",
    groups=(BENCH_GENERATED,),
    settings=(*STAGE.settings[:-1], "students.test_generated", "generator"),
    checkpoints=("body_model", "control_checkpoint", "dpo_checkpoint"),
    units=lambda profile: profile.students.test_generated,
    kinds=frozenset(("diffusers", "lance")),
    pool="gpu",
)

OF_DOMAIN = replace(
    STAGE,
    key=f"domain/{TABLE}",
    about="One row per test image of a domain of the study, with its label: other poses of its kind under the looks of "
    "bench-looks, which neither renders nor generated images have.",
    groups=(BENCH_DOMAIN,),
    settings=(*STAGE.settings, DOMAIN_SETTING),
)

OF_CLIPS = replace(
    STAGE,
    key=f"clips/{TABLE}",
    about="One row per test image of the user's test clips (`students.test_poses`), which no batch draws from, with its label: "
    "their poses under the looks of bench-looks.",
    groups=(BENCH_CLIPS,),
    settings=(
        *STAGE.settings[:-1],
        "students.test_poses",
        "students.test_clips",
        "poses.frame_stride_s",
        "poses.up_axis",
    ),
    files=("test_poses",),
    units=lambda profile: profile.students.test_clips,
)

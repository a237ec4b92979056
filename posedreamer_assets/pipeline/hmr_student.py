"""One student of human mesh recovery, trained on one manifest from one seed."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.digests import digest
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.pipeline.student_features import COLUMN_OF, augmentations, features_in
from posedreamer_assets.pipeline.student_study import SPEC, needed_study, spec_of, student_of
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.fields import BODY, CAMERA, SCHEMAS, names_of
from posedreamer_assets.tables.keys import BASE, STUDENT, sample_id
from posedreamer_assets.tables.rows import bodies, cameras, make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.students.train import Samples, Trained

TABLE = "hmr_student"
_GEOMETRY = (*names_of(BODY), *names_of(CAMERA))
_AT_A_TIME = 64  # images that are held as files


def make(inputs: Inputs) -> Made:
    """Train from a seed that follows from draw and seed alone, the same one for every recipe."""
    from posedreamer_assets.students.train import train

    manifest, seed = inputs.rows("training_manifests"), _seed(inputs)
    samples, backbone = _samples_of(inputs, manifest)
    return _row(inputs, manifest, seed, backbone, train(inputs.models.body, samples, spec_of(inputs.profile), seed))


def make_from_images(inputs: Inputs) -> Made:
    """The same of a student that sees images. A training that was killed goes on; pictures that were cut are not cut again."""
    from posedreamer_assets.engine.processes import gpus_of
    from posedreamer_assets.engine.settings import EngineSettings
    from posedreamer_assets.students.launch import train_on
    from posedreamer_assets.students.vit import init_digest

    spec, manifest, seed = spec_of(inputs.profile), inputs.rows("training_manifests"), _seed(inputs)
    gpus = gpus_of("auto", os.environ)[: max(1, EngineSettings.from_environment(os.environ).gpus)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = inputs.unfinished or Path(scratch)
        _write_job(inputs, manifest, seed, folder)
        trained = train_on(gpus, folder)
    return _row(inputs, manifest, seed, init_digest(spec.init, spec.revision or None), trained)


def _seed(inputs: Inputs) -> int:
    recipe, draw, number = student_of(inputs.key)
    again = " again" if needed_study(inputs.profile).recipes[recipe].reseed else ""
    return derive_seed(inputs.profile.seed, f"draw {draw} seed {number}{again}", "student")


def _row(inputs: Inputs, manifest: pa.Table, seed: int, backbone: str, trained: "Trained") -> Made:
    from posedreamer_assets.students.predict import weights_to_bytes

    (recipe, draw, number), spec = student_of(inputs.key), spec_of(inputs.profile)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, 0)],
        "partition_key": [inputs.key],
        "recipe": [recipe],
        "draw": [draw],
        "training_seed": [number],
        "seed": [seed],
        "backbone": [backbone],
        "steps": [spec.steps],
        "batch_size": [spec.batch_size],
        "samples_seen": [trained.samples_seen],
        "unique_samples": [manifest.num_rows],
        "unique_poses": [len(set(texts(manifest, "source_sample_id")))],
        "loss_first": [trained.loss_first],
        "loss_last": [trained.loss_last],
        "weights": [weights_to_bytes(trained.weights)],
        "manifest_digest": [digest([texts(manifest, "table"), texts(manifest, "source_digest")])],
        "body_digest": [inputs.checkpoint("body_model").digest],
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


def _samples_of(inputs: Inputs, manifest: pa.Table) -> "tuple[Samples, str]":
    """Features and labels of the manifest's images, copy after copy, and the digest of the backbone."""
    from posedreamer_assets.students.augment import augment_labels
    from posedreamer_assets.students.labels import labels_of
    from posedreamer_assets.students.train import Samples

    ids, tables = texts(manifest, "source_sample_id"), texts(manifest, "table")
    poses = inputs.take("pose_library", ids)
    before = cameras(poses)
    labels = labels_of(inputs.models.body, bodies(poses), before)
    copies = spec_of(inputs.profile).copies
    width, height = before.width, before.height
    augs = [aug for name in ids for aug in augmentations(inputs.profile.seed, name, copies, width, height)]
    changed = augment_labels(labels.take(np.repeat(np.arange(len(ids)), copies)), augs, width, height)
    features, backbone = None, ""
    for table in sorted(set(tables)):
        places = [i for i, name in enumerate(tables) if name == table]
        rows = inputs.take("student_features", [ids[i] for i in places], (COLUMN_OF[table], "backbone"))
        found, backbone = features_in(rows, COLUMN_OF[table]), rows.column("backbone")[0].as_py()
        if features is None:
            features = np.empty((len(ids), *found.shape[1:]), np.float16)
        features[places] = found
    assert features is not None, "no manifest is empty"
    return Samples(features.reshape(-1, features.shape[-1]), changed, width, height), backbone


def _write_job(inputs: Inputs, manifest: pa.Table, seed: int, folder: Path) -> None:
    """Everything that a training needs, in files; what is there already, of the very same inputs, stays."""
    import torch

    from posedreamer_assets.students.labels import labels_of
    from posedreamer_assets.students.person_crops import body_boxes
    from posedreamer_assets.students.person_pictures import write_pictures
    from posedreamer_assets.students.skinning import TorchBody
    from posedreamer_assets.students.train import EVERY
    from posedreamer_assets.students.train_images import JOB, Job, write_start
    from posedreamer_assets.students.vit import backbone_state

    if (folder / JOB).exists():
        return
    spec, body = spec_of(inputs.profile), inputs.models.body
    folder.mkdir(parents=True, exist_ok=True)
    write_start(folder, backbone_state(spec.arch, spec.image_size, spec.init, spec.revision or None))
    ids, tables = texts(manifest, "source_sample_id"), texts(manifest, "table")
    poses = inputs.take("pose_library", ids)
    before = cameras(poses)
    labels = labels_of(body, bodies(poses), before)
    boxes = body_boxes(TorchBody(body, every=EVERY), labels, before.width, before.height)
    files = _files(inputs, ids, tables)
    write_pictures(folder, files, boxes, labels, spec.image_size, torch.get_num_threads())
    Job(spec, seed, inputs.profile.body.model_path).write(folder)


def _files(inputs: Inputs, ids: list[str], tables: list[str]) -> Iterator[bytes]:
    """Images of samples, each of its table, in order; some at a time."""
    for start in range(0, len(ids), _AT_A_TIME):
        part = range(start, min(start + _AT_A_TIME, len(ids)))
        found: dict[int, bytes] = {}
        for table in sorted({tables[i] for i in part}):
            own = [i for i in part if tables[i] == table]
            rows = inputs.take(table, [ids[i] for i in own], ("image",))
            found |= dict(zip(own, rows.column("image").to_pylist(), strict=True))
        yield from (found[i] for i in part)


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """Losses of the first and of the last steps, how many samples there were, and how many were seen with repeats."""
    names = ("loss_first", "loss_last", "unique_samples", "samples_seen")
    return {name: round(float(rows.column(name)[0].as_py()), 4) for name in names}


def origins(profile: Profile) -> Origins:
    """Weights come from features and labels."""
    return {
        **copied("training_manifests", "recipe", "draw"),
        "weights": (*all_of("student_features", *COLUMN_OF.values()), *all_of("pose_library", *_GEOMETRY)),
    }


def stage(groups: tuple[str, ...]) -> Stage:
    """Trained on images of these rounds."""
    return Stage(
        TABLE,
        "One row per student: a small head on a frozen backbone, trained on one recipe's draw from one seed, for as many steps "
        "as every other student; weights, losses and what it has seen.",
        make,
        "1",
        table=TABLE,
        groups=(STUDENT,),
        settings=(SPEC,),
        checkpoints=("body_model",),
        reads=(
            Reads("training_manifests", ("recipe", "draw", "table", "source_sample_id", "source_digest")),
            Reads("pose_library", _GEOMETRY, groups),
            Reads("student_features", (*COLUMN_OF.values(), "backbone"), groups),
        ),
        origins=origins,
        figures=figures,
        units=lambda profile: spec_of(profile).steps,
        ui_group="students",
        kinds=frozenset(("torch", "lance")),
        one_core=True,
        starts="request",
    )


def image_stage(groups: tuple[str, ...], unaligned: bool) -> Stage:
    """Of students that see images, of these rounds; `unaligned`: of the base round's images without alignment, too."""
    renders, generated, without = COLUMN_OF
    of_table = {renders: (BASE,), generated: groups, **({without: (BASE,)} if unaligned else {})}
    seen = (*((table, "image") for table in of_table), *all_of("pose_library", *_GEOMETRY))
    return replace(
        stage(groups),
        about="One row per student: a vision transformer and its decoder, trained on the images of one recipe's draw from one "
        "seed, for as many steps as every other student; weights, losses and what it has seen.",
        make=make_from_images,
        files=("student_init",),
        reads=(
            Reads("training_manifests", ("recipe", "draw", "table", "source_sample_id", "source_digest")),
            Reads("pose_library", _GEOMETRY, groups),
            *(Reads(table, ("image",), of) for table, of in of_table.items()),
        ),
        origins=lambda profile: {**copied("training_manifests", "recipe", "draw"), "weights": seen},
        pool="gpu",
        one_core=False,
    )

"""One student of human mesh recovery, trained on one manifest from one seed."""

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
from posedreamer_assets.tables.keys import STUDENT, sample_id
from posedreamer_assets.tables.rows import bodies, cameras, make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.students.train import Samples

TABLE = "hmr_student"
_GEOMETRY = (*names_of(BODY), *names_of(CAMERA))


def make(inputs: Inputs) -> Made:
    """Train from a seed that follows from draw and seed alone, the same one for every recipe."""
    from posedreamer_assets.students.predict import weights_to_bytes
    from posedreamer_assets.students.train import train

    recipe, draw, number = student_of(inputs.key)
    study = needed_study(inputs.profile)
    manifest = inputs.rows("training_manifests")
    samples, backbone = _samples_of(inputs, manifest)
    again = " again" if study.recipes[recipe].reseed else ""
    seed = derive_seed(inputs.profile.seed, f"draw {draw} seed {number}{again}", "student")
    trained = train(inputs.models.body, samples, study.student, seed)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, 0)],
        "partition_key": [inputs.key],
        "recipe": [recipe],
        "draw": [draw],
        "training_seed": [number],
        "seed": [seed],
        "backbone": [backbone],
        "steps": [study.student.steps],
        "batch_size": [study.student.batch_size],
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

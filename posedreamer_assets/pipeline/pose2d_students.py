"""One network of an arm: trained on from the baseline, from one seed, for as many steps as every other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import BASELINE, Arm, Profile, TeacherConfig
from posedreamer_assets.digests import digest
from posedreamer_assets.pipeline import (
    annotated_photos,
    photo_people,
    pose2d_baseline,
    scene_images,
    scene_people,
    styled_images,
)
from posedreamer_assets.pipeline.arm_samples import (
    LABELS,
    LABELS_OF_SCENE,
    OF_MIXTURE,
    OF_PHOTO,
    OF_SCENE,
    Sources,
    plain_json,
    sources_of,
)
from posedreamer_assets.pipeline.arm_study import (
    ARM_SETTING,
    TEACHER_SETTING,
    TRAINED,
    arm_of,
    reads_mixtures,
    reads_people_of_photos,
    reads_photos,
    reads_scenes,
    reads_styles,
    training_gb,
)
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of
from posedreamer_assets.progress import advance
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PHOTO, SCENE, sample_id
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from torch import Tensor

    from posedreamer_assets.people2d.learn import Learned

TABLE = "pose2d_students"
UNFINISHED = "arm.safetensors"
REAL, SYNTHETIC = "real", "synthetic"


def make(inputs: Inputs) -> Made:
    """Train from a seed that follows from its number alone, the same one for every arm; the baseline is taken as it is."""
    from posedreamer_assets.people2d.learn import train_arm

    arm, number = arm_of(inputs.key)
    seed, cfg = derive_seed(inputs.profile.seed, f"seed {number}", "pose2d"), inputs.profile.pose2d
    start = pose2d_baseline.start_of(inputs.checkpoint(pose2d_baseline.KEY), cfg)
    if arm.name == BASELINE:
        advance(cfg.steps)
        return Made(_row(inputs, Sources(None, None), None, seed, start))
    sources = sources_of(inputs, arm)
    learned = train_arm(
        start,
        sources.real,
        sources.synthetic,
        cfg,
        seed,
        masked=arm.masked,
        teacher=teacher_of(arm, inputs.profile),
        checkpoint=None if inputs.unfinished is None else inputs.unfinished / UNFINISHED,
    )
    made = _row(inputs, sources, learned, seed, learned.weights)
    # How long it took is no part of the row: the same training gives the same row.
    return Made(made, {"seconds_of_training": round(learned.seconds, 2)})


def teacher_of(arm: Arm, profile: Profile) -> TeacherConfig | None:
    """Who chooses groups: a teacher, or one who always draws them at random; None where there are no groups."""
    if arm.groups is None:
        return None
    return profile.teacher if arm.taught else replace(profile.teacher, kind="uniform")


def _row(
    inputs: Inputs, sources: Sources, learned: "Learned | None", seed: int, weights: "Mapping[str, Tensor]"
) -> pa.Table:
    from posedreamer_assets.people2d.network import frozen_digest

    (arm, number), cfg = arm_of(inputs.key), inputs.profile.pose2d
    data, start = weights_to_bytes(weights), inputs.checkpoint(pose2d_baseline.KEY)
    seen: Mapping[str, int] = learned.seen if learned else {}
    losses = _by_source(learned)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, 0)],
        "partition_key": [inputs.key],
        "arm": [arm.name],
        "training_seed": [number],
        "seed": [seed],
        "steps": [cfg.steps if learned else 0],
        "batch_size": [cfg.batch],
        "real_samples": [len(sources.real.people) if sources.real else 0],
        "synthetic_samples": [len(sources.synthetic.people) if sources.synthetic else 0],
        "real_seen": [seen.get(REAL, 0)],
        "synthetic_seen": [seen.get(SYNTHETIC, 0)],
        "loss_real": [_last(losses.get(REAL, ()))],
        "loss_synthetic": [_last(losses.get(SYNTHETIC, ()))],
        "losses": [plain_json(losses)],
        "updates": [_updates(sources, learned) if arm.groups and learned else None],
        "weights": [data],
        "weights_digest": [digest(data)],
        "frozen_digest": [learned.frozen_digest if learned else frozen_digest(weights, cfg)],
        "baseline_digest": [start.metrics["digest"]],
    }
    return make_table(columns, SCHEMAS[TABLE])


def weights_to_bytes(weights: "Mapping[str, Tensor]") -> bytes:
    """Weights as safetensors."""
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in weights.items()})


def weights_of(data: bytes) -> "dict[str, Tensor]":
    """The inverse of `weights_to_bytes`.

    Raises:
        StudentError: these are not weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from posedreamer_assets.errors import StudentError

    try:
        return load(data)
    except SafetensorError as error:
        raise StudentError(f"not weights of a network: {error}") from error


def _by_source(learned: "Learned | None") -> dict[str, list[float]]:
    """Mean losses of all steps, by source; without those of a source that nothing was drawn from."""
    if learned is None:
        return {}
    by_source = zip((REAL, SYNTHETIC), list(zip(*learned.losses, strict=True))[1:], strict=True)
    return {name: [round(float(v), 6) for v in of] for name, of in by_source if np.isfinite(of).all()}


def _last(losses: Sequence[float]) -> float | None:
    """The mean of the last tenth."""
    return float(np.mean(losses[-max(1, len(losses) // 10) :])) if len(losses) else None


def _updates(sources: Sources, learned: "Learned") -> str:
    updates = [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(one).items()}
        for one in learned.teacher_log
    ]
    edges = None if sources.edges is None else sources.edges.tolist()
    return plain_json({"edges": edges, "chosen": [int(group) for group in learned.groups], "updates": updates})


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """Losses at the end, and how many people could be drawn."""
    names = ("loss_real", "loss_synthetic", "real_samples", "synthetic_samples")
    found = {name: rows.column(name)[0].as_py() for name in names}
    return {name: float("nan") if value is None else round(float(value), 5) for name, value in found.items()}


def origins(profile: Profile) -> Origins:
    """Weights come from images and the labels of their people."""
    learned_from = (
        *all_of(annotated_photos.TABLE, *OF_PHOTO),
        *all_of(photo_people.TABLE, *LABELS),
        *all_of(scene_images.TABLE, *OF_MIXTURE),
        *all_of(scene_people.TABLE, *LABELS_OF_SCENE),
        *all_of(styled_images.TABLE, "image"),
    )
    made = ("weights", "weights_digest", "loss_real", "loss_synthetic", "losses", "updates")
    return {
        **dict.fromkeys(made, learned_from),
        "real_samples": (*all_of(annotated_photos.TABLE, "split"), *all_of(photo_people.TABLE, *LABELS)),
        "synthetic_samples": all_of(scene_people.TABLE, *LABELS_OF_SCENE),
    }


def under(stage: Stage, profile: Profile) -> Stage:
    """A teacher as wide as VGG19 starts from its file; the start of the arm itself is the baseline's."""
    if profile.pose2d.vgg19 is None or profile.teacher.narrow != 1:
        return stage
    return replace(stage, files=(*stage.files, "vgg19"))


STAGE = Stage(
    TABLE,
    "One row per network: trained on from the common baseline for equal steps on what its arm names, from one seed; weights, "
    "losses by source, what it has drawn, and the updates of its teacher.",
    make,
    "1",
    table=TABLE,
    groups=TRAINED,
    settings=("pose2d", ARM_SETTING, TEACHER_SETTING),
    checkpoints=(pose2d_baseline.KEY,),
    reads=(
        Reads(annotated_photos.TABLE, OF_PHOTO, (PHOTO,), reads_photos),
        Reads(photo_people.TABLE, LABELS, (PHOTO,), reads_people_of_photos),
        Reads(scene_images.TABLE, OF_SCENE, (SCENE,), reads_scenes),
        Reads(scene_people.TABLE, LABELS_OF_SCENE, (SCENE,), reads_scenes),
        Reads(scene_images.TABLE, OF_MIXTURE, (PHOTO,), reads_mixtures),
        Reads(scene_people.TABLE, LABELS_OF_SCENE, (PHOTO,), reads_mixtures),
        Reads(styled_images.TABLE, ("image",), (PHOTO,), reads_styles),
    ),
    origins=origins,
    figures=figures,
    units=lambda profile: profile.pose2d.steps,
    ui_group="arms",
    kinds=frozenset(("torch", "lance")),
    under=under,
    one_core=True,
    memory_gb=training_gb,
    starts="request",
)

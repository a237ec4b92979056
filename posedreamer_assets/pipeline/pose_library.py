"""Who stands where, how, and in front of which camera."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import CaptionError, PoseFileError, UnreadableBatchError
from posedreamer_assets.pipeline.figures import mean
from posedreamer_assets.pipeline.rounds import has_pose_files, poses_of_batch
from posedreamer_assets.pipeline.stage import POSES, Inputs, Made, Stage, rows_of_batch
from posedreamer_assets.pipeline.student_study import OF_DOMAIN as DOMAIN_SETTING
from posedreamer_assets.pipeline.student_study import with_poses_of_domain
from posedreamer_assets.pipeline.thumbnails import stick_figures
from posedreamer_assets.seeds import derive_seed, sample_rng
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import DOMAIN, group_of, sample_id
from posedreamer_assets.tables.rows import make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.pipeline.pose_batches import PresentFiles
    from posedreamer_assets.poses.draw import PoseBatch
    from posedreamer_assets.poses.sources import PoseFrames
    from posedreamer_assets.render.appearance import Appearance

TABLE = "pose_library"
SETTINGS = ("image", "poses", "cameras", "captions", "alignment.val_share", "alignment.test_share")


def make(inputs: Inputs) -> Made:
    """The batch's poses with cameras and captions, and what of its files could not be read."""
    ids = batch_ids(inputs.key, poses_of_batch(inputs.profile, inputs.key))
    rows = make_table(pose_columns(inputs, ids), SCHEMAS[TABLE])
    unreadable, notes = quarantined(inputs), noted(inputs)
    return Made(
        rows,
        {
            "family_names": sorted(set(rows.column("family").to_pylist())),
            "quarantined": unreadable.num_rows,
            "notes_on_pose_files": notes.num_rows,
        },
        stick_figures(rows, inputs.models.body),
        {"quarantine": unreadable, "pose_notes": notes, "pose_clips": clips_read(inputs)},
    )


def make_of_domain(inputs: Inputs) -> Made:
    """Poses of the kind that the study names."""
    return make(replace(inputs, profile=with_poses_of_domain(inputs.profile, inputs.key)))


def batch_ids(key: str, count: int) -> list[str]:
    """The sample ids of a partition."""
    return [sample_id(key, index) for index in range(count)]


def pose_columns(inputs: Inputs, ids: Sequence[str]) -> dict[str, Any]:
    """Columns of table `pose_library`: pose, camera, appearance and caption are drawn for each sample."""
    from posedreamer_assets.poses.draw import place_cameras
    from posedreamer_assets.poses.splits import alignment_split_of, split_of
    from posedreamer_assets.render.appearance import appearance_to_json, sample_appearance

    profile, key = inputs.profile, inputs.key
    batch = draw_poses(inputs, ids)
    cameras, truncated = place_cameras(profile, inputs.models.body, batch, ids)
    appearances = [
        sample_appearance(sample_rng(profile.seed, i, "appearance"), activity)
        for i, activity in zip(ids, batch.activities, strict=True)
    ]
    return {
        "sample_id": list(ids),
        "partition_key": [key] * len(ids),
        "source": batch.sources,
        "family": batch.families,
        "provenance": batch.provenance,
        "licence": batch.licences,
        "seed": [derive_seed(profile.seed, i, "pose") for i in ids],
        "split": [split_of(text, profile.poses.val_share) for text in batch.provenance],
        "alignment_split": [alignment_split_of(text, profile.alignment) for text in batch.provenance],
        **batch.params.to_flat(),
        **cameras.to_flat(),
        "truncated": truncated,
        "caption": captions_of(inputs, batch, ids, appearances),
        "appearance": [appearance_to_json(appearance) for appearance in appearances],
    }


def captions_of(inputs: Inputs, batch: "PoseBatch", ids: Sequence[str], looks: "Sequence[Appearance]") -> list[str]:
    """The caption of each sample: of a model that sees a photograph, of a file, of the pose's own source, or of the grammar.

    Raises:
        CaptionError: a file that cannot be read, or that names nobody of a batch of the library; or as `described`.
    """
    from posedreamer_assets.render.caption_file import read_captions
    from posedreamer_assets.render.captions import make_caption

    cfg = inputs.profile.captions
    if cfg.kind == "vlm":
        from posedreamer_assets.render.described import described, load_describer

        return described(load_describer(cfg), cfg, ids, inputs.profile.seed)
    if cfg.grammar == "rich":
        written = _rich_captions(inputs, batch, ids, looks)
    else:
        written = [make_caption(look) for look in looks]
    made = [own or text for own, text in zip(batch.captions, written, strict=True)]
    if cfg.kind == "grammar":
        return made
    read = read_captions(Path(str(cfg.path)).expanduser())
    found = [read.get(name) or read.get(pose) for name, pose in zip(ids, batch.provenance, strict=True)]
    if not any(found) and group_of(inputs.key) in POSES:
        raise CaptionError(
            f"{cfg.path}: has no caption for any pose of batch {inputs.key}; its first sample is {ids[0]!r}, of the pose "
            f"{batch.provenance[0]!r}"
        )
    return [given or text for given, text in zip(found, made, strict=True)]


def _rich_captions(inputs: Inputs, batch: "PoseBatch", ids: Sequence[str], looks: "Sequence[Appearance]") -> list[str]:
    from posedreamer_assets.poses.stature import mass_kg, stature_m
    from posedreamer_assets.render.rich_captions import Physique, rich_caption

    body, betas, seed = inputs.models.body, batch.params.betas, inputs.profile.seed
    youngest = inputs.profile.poses.ages[0]
    sizes = zip(stature_m(body, betas).tolist(), mass_kg(body, betas).tolist(), strict=True)
    return [
        rich_caption(look, Physique(height, mass, youngest), sample_rng(seed, name, "caption"))
        for look, (height, mass), name in zip(looks, sizes, ids, strict=True)
    ]


def draw_poses(inputs: Inputs, ids: Sequence[str]) -> "PoseBatch":
    """One pose for each id, from the batch's files or from the procedural families.

    Raises:
        PoseFileError: a batch of a folder without files.
        UnreadableBatchError: a batch whose files have no usable frame.
    """
    from posedreamer_assets.poses.draw import clips_batch, procedural_batch

    profile, key, files, body = inputs.profile, inputs.key, inputs.pose_files, inputs.models.body
    if not has_pose_files(profile, key):
        return procedural_batch(profile, body, ids)
    if files is None:
        raise PoseFileError(
            key, "empty", "no files were recorded for this batch; `posedreamer run` and the sensor do so"
        )
    clips, errors = _read(profile, files)
    drawn = clips_batch(profile, body, ids, clips, group=group_of(key), part=files.part)
    if drawn is None:
        reasons = "; ".join(str(error) for error in errors[:3]) or "none of its files is there"
        detail = f"no usable frames in batch {key}: {reasons}"
        raise UnreadableBatchError(files.folder.root, detail, {"quarantine": quarantined(inputs)})
    return drawn


def quarantined(inputs: Inputs) -> pa.Table:
    """Rows of table `quarantine`: what could not be read of the batch's files."""
    errors = () if inputs.pose_files is None else _read(inputs.profile, inputs.pose_files)[1]
    columns = {
        "sample_id": batch_ids(inputs.key, len(errors)),
        "partition_key": [inputs.key] * len(errors),
        "path": [error.path for error in errors],
        "reason": [error.reason for error in errors],
        "detail": [error.detail for error in errors],
    }
    return make_table(columns, SCHEMAS["quarantine"])


def noted(inputs: Inputs) -> pa.Table:
    """Rows of table `pose_notes`: what was assumed or dropped while the batch's files were read."""
    clips = () if inputs.pose_files is None else _read(inputs.profile, inputs.pose_files)[0]
    found = dict.fromkeys((clip.names[0].rpartition("#")[0], note) for clip in clips for note in clip.notes)
    columns = {
        "sample_id": batch_ids(inputs.key, len(found)),
        "partition_key": [inputs.key] * len(found),
        "path": [path for path, _ in found],
        "note": [note for _, note in found],
    }
    return make_table(columns, SCHEMAS["pose_notes"])


def clips_read(inputs: Inputs) -> pa.Table:
    """Rows of table `pose_clips`: what was read of the batch's files."""
    clips = () if inputs.pose_files is None else _read(inputs.profile, inputs.pose_files)[0]
    columns = {
        "sample_id": batch_ids(inputs.key, len(clips)),
        "partition_key": [inputs.key] * len(clips),
        "path": [clip.names[0].rpartition("#")[0] for clip in clips],
        "clip": [clip.family for clip in clips],
        "kind": [clip.kind for clip in clips],
        "frames": [clip.count for clip in clips],
        "poses": [len(clip) for clip in clips],
        "fps": [clip.fps for clip in clips],
        "up_axis": [clip.up_axis for clip in clips],
        "up_axis_sure": [clip.up_axis_sure for clip in clips],
    }
    return make_table(columns, SCHEMAS["pose_clips"])


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How varied poses, cameras and captions are."""
    from posedreamer_assets.metrics.caption_diversity import diversity

    return {
        "families": len(set(rows.column("family").to_pylist())),
        "truncated_share": mean(rows, "truncated"),
        "mean_camera_pitch_deg": mean(rows, "cam_pitch_deg"),
        **diversity(texts(rows, "caption")),
    }


def _read(profile: Profile, files: "PresentFiles") -> tuple[tuple["PoseFrames", ...], tuple[PoseFileError, ...]]:
    return _read_files(
        files.folder.local_copy(files.paths),
        tuple(files.paths),
        files.digest,
        profile.poses.frame_stride_s,
        profile.seed,
        profile.body.model_path,
        profile.poses.up_axis,
    )


@lru_cache(maxsize=2)
def _read_files(
    folder: Path, paths: tuple[str, ...], content: str, stride_s: float, seed: int, model_path: str | None, up_axis: str
) -> tuple[tuple["PoseFrames", ...], tuple[PoseFileError, ...]]:
    """Frames and errors of some files; `content` is their digest, so that changed files are read again."""
    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.poses.sources import HandSpace, read_folder

    found = [folder / path for path in paths]
    clips, errors = read_folder(
        folder,
        stride_s=stride_s,
        seed=seed,
        body=load_body(model_path),
        files=found,
        up_axis=up_axis,
        hands=HandSpace.load(model_path),
    )
    return tuple(clips), tuple(errors)


STAGE = Stage(
    "pose_library",
    "One row per pose: SMPL-X parameters (world frame, y up, ground at y = 0), camera (OpenCV), caption, appearance, provenance "
    "and licence. From procedural families, or from the batch's BVH, AMASS-style npz and fits; files that cannot be read "
    "are quarantined with a reason and counted.",
    make,
    "6",
    table=TABLE,
    groups=POSES,
    settings=SETTINGS,
    files=("poses", "captions", "caption_model"),
    checkpoints=("body_model",),
    figures=figures,
    units=rows_of_batch,
    ui_group="poses",
    kinds=frozenset(("numpy", "lance")),
    starts="request",
)

OF_DOMAIN = replace(
    STAGE,
    about="One row per pose of one kind, a domain of the study: of its procedural families, or of its folder of pose files.",
    make=make_of_domain,
    settings=(*SETTINGS, DOMAIN_SETTING),
).of_round(DOMAIN, DOMAIN)

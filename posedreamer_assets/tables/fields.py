"""THE place to see what a row holds: every column once, with type, unit and meaning, and the columns of each table.

One table per kind of row. Partitions of all rounds lie in the same tables, see `keys.py` for what their keys say, and for
how images and people are named.

Frames: the *world* is SMPL-X's own (metres, y up, ground near y = 0); the *camera* is OpenCV's (x right, y down, z forward).
Pixel (0, 0) is the corner of the image, so the centre of the first pixel is (0.5, 0.5).
"""

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa

from posedreamer_assets.tables.arm_fields import ARM_TABLES
from posedreamer_assets.tables.columns import (
    ALIGNMENT_SPLIT,
    BODY,
    CAMERA,
    CAPTION,
    IDENTITY,
    IMAGE,
    LABELS,
    OF_IMAGE,
    OF_PERSON,
    OKS,
    RENDER_OKS,
    SEED,
    SIZE,
    SPLIT,
    Column,
)
from posedreamer_assets.tables.columns import BODY_COLUMNS as BODY_COLUMNS
from posedreamer_assets.tables.columns import BOOL as _BOOL
from posedreamer_assets.tables.columns import FILE as _FILE
from posedreamer_assets.tables.columns import FLOAT as _FLOAT
from posedreamer_assets.tables.columns import INT as _INT
from posedreamer_assets.tables.columns import LONG as _LONG
from posedreamer_assets.tables.columns import TEXT as _TEXT
from posedreamer_assets.tables.columns import flags as _flags
from posedreamer_assets.tables.columns import vector as _vector
from posedreamer_assets.tables.scene_fields import SCENE_TABLES
from posedreamer_assets.tables.student_fields import STUDENT_TABLES

# Added by the store to every table, see storage/.
BOOKKEEPING = (
    Column("row_digest", _TEXT, "Digest of the row's own content."),
    Column("input_digest", _TEXT, "Digest of all that the partition was made from."),
)
PROVENANCE = (
    Column(
        "source",
        _TEXT,
        "Kind of source: procedural, or what the file's reader states: bvh, amass, fits.",
        required=True,
    ),
    Column("family", _TEXT, "Procedural family, or name of the clip."),
    Column("provenance", _TEXT, "File and frame, or generator and seed, that the pose comes from."),
    Column("licence", _TEXT, "Licence of the pose.", required=True),
    SEED,
    SPLIT,
)
ROUND = Column("round", _TEXT, "Curriculum round: base, hard, hard2, ..., or domain, which is beside them.")
PREDICTED_OKS = Column(
    "predicted_oks", _FLOAT, "OKS that the difficulty model expects, 0 to 1; null for poses of the base round."
)

TABLES: dict[str, tuple[Column, ...]] = {
    "pose_files": (
        *IDENTITY,  # one row per file of a batch, in the order in which they are read
        Column("folder", _TEXT, "Folder of pose files that the batch was cut from.", required=True),
        Column("path", _TEXT, "File, relative to the folder.", required=True),
        Column("size", _LONG, "Size of the file when the batch was cut, bytes."),
        Column("mtime_ns", _LONG, "Time of change of the file when the batch was cut, nanoseconds since 1970."),
        Column("digest", _TEXT, "Digest of the file's content when the batch was cut."),
        Column("part", _INT, "Which part of the files' frames the batch takes, where batches share files."),
    ),
    "pose_library": (
        *OF_PERSON,
        *PROVENANCE,
        ALIGNMENT_SPLIT,
        *BODY,
        *CAMERA,
        Column("truncated", _BOOL, "Whether the camera cuts part of the body off on purpose."),
        CAPTION,
        Column("appearance", _TEXT, "Skin tone, hair, garments and light, JSON."),
        PREDICTED_OKS,
    ),
    "quarantine": (
        *IDENTITY,
        Column("path", _TEXT, "File that could not be used, or one of whose frames could not."),
        Column("reason", _TEXT, "Why, as a short code."),
        Column("detail", _TEXT, "What was found and what was expected."),
    ),
    "pose_notes": (
        *IDENTITY,
        Column("path", _TEXT, "File that was read."),
        Column(
            "note",
            _TEXT,
            "What was assumed or dropped while it was read: its up axis and why, frame rate, shape, fingers.",
        ),
    ),
    "pose_clips": (
        *IDENTITY,  # one row for each person's clip in a file of the batch that was read
        Column("path", _TEXT, "File that was read.", required=True),
        Column("clip", _TEXT, "Name of the clip: the file's, with the person's number where it holds several."),
        Column("kind", _TEXT, "What the file is, as its reader states: bvh, amass, fits and so on."),
        Column("frames", _LONG, "Number of frames, or fits, that the file holds of this person."),
        Column("poses", _LONG, "Number of them that may be taken: a stride apart, good, and each unlike the others."),
        Column("fps", _FLOAT, "Number of frames a second, of the file or assumed with a note; 0 for fits."),
        Column("up_axis", _TEXT, "Axis that points up in the file; empty for fits, which are in a camera's axes."),
        Column("up_axis_sure", _FLOAT, "How sure that axis is, from 0 to 1, where 0.5 is a guess; null for fits."),
    ),
    "control_maps": (
        *OF_PERSON,
        *SIZE,
        Column("control", _FILE, "Control image, PNG, RGB: place on the canonical body of each surface point."),
        Column("depth", _FILE, "Depth, PNG, 16 bit, millimetres; 0 is background."),
        Column("normals", _FILE, "Normals in the camera's frame, PNG, RGB: (n + 1) / 2."),
        Column("parts", _FILE, "Body parts, PNG, 8 bit: SMPL-X joint + 1; 0 is background."),
        Column("silhouette", _FILE, "Silhouette, PNG, 8 bit: 0 or 255."),
        *LABELS,
        Column("keypoints_in_frame", _flags(17), "Which of the 17 keypoints are in the image."),
        Column("body_pixels", _INT, "Area of the silhouette, pixels."),
    ),
    "rendered_scenes": (
        *OF_IMAGE,
        replace(IMAGE, meaning="Render of the clothed body before a background, PNG or JPEG, RGB."),
        CAPTION,
        SEED,
        replace(SPLIT, meaning="train, or reference for what generated images are compared with."),
    ),
    "preference_pairs": (
        *OF_IMAGE,
        ALIGNMENT_SPLIT,
        Column(
            "status",
            _TEXT,
            "pair; small_gap (candidates are too alike); weak_winner (the best one does not show the pose); no_alignment "
            "(there are no candidates).",
        ),
        Column("candidate_oks", pa.list_(_FLOAT), "OKS of each candidate by the ranking detector, 0 to 1."),
        Column("candidate_seeds", pa.list_(_LONG), "Seed of each candidate."),
        Column(
            "candidate_strengths",
            pa.list_(_FLOAT),
            "Strength of the control image in each candidate; 1 is that of every other image.",
        ),
        Column("winner", _INT, "Number of the best candidate."),
        Column("loser", _INT, "Number of the worst candidate."),
        Column("winner_oks", _FLOAT, "OKS of the best candidate, 0 to 1."),
        Column("loser_oks", _FLOAT, "OKS of the worst candidate, 0 to 1."),
        Column("candidate_images", pa.list_(_FILE), "The candidates, PNG, RGB, in the order of candidate_oks."),
        CAPTION,
    ),
    "raw_generations": (
        *OF_IMAGE,
        ROUND,
        IMAGE,
        CAPTION,
        SEED,
        Column("steps", _INT, "Denoising steps."),
        Column("guidance", _FLOAT, "Guidance scale, without unit."),
        Column("generator", _TEXT, "Backend of the generator and digest of its weights."),
        Column("adapter", _TEXT, "Digest of the alignment adapter, or none."),
    ),
    "sample_scores": (
        *OF_PERSON,
        OKS,
        RENDER_OKS,
        Column("ranker_oks", _FLOAT, "OKS of the ranking detector, 0 to 1."),
        Column("detected", _vector(17 * 3), "17 keypoints of the judging detector: x, y, pixels; confidence, 0 to 1."),
        Column("people", _INT, "People counted in the image."),
        Column("people_score", _FLOAT, "Confidence that somebody is there, 0 to 1."),
        Column(
            "head_error_deg",
            _FLOAT,
            "Angle between the head's asked and detected direction, degrees; null where too little is seen.",
        ),
        Column(
            "top_colour_error",
            _FLOAT,
            "Distance of the top's colour from the one that the caption names, CIE 1976 delta E; null without one.",
        ),
    ),
    "filtered_dataset": (
        *OF_PERSON,
        Column("keep", _BOOL, "Whether the filter keeps the image."),
        Column("reason", _TEXT, "The first test that failed, or kept."),
        Column("reasons", pa.list_(_TEXT), "All tests that failed."),
        Column(
            "image_digest",
            _TEXT,
            "The row_digest of the row of raw_generations with the image that the verdict is about.",
        ),
        OKS,
        RENDER_OKS,
        PREDICTED_OKS,
        ROUND,
        *PROVENANCE,
        *BODY,
        *CAMERA,
        CAPTION,
        *LABELS,
    ),
    **SCENE_TABLES,
    **ARM_TABLES,
    **STUDENT_TABLES,
    "checkpoints": (
        *IDENTITY,  # sample_id: "<name>/<digest>"
        Column("name", _TEXT, "Name of the checkpoint: that of the asset, parts joined by _."),
        Column("path", _TEXT, "Folder of its files, relative to the storage root."),
        Column("metrics", _TEXT, "Figures, JSON."),
    ),
    "check_results": (
        *IDENTITY,  # one row: "<checked>/<key>", in a partition of its own
        Column("checked", _TEXT, "Table or checkpoint that was checked."),
        Column("key", _TEXT, "Its partition; null for a checkpoint."),
        Column("content", _TEXT, "Digest of the rows, or place of the checkpoint, that was checked."),
        Column("made_from", _TEXT, "Input digest of a partition that was made and has no rows; empty otherwise."),
        Column("time", _TEXT, "When, ISO 8601, UTC."),
        Column("rows", _LONG, "Rows that were looked at."),
        Column("blocking", pa.list_(_TEXT), "Names of the checks of severity error that were run."),
        Column("failed", pa.list_(_TEXT), "Names of those that failed: the rows must not be used."),
        Column("warned", pa.list_(_TEXT), "Names of the checks of severity warn that failed."),
        Column("checks", _INT, "How many checks were run."),
        Column("outcomes", _TEXT, "All outcomes, JSON."),
    ),
}
TABLES["dataset"] = tuple(column for column in TABLES["filtered_dataset"] if column.name != "keep")

SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema([column.field for column in columns]) for name, columns in TABLES.items()
}
"""The columns of each table but those that the store adds."""

NO_ROOM = "no_room"
"""The reason in `quarantine` of a person that found no place in a scene; all others are about pose files."""

WITHOUT_SAMPLES = ("pose_files", "quarantine", "pose_notes", "pose_clips", "checkpoints", "check_results")
"""Tables whose rows are not samples."""


def names_of(columns: Iterable[Column]) -> tuple[str, ...]:
    """Names of columns."""
    return tuple(column.name for column in columns)


def columns_of(table: str) -> tuple[Column, ...]:
    """All columns of a table as it is stored.

    Raises:
        KeyError: no such table.
    """
    return (*TABLES[table], *BOOKKEEPING)


def type_name(kind: pa.DataType) -> str:
    """A short name of an Arrow type: `float32[10]` for a vector, `list<int64>`, `binary`."""
    if pa.types.is_fixed_size_list(kind):
        return f"{type_name(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_large_binary(kind) or pa.types.is_binary(kind):
        return "binary"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))

"""THE place to see what a row holds: every column once, with type, unit and meaning, and the columns of each table.

One table per kind of row. Partitions of all rounds lie in the same tables, see `keys.py` for what their keys say, and for
how images and people are named.

Frames: the *world* is SMPL-X's own (metres, y up, ground near y = 0); the *camera* is OpenCV's (x right, y down, z forward).
Pixel (0, 0) is the corner of the image, so the centre of the first pixel is (0.5, 0.5).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: the same name means the same in every table.
        type: Arrow's.
        meaning: what it holds, with unit and frame.
        required: no row lacks it.
    """

    name: str
    type: pa.DataType
    meaning: str
    required: bool = False

    @property
    def field(self) -> pa.Field:
        """For an Arrow schema."""
        return pa.field(self.name, self.type, nullable=not self.required)


def _vector(n: int) -> pa.DataType:
    return pa.list_(pa.float32(), n)


def _flags(n: int) -> pa.DataType:
    return pa.list_(pa.bool_(), n)


_TEXT, _INT, _LONG, _FLOAT, _BOOL, _FILE = (
    pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.bool_(), pa.large_binary(),
)  # fmt: skip

IDENTITY = (
    Column("sample_id", _TEXT, "Names the sample in every table: partition key, slash, number.", required=True),
    Column("partition_key", _TEXT, "Pose batch: source, dash, number.", required=True),
)
OF_IMAGE = (*IDENTITY, Column("image_id", _TEXT, "Names the image; the sample's own name where it is person 0."))
OF_PERSON = (*OF_IMAGE, Column("person", _INT, "Number of the person in the image, from 0."))
# Added by the store to every table, see storage/.
BOOKKEEPING = (
    Column("row_digest", _TEXT, "Digest of the row's own content."),
    Column("input_digest", _TEXT, "Digest of all that the partition was made from."),
)
BODY = (
    Column("betas", _vector(10), "SMPL-X shape, standard deviations."),
    Column("expression", _vector(10), "SMPL-X expression, standard deviations."),
    Column("global_orient", _vector(3), "Rotation of the root in the world, axis-angle, radians."),
    Column("body_pose", _vector(63), "Rotations of 21 body joints relative to their parents, axis-angle, radians."),
    Column(
        "left_hand_pose",
        _vector(45),
        "Rotations of 15 joints of the left hand relative to the flat hand, axis-angle, radians.",
    ),
    Column(
        "right_hand_pose",
        _vector(45),
        "Rotations of 15 joints of the right hand relative to the flat hand, axis-angle, radians.",
    ),
    Column("jaw_pose", _vector(3), "Rotation of the jaw, axis-angle, radians."),
    Column("leye_pose", _vector(3), "Rotation of the left eye, axis-angle, radians."),
    Column("reye_pose", _vector(3), "Rotation of the right eye, axis-angle, radians."),
    Column("transl", _vector(3), "SMPL-X translation in the world (y up), metres."),
)
BODY_COLUMNS = {column.name: column.type.list_size for column in BODY}
SIZE = (
    Column("width", _INT, "Width of the image, pixels."),
    Column("height", _INT, "Height of the image, pixels."),
)
CAMERA = (
    Column(
        "cam_rotation",
        _vector(9),
        "World to camera, 3 x 3 in row-major order; the camera is OpenCV's (x right, y down, z forward).",
    ),
    Column("cam_translation", _vector(3), "World to camera, metres: x_cam = R x_world + t."),
    Column("focal_px", _FLOAT, "Focal length, pixels."),
    Column("principal_px", _vector(2), "Principal point x, y, pixels; (0, 0) is the image's top left corner."),
    *SIZE,
    Column("cam_pitch_deg", _FLOAT, "Pitch of the camera, degrees; 0 looks level, positive looks down."),
    Column("cam_roll_deg", _FLOAT, "Roll of the camera, degrees."),
)
SPLIT = Column("split", _TEXT, "train, val or test, by hash of the pose's provenance.")
SEED = Column("seed", _LONG, "Seed that the row was drawn with.")
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
CAPTION = Column("caption", _TEXT, "Text that the image is generated from.")
LABELS = (
    Column("keypoints_2d", _vector(17 * 2), "COCO's 17 keypoints, x, y, pixels."),
    Column("keypoints_visible", _flags(17), "Which of the 17 keypoints are in the image and not hidden."),
    Column("joints_2d", _vector(55 * 2), "55 SMPL-X joints, x, y, pixels."),
    Column("joints_visible", _flags(55), "Which of the 55 joints are in the image and not hidden."),
    Column("joints_cam_m", _vector(55 * 3), "55 SMPL-X joints in the camera's frame, metres."),
    Column("bbox", _vector(4), "Box of the silhouette: x, y, width, height, pixels."),
)
IMAGE = Column("image", _FILE, "The generated image, PNG or JPEG, RGB.")
ROUND = Column("round", _TEXT, "Curriculum round: base, hard, hard2, ...")
OKS = Column("oks", _FLOAT, "OKS of the judging detector against the projected keypoints, 0 to 1.")

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
        *BODY,
        *CAMERA,
        Column("truncated", _BOOL, "Whether the camera cuts part of the body off on purpose."),
        CAPTION,
        Column("appearance", _TEXT, "Skin tone, hair, garments and light, JSON."),
        Column(
            "predicted_oks", _FLOAT, "OKS that the difficulty model expects, 0 to 1; null for poses of the base round."
        ),
    ),
    "quarantine": (
        *IDENTITY,
        Column("path", _TEXT, "File that could not be used, or one of whose frames could not."),
        Column("reason", _TEXT, "Why, as a short code."),
        Column("detail", _TEXT, "What was found and what was expected."),
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
        SPLIT,
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
        ROUND,
        *PROVENANCE,
        *BODY,
        *CAMERA,
        CAPTION,
        *LABELS,
    ),
    "benchmark_images": (
        *OF_IMAGE,
        Column(
            "test_set", _TEXT, "Which set of test images: bench-renders, bench-looks, bench-generated.", required=True
        ),
        Column(
            "domain", _TEXT, "Whose kind of picture it is: render, look (of neither side), generated.", required=True
        ),
        replace(IMAGE, meaning="The test image, PNG or JPEG, RGB."),
        Column("pose_group", _TEXT, "What the pose comes from: never that of a training sample.", required=True),
        Column("family", _TEXT, "Procedural family."),
        Column("licence", _TEXT, "Licence of the pose.", required=True),
        SEED,
        *BODY,
        *CAMERA,
        Column("truncated", _BOOL, "Whether the camera cuts part of the body off on purpose."),
        Column("body_digest", _TEXT, "Digest of the body model that the labels belong to."),
    ),
    "training_manifests": (
        *IDENTITY,
        Column("recipe", _TEXT, "Recipe of the study.", required=True),
        Column("draw", _INT, "Number of the draw of data."),
        Column("table", _TEXT, "Table with the image.", required=True),
        Column("source_sample_id", _TEXT, "Its sample.", required=True),
        Column("source_digest", _TEXT, "Its row_digest there.", required=True),
        Column("pose_group", _TEXT, "What its pose comes from."),
        Column("family", _TEXT, "Procedural family, or name of the clip."),
        Column("component", _INT, "Which line of the recipe it was taken for."),
        Column("asked", _INT, "How many samples the recipe asks for."),
    ),
    "student_features": (
        *OF_IMAGE,
        Column(
            "rendered", _FILE, "Features of copies of the render, half precision, copy after copy; null without one."
        ),
        Column("generated", _FILE, "Features of copies of the generated image; null without one."),
        Column("tested", _FILE, "Features of a test image as it is; null for training images."),
        Column("copies", _INT, "Augmented copies; their changes follow from seed, sample and copy number."),
        Column("backbone", _TEXT, "Digest of the weights that the features come from."),
    ),
    "hmr_student": (
        *IDENTITY,
        Column("recipe", _TEXT, "Recipe of the study.", required=True),
        Column("draw", _INT, "Number of the draw of data."),
        Column("training_seed", _INT, "Number of the training seed."),
        SEED,
        Column("backbone", _TEXT, "Digest of the frozen weights that it starts from."),
        Column("steps", _INT, "Optimiser steps."),
        Column("batch_size", _INT, "Copies a step."),
        Column("samples_seen", _INT, "Copies looked at in training, those seen again among them."),
        Column("unique_samples", _INT, "Images it was trained on."),
        Column("unique_poses", _INT, "Poses it was trained on."),
        Column("loss_first", _FLOAT, "Mean loss of the first steps."),
        Column("loss_last", _FLOAT, "Mean loss of the last steps."),
        Column("weights", _FILE, "Weights of the head, safetensors, half precision."),
        Column("manifest_digest", _TEXT, "Digest of the samples it was trained on."),
        Column("body_digest", _TEXT, "Digest of the body model of its labels."),
    ),
    "student_scores": (
        *IDENTITY,
        Column("test_sample_id", _TEXT, "The test image.", required=True),
        Column("test_set", _TEXT, "Its set.", required=True),
        Column("family", _TEXT, "Procedural family of its pose."),
        Column("pve_mm", _FLOAT, "Mean distance of vertices with pelves at one place, millimetres."),
        Column(
            "pve_area_mm",
            _FLOAT,
            "The same, each vertex weighted by its area, millimetres.",
        ),
        Column(
            "pve_in_image_mm",
            _FLOAT,
            "The same, of vertices that project into the image, millimetres; null without any.",
        ),
        Column("pa_pve_mm", _FLOAT, "Mean distance of vertices after the best similarity, millimetres."),
        Column("mpjpe_mm", _FLOAT, "Mean distance of body joints with pelves at one place, millimetres."),
        Column("pa_mpjpe_mm", _FLOAT, "Mean distance of body joints after the best similarity, millimetres."),
        Column("orient_deg", _FLOAT, "Angle between true and predicted root, degrees."),
        Column("body_angle_deg", _FLOAT, "Mean angle of the 21 body joints, degrees."),
        Column("betas_l1", _FLOAT, "Mean absolute error of shape, standard deviations."),
        Column(
            "floor_pve_mm",
            _FLOAT,
            "pve_mm of the true parameters with hands, face and expression at rest, millimetres.",
        ),
        Column("constant_pve_mm", _FLOAT, "pve_mm of the upright mean body, whatever is seen, millimetres."),
        Column(
            "predicted_rotations",
            _vector(22 * 9),
            "Root in the camera's frame and body joints, 3 x 3 in row-major order.",
        ),
        Column("predicted_betas", _vector(10), "Predicted shape, standard deviations."),
        Column("predicted_pelvis_m", _vector(3), "Predicted place of the root joint in the camera's frame, metres."),
        Column("protocol", _TEXT, "Which point of both bodies is laid at one place: posed-mesh, chain or hips."),
        Column("body_digest", _TEXT, "Digest of the body model that the student was trained for."),
        Column("test_body_digest", _TEXT, "Digest of the body model of the test image's label."),
    ),
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

WITHOUT_SAMPLES = ("pose_files", "quarantine", "checkpoints", "check_results")
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

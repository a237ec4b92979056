"""THE place to see what a row holds: sample identity and the Arrow schema of every table.

Identity: `sample_id = "<partition_key>/<index:06d>"`, for example `procedural-0003/000012`. The same id names the same
sample in every table. Partition keys match `[a-z0-9-]+` and read `<source>-<number>`.

Frames: the *world* is SMPL-X's own (metres, y up, ground near y = 0); the *camera* is OpenCV's (x right, y down, z forward).
Pixel (0, 0) is the corner of the image, so the centre of the first pixel is (0.5, 0.5).
"""

import re

import pyarrow as pa

from posedreamer_assets.errors import StorageError

PARTITION_KEY_PATTERN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9]{4,}")


def partition_key(source: str, number: int) -> str:
    """`<source>-<number>`; raises StorageError when the source has other characters than a-z, 0-9 and -."""
    key = f"{source}-{number:04d}"
    if not PARTITION_KEY_PATTERN.fullmatch(key):
        raise StorageError(f"bad partition key {key!r}: expected <source>-<number> of a-z, 0-9 and '-'")
    return key


def sample_id(key: str, index: int) -> str:
    """The id of the index-th sample of a partition."""
    return f"{key}/{index:06d}"


def _vec(n: int) -> pa.DataType:
    return pa.list_(pa.float32(), n)


IDENTITY = [
    pa.field("sample_id", pa.string(), nullable=False),
    pa.field("partition_key", pa.string(), nullable=False),
]
# Added by the store to every table, see storage/store.py.
BOOKKEEPING = [
    pa.field("row_digest", pa.string()),  # of the row's own content
    pa.field("input_digest", pa.string()),  # of what the partition was made from
]

# SMPL-X parameters in the world frame, axis-angle in radians, metres.
BODY_COLUMNS = {
    "betas": 10,
    "expression": 10,
    "global_orient": 3,
    "body_pose": 63,
    "left_hand_pose": 45,
    "right_hand_pose": 45,
    "jaw_pose": 3,
    "leye_pose": 3,
    "reye_pose": 3,
    "transl": 3,
}
BODY = [pa.field(name, _vec(n)) for name, n in BODY_COLUMNS.items()]
# World to camera: x_cam = R x_world + t.
CAMERA = [
    pa.field("cam_rotation", _vec(9)),  # R, row-major
    pa.field("cam_translation", _vec(3)),  # t, metres
    pa.field("focal_px", pa.float32()),
    pa.field("principal_px", _vec(2)),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("cam_pitch_deg", pa.float32()),  # 0 looks level, positive looks down
    pa.field("cam_roll_deg", pa.float32()),
]
PROVENANCE = [
    pa.field("source", pa.string(), nullable=False),  # procedural, bvh, amass, fits
    pa.field("family", pa.string()),  # procedural family or clip name
    pa.field("provenance", pa.string()),  # file and frame, or generator and version
    pa.field("licence", pa.string(), nullable=False),
    pa.field("seed", pa.int64()),
    pa.field("split", pa.string()),  # train, val or test, by hash of the id
]

POSE_LIBRARY = pa.schema(
    [
        *IDENTITY,
        *PROVENANCE,
        *BODY,
        *CAMERA,
        pa.field("truncated", pa.bool_()),  # framed with part of the body cut off on purpose
        pa.field("caption", pa.string()),
        pa.field("appearance", pa.string()),  # JSON of render.appearance.Appearance
    ]
)
HARD_SAMPLES = POSE_LIBRARY.append(pa.field("predicted_oks", pa.float32()))
QUARANTINE = pa.schema(
    [
        *IDENTITY,
        pa.field("path", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
POSE_FILES = pa.schema(
    [
        *IDENTITY,  # one row per file of a batch, in the order in which they are read
        pa.field("folder", pa.string(), nullable=False),  # local path or URI
        pa.field("path", pa.string(), nullable=False),  # relative to the folder
        pa.field("size", pa.int64()),  # as it was when the batch was cut, with time of change and digest
        pa.field("mtime_ns", pa.int64()),
        pa.field("digest", pa.string()),
        pa.field("part", pa.int32()),  # which part of the files' frames, where batches share files
    ]
)
CONTROL_MAPS = pa.schema(
    [
        *IDENTITY,
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("control", pa.large_binary()),  # PNG, RGB: canonical xyz of the surface
        pa.field("depth", pa.large_binary()),  # PNG, 16 bit, millimetres; 0 is background
        pa.field("normals", pa.large_binary()),  # PNG, RGB: camera-frame normal, (n + 1) / 2
        pa.field("parts", pa.large_binary()),  # PNG, 8 bit: SMPL-X joint index + 1; 0 is background
        pa.field("silhouette", pa.large_binary()),  # PNG, 8 bit: 0 or 255
        pa.field("joints_2d", _vec(55 * 2)),  # SMPL-X joints, pixels
        pa.field("joints_visible", pa.list_(pa.bool_(), 55)),  # in frame and not hidden in the depth buffer
        pa.field("joints_cam_m", _vec(55 * 3)),
        pa.field("keypoints_2d", _vec(17 * 2)),  # COCO's 17, pixels
        pa.field("keypoints_visible", pa.list_(pa.bool_(), 17)),
        pa.field("keypoints_in_frame", pa.list_(pa.bool_(), 17)),
        pa.field("bbox", _vec(4)),  # of the silhouette, x y w h, pixels
        pa.field("body_pixels", pa.int32()),
    ]
)
RENDERED_SCENES = pa.schema(
    [
        *IDENTITY,
        pa.field("image", pa.large_binary()),
        pa.field("caption", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("split", pa.string()),  # train or reference
    ]
)
PREFERENCE_PAIRS = pa.schema(
    [
        *IDENTITY,
        pa.field("split", pa.string()),  # train or val; test poses are never paired
        pa.field("status", pa.string()),  # pair, small_gap, weak_winner; no_alignment where no candidates were painted
        pa.field("candidate_oks", pa.list_(pa.float32())),
        pa.field("candidate_seeds", pa.list_(pa.int64())),
        pa.field("candidate_strengths", pa.list_(pa.float32())),
        pa.field("winner", pa.int32()),  # index of the candidate
        pa.field("loser", pa.int32()),
        pa.field("winner_oks", pa.float32()),
        pa.field("loser_oks", pa.float32()),
        pa.field("candidate_images", pa.list_(pa.large_binary())),  # in the order of candidate_oks
        pa.field("winner_image", pa.large_binary()),
        pa.field("loser_image", pa.large_binary()),
        pa.field("caption", pa.string()),
    ]
)
RAW_GENERATIONS = pa.schema(
    [
        *IDENTITY,
        pa.field("round", pa.string()),  # base or hard
        pa.field("image", pa.large_binary()),
        pa.field("caption", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("steps", pa.int32()),
        pa.field("guidance", pa.float32()),
        pa.field("generator", pa.string()),  # backend and digest of its weights
        pa.field("adapter", pa.string()),  # digest of the DPO adapter, or none
        pa.field("image_id", pa.string()),
    ]
)
SAMPLE_SCORES = pa.schema(
    [
        *IDENTITY,
        pa.field("oks", pa.float32()),  # judge detector against projected joints
        pa.field("ranker_oks", pa.float32()),
        pa.field("detected", _vec(17 * 3)),  # judge: x, y in pixels, confidence
        pa.field("people", pa.int32()),
        pa.field("people_score", pa.float32()),
        pa.field("head_error_deg", pa.float32()),  # null when too few face keypoints are seen
        pa.field("top_colour_error", pa.float32()),  # see scoring/colours.py; null without a named colour
    ]
)
FILTERED_DATASET = pa.schema(
    [
        *IDENTITY,
        pa.field("keep", pa.bool_()),
        pa.field("reason", pa.string()),  # first failed test, or "kept"
        pa.field("reasons", pa.list_(pa.string())),  # all failed tests
        pa.field("oks", pa.float32()),
        pa.field("image", pa.large_binary()),
        pa.field("round", pa.string()),
        *PROVENANCE,
        *BODY,
        *CAMERA,
        pa.field("caption", pa.string()),
        pa.field("keypoints_2d", _vec(17 * 2)),
        pa.field("keypoints_visible", pa.list_(pa.bool_(), 17)),
        pa.field("joints_2d", _vec(55 * 2)),
        pa.field("joints_visible", pa.list_(pa.bool_(), 55)),
        pa.field("joints_cam_m", _vec(55 * 3)),
        pa.field("bbox", _vec(4)),
    ]
)
# One row for each person: `sample_id` is the image's id for person 0, `<image_id>/<k>` for further people.
DATASET = pa.schema(
    [
        *IDENTITY,
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("person", pa.int32(), nullable=False),
        pa.field("image_digest", pa.string()),  # `row_digest` of the row of raw_generations that holds the image
        *(field for field in FILTERED_DATASET if field.name not in ("sample_id", "partition_key", "keep", "image")),
    ]
)
CHECKPOINTS = pa.schema(
    [
        *IDENTITY,  # sample_id: "<name>/<digest>"
        pa.field("name", pa.string()),
        pa.field("path", pa.string()),  # relative to the storage root
        pa.field("metrics", pa.string()),  # JSON
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "pose_files": POSE_FILES,
    "pose_library": POSE_LIBRARY,
    "quarantine": QUARANTINE,
    "rendered_scenes": RENDERED_SCENES,
    "preference_pairs": PREFERENCE_PAIRS,
    "hard_samples": HARD_SAMPLES,
    **{f"{r}_control_maps": CONTROL_MAPS for r in ("base", "hard")},
    **{f"{r}_raw_generations": RAW_GENERATIONS for r in ("base", "hard")},
    **{f"{r}_sample_scores": SAMPLE_SCORES for r in ("base", "hard")},
    **{f"{r}_filtered_dataset": FILTERED_DATASET for r in ("base", "hard")},
    "raw_generations": RAW_GENERATIONS,
    "dataset": DATASET,
    "checkpoints": CHECKPOINTS,
}

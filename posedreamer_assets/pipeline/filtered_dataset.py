"""Verdicts of a pose batch: which images are kept, and why the others are not."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.config import Profile
from posedreamer_assets.scoring.verdict import judge_samples
from posedreamer_assets.tables.fields import BODY, CAMERA, FILTERED_DATASET, PROVENANCE
from posedreamer_assets.tables.images import decode_all
from posedreamer_assets.tables.rows import array, same_rows

_FROM_MAPS = ("keypoints_2d", "keypoints_visible", "joints_2d", "joints_visible", "joints_cam_m", "bbox")


def filter_rows(
    profile: Profile, round_name: str, poses: pa.Table, maps: pa.Table, generations: pa.Table, scores: pa.Table
) -> pa.Table:
    """Rows of `records.FILTERED_DATASET`: all samples with their verdicts and labels."""
    same_rows(poses, maps, generations, scores)
    verdicts = judge_samples(
        array(scores, "oks").astype(np.float32),
        array(scores, "people").astype(np.int64),
        array(scores, "head_error_deg").astype(np.float32),
        profile.curation,
    )
    columns: dict[str, Any] = {
        "sample_id": poses.column("sample_id"),
        "partition_key": poses.column("partition_key"),
        "keep": pa.array([verdict.keep for verdict in verdicts]),
        "reason": pa.array([verdict.reason for verdict in verdicts]),
        "reasons": pa.array([list(verdict.reasons) for verdict in verdicts], pa.list_(pa.string())),
        "oks": scores.column("oks"),
        "image": generations.column("image"),
        "round": pa.array([round_name] * len(verdicts)),
        **{field.name: poses.column(field.name) for field in (*PROVENANCE, *BODY, *CAMERA)},
        "caption": poses.column("caption"),
        **{name: maps.column(name) for name in _FROM_MAPS},
    }
    return pa.table({field.name: columns[field.name] for field in FILTERED_DATASET}, schema=FILTERED_DATASET)


def kept_first(rows: pa.Table, most: int = 12) -> np.ndarray:
    """Some images, kept ones before rejected ones."""
    kept = rows.filter(pc.field("keep"))
    rejected = rows.filter(~pc.field("keep"))
    blobs = pa.concat_tables([kept.select(["image"]), rejected.select(["image"])]).column("image").slice(0, most)
    return decode_all(blobs.to_pylist())

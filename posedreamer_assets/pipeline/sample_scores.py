"""Scores of the images of a pose batch."""

from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.models import counter_of, detector_of
from posedreamer_assets.scoring.colours import garment_colour_errors
from posedreamer_assets.scoring.detectors import KeypointDetector
from posedreamer_assets.scoring.head import head_errors_deg
from posedreamer_assets.scoring.oks import object_keypoint_similarity
from posedreamer_assets.tables.fields import SAMPLE_SCORES
from posedreamer_assets.tables.rows import array, images, make_table, points, same_rows, texts


def oks_of(detector: KeypointDetector, pictures: np.ndarray, maps: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """OKS (n,) of a detector's keypoints against the projected ones, and the detections (n, 17, 3).

    Keypoints that the body itself hides are not counted: no detector can place them. The area is the silhouette's.
    """
    detected = detector.detect(pictures)
    oks = object_keypoint_similarity(
        detected[..., :2],
        points(maps, "keypoints_2d", 2),
        array(maps, "keypoints_visible").astype(bool),
        array(maps, "body_pixels").astype(np.float32),
    )
    return oks.astype(np.float32), detected


def score_rows(profile: Profile, poses: pa.Table, maps: pa.Table, generations: pa.Table, key: str) -> pa.Table:
    """Rows of `records.SAMPLE_SCORES`."""
    same_rows(poses, maps, generations)
    pictures = images(generations, "image")
    oks, detected = oks_of(detector_of(profile.judge, profile.image), pictures, maps)
    ranker_oks, _ = oks_of(detector_of(profile.ranker, profile.image), pictures, maps)
    people, people_score = counter_of(profile.image).count(pictures)
    columns: dict[str, Any] = {
        "sample_id": texts(poses, "sample_id"),
        "partition_key": [key] * poses.num_rows,
        "oks": oks,
        "ranker_oks": ranker_oks,
        "detected": detected,
        "people": people,
        "people_score": people_score,
        "head_error_deg": head_errors_deg(
            detected, points(maps, "keypoints_2d", 2), array(maps, "keypoints_in_frame").astype(bool)
        ),
        "top_colour_error": garment_colour_errors(pictures, images(maps, "parts"), texts(poses, "caption")),
    }
    return make_table(columns, SAMPLE_SCORES)

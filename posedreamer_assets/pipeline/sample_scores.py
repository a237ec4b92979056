"""How well each image shows its pose."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.figures import mean, share
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.pipeline.thumbnails import detections
from posedreamer_assets.tables.fields import OF_PERSON, SCHEMAS, names_of
from posedreamer_assets.tables.keys import BASE
from posedreamer_assets.tables.rows import array, images, make_table, points, same_rows, texts

if TYPE_CHECKING:
    from posedreamer_assets.scoring.detectors import KeypointDetector

TABLE = "sample_scores"
OKS_OF = ("keypoints_2d", "keypoints_visible", "body_pixels", "bbox")
"""Columns of control maps that detections are made and compared with: detectors of labelled people are shown their box."""
OF_MAPS = (*OKS_OF, "keypoints_in_frame", "parts")
"""Columns of control maps that scores are made from."""


def make(inputs: Inputs) -> Made:
    """Scores of each image by detectors that have not seen its label."""
    poses, maps, generations = (inputs.rows(name) for name in ("pose_library", "control_maps", "raw_generations"))
    same_rows(poses, maps, generations)
    pictures = images(generations, "image")
    columns, detected = scored(inputs, pictures, poses, maps)
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=detections(pictures, detected))


def scored(inputs: Inputs, pictures: np.ndarray, poses: pa.Table, maps: pa.Table) -> tuple[dict[str, Any], np.ndarray]:
    """Columns of this table for images (n, h, w, 3) of these poses, and the judge's detections (n, 17, 3).

    Args:
        inputs: of the stage that scores; where it reads `rendered_scenes`, renders are scored too.
        pictures: of the same samples, in their order.
        poses: `sample_id` and `caption`.
        maps: columns `OF_MAPS`.
    """
    from posedreamer_assets.scoring.colours import garment_colour_errors
    from posedreamer_assets.scoring.head import head_errors_deg

    oks, detected = oks_of(inputs.models.judge, pictures, maps)
    ranker_oks, _ = oks_of(inputs.models.ranker, pictures, maps)
    rendered = None
    if any(reads.table == "rendered_scenes" for reads in inputs.stage.reads):
        renders = inputs.rows("rendered_scenes")
        same_rows(poses, renders)
        rendered, _ = oks_of(inputs.models.judge, images(renders, "image"), maps)
    people, people_score = inputs.models.counter.count(pictures)
    columns: dict[str, Any] = {
        "sample_id": texts(poses, "sample_id"),
        "partition_key": [inputs.key] * poses.num_rows,
        "oks": oks,
        "render_oks": [None] * len(oks) if rendered is None else rendered,
        "ranker_oks": ranker_oks,
        "detected": detected,
        "people": people,
        "people_score": people_score,
        "head_error_deg": head_errors_deg(
            detected, points(maps, "keypoints_2d", 2), array(maps, "keypoints_in_frame").astype(bool)
        ),
        "top_colour_error": garment_colour_errors(pictures, images(maps, "parts"), texts(poses, "caption")),
    }
    return columns, detected


def oks_of(detector: "KeypointDetector", pictures: np.ndarray, maps: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """OKS (n,) of a detector's keypoints against the projected ones, and the detections (n, 17, 3).

    Keypoints that the body itself hides are not counted: no detector can place them. The area is the silhouette's.

    Args:
        detector: looks at the pictures.
        pictures: (n, h, w, 3).
        maps: columns `OKS_OF` of the same samples.
    """
    from posedreamer_assets.scoring.oks import object_keypoint_similarity

    detected = detector.detect(pictures, array(maps, "bbox"))
    oks = object_keypoint_similarity(
        detected[..., :2],
        points(maps, "keypoints_2d", 2),
        array(maps, "keypoints_visible").astype(bool),
        array(maps, "body_pixels").astype(np.float32),
    )
    return oks.astype(np.float32), detected


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How the scores are spread; what is crowded is the profile's word."""
    oks, people = array(rows, "oks").astype(float), array(rows, "people")
    usable = oks[np.isfinite(oks)]
    return {
        "mean_oks": mean(rows, "oks"),
        "median_oks": round(float(np.median(usable)), 4) if len(usable) else float("nan"),
        "mean_render_oks": mean(rows, "render_oks"),
        "mean_ranker_oks": mean(rows, "ranker_oks"),
        "no_person_share": share(int((people < 1).sum()), len(people)),
        "crowded_share": share(int((people > profile.curation.max_people).sum()), len(people)),
        "mean_head_error_deg": mean(rows, "head_error_deg"),
        "mean_top_colour_error": mean(rows, "top_colour_error"),
    }


def origins(profile: Profile) -> Origins:
    """Everything comes from the picture; what it is held against, from maps and caption."""
    picture = all_of("raw_generations", "image")
    return {
        **copied("pose_library", *names_of(OF_PERSON)),
        **dict.fromkeys(("oks", "ranker_oks"), (*picture, *all_of("control_maps", *OKS_OF))),
        **dict.fromkeys(("detected", "people", "people_score"), picture),
        "head_error_deg": (*picture, *all_of("control_maps", "keypoints_2d", "keypoints_in_frame")),
        "top_colour_error": (*picture, *all_of("control_maps", "parts"), *all_of("pose_library", "caption")),
    }


def origins_of_base(profile: Profile) -> Origins:
    """Of the round that has renders of its poses."""
    render = (*all_of("rendered_scenes", "image"), *all_of("control_maps", *OKS_OF))
    return {**origins(profile), "render_oks": render}


_STAGE = Stage(
    TABLE,
    "One row per image: OKS of the judging and of the ranking detector against the projected joints, that of the judge on a "
    "render of the same pose, people counted, head pose error, garment colour error.",
    make,
    "2",
    table=TABLE,
    settings=("judge", "ranker", "counter"),
    files=("judge", "ranker", "counter"),
    reads=(
        Reads("pose_library", ("caption",)),
        Reads("control_maps", OF_MAPS),
        Reads("raw_generations", ("image",)),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=lambda profile: 4 * profile.poses.batch_size,
    kinds=frozenset(("torch", "lance")),
    pool="gpu",
)


def stage(name: str, every_render: bool = True) -> Stage:
    """Of a round; only the base round has renders, where they are made of every pose."""
    if name != BASE or not every_render:
        return _STAGE.of_round(name, name)
    reads = (*_STAGE.reads, Reads("rendered_scenes", ("image",)))
    return replace(_STAGE, reads=reads, origins=origins_of_base).of_round(name, name)

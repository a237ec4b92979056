"""Which images are kept, and why the others are not."""

from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.figures import mean, share
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied, rows_of_batch
from posedreamer_assets.scoring.verdict import COLUMNS as JUDGED
from posedreamer_assets.scoring.verdict import KEPT, REASONS, judge_samples
from posedreamer_assets.tables.fields import BODY, CAMERA, LABELS, OF_PERSON, PROVENANCE, SCHEMAS, names_of
from posedreamer_assets.tables.keys import group_of
from posedreamer_assets.tables.rows import array, images, same_rows, texts

TABLE = "filtered_dataset"
_OF_POSE = (
    *names_of(OF_PERSON[2:]),
    *names_of(PROVENANCE),
    *names_of(BODY),
    *names_of(CAMERA),
    "caption",
    "predicted_oks",
)
_OF_MAP = names_of(LABELS)
_OF_SCORES = tuple(dict.fromkeys(("oks", *JUDGED)))
_SHOWN = 12


def make(inputs: Inputs) -> Made:
    """All samples with their verdicts and labels; the images stay where they are."""
    tables = [inputs.rows(name) for name in ("pose_library", "control_maps", "sample_scores")]
    poses, maps, scores = tables
    painted = inputs.rows("raw_generations", ("row_digest",))
    same_rows(*tables, painted)
    judged = {name: array(scores, name) for name in JUDGED}
    verdicts = judge_samples(judged, texts(poses, "family"), inputs.profile.curation)
    columns: dict[str, Any] = {
        "sample_id": poses.column("sample_id"),
        "partition_key": pa.array([inputs.key] * len(verdicts)),
        "keep": pa.array([verdict.keep for verdict in verdicts], pa.bool_()),
        "reason": pa.array([verdict.reason for verdict in verdicts], pa.string()),
        "reasons": pa.array([list(verdict.reasons) for verdict in verdicts], pa.list_(pa.string())),
        "image_digest": painted.column("row_digest"),
        "oks": scores.column("oks"),
        "render_oks": scores.column("render_oks"),
        "round": pa.array([group_of(inputs.key)] * len(verdicts)),
        **{name: poses.column(name) for name in _OF_POSE},
        **{name: maps.column(name) for name in _OF_MAP},
    }
    rows = pa.table([columns[name] for name in SCHEMAS[TABLE].names], schema=SCHEMAS[TABLE])
    return Made(rows, pictures=_kept_first(inputs, rows))


def _kept_first(inputs: Inputs, rows: pa.Table) -> np.ndarray | None:
    """Some images, kept ones before rejected ones."""
    import pyarrow.compute as pc

    ids = pa.concat_tables([rows.filter(pc.field("keep")), rows.filter(~pc.field("keep"))]).column("sample_id")
    some = ids.slice(0, _SHOWN).to_pylist()
    return images(inputs.take("raw_generations", some, ("image",)), "image") if some else None


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many are kept, and how many fail which test first."""
    reasons = rows.column("reason").to_pylist()
    kept = rows.filter(pa.array([reason == KEPT for reason in reasons], pa.bool_()))
    return {
        "kept": kept.num_rows,
        "pass_rate": share(kept.num_rows, rows.num_rows),
        **{f"rejected_{reason}": reasons.count(reason) for reason in REASONS},
        **{f"rejected_{reason}_rate": share(reasons.count(reason), rows.num_rows) for reason in REASONS},
        "mean_oks": mean(rows, "oks"),
        "mean_oks_of_kept": mean(kept, "oks"),
    }


def origins(profile: Profile) -> Origins:
    """Labels are carried along; verdicts come from the scores that the tests look at."""
    judged = (*all_of("sample_scores", *JUDGED), *all_of("pose_library", "family"))
    return {
        **copied("pose_library", "sample_id", "partition_key", *_OF_POSE),
        **copied("control_maps", *_OF_MAP),
        **dict.fromkeys(("keep", "reason", "reasons"), judged),
        **copied("sample_scores", "oks", "render_oks"),
        "image_digest": all_of("raw_generations", "row_digest"),
    }


STAGE = Stage(
    TABLE,
    "One row per image with its verdict: kept, or rejected with the reasons, and its whole label. Rejected rows stay.",
    make,
    "3",
    table=TABLE,
    settings=("curation",),
    reads=(
        Reads("pose_library", _OF_POSE),
        Reads("control_maps", _OF_MAP),
        Reads("raw_generations", ("image", "row_digest")),
        Reads("sample_scores", _OF_SCORES),
    ),
    seeded=False,
    origins=origins,
    figures=figures,
    units=rows_of_batch,
    kinds=frozenset(("lance",)),
)

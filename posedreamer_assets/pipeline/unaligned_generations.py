"""What the base round would be without alignment: the same poses from the same noise, for students that say what it is worth.

One table holds image, scores and verdict, since nothing but recipes of students reads them.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import sample_scores
from posedreamer_assets.pipeline.control_images import control_column
from posedreamer_assets.pipeline.figures import mean, share
from posedreamer_assets.pipeline.raw_generations import painted
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.scoring.verdict import COLUMNS as JUDGED
from posedreamer_assets.scoring.verdict import judge_samples
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import BASE
from posedreamer_assets.tables.rows import make_table, texts

TABLE = "unaligned_generations"
_OF_POSE = ("caption", "family")


def make(inputs: Inputs) -> Made:
    """Paint without the adapter, score and judge as the base round's own images are."""
    poses, maps = inputs.rows("pose_library"), inputs.rows("control_maps")
    made, columns = painted(inputs, poses, maps, None)
    scores, _ = sample_scores.scored(inputs, made, poses, maps)
    judged = {name: np.array(scores[name], np.float64) for name in JUDGED}
    verdicts = judge_samples(judged, texts(poses, "family"), inputs.profile.curation)
    generator = inputs.models.generator
    found: dict[str, Any] = {
        **columns,
        "generator": [f"{generator.name}:{generator.digest}"] * len(verdicts),
        "oks": scores["oks"],
        "render_oks": scores["render_oks"],
        "keep": [verdict.keep for verdict in verdicts],
        "reason": [verdict.reason for verdict in verdicts],
        "reasons": [list(verdict.reasons) for verdict in verdicts],
    }
    return Made(make_table(found, SCHEMAS[TABLE]), pictures=made)


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many would be kept."""
    kept = sum(rows.column("keep").to_pylist())
    return {"kept": kept, "pass_rate": share(kept, rows.num_rows), "mean_oks": mean(rows, "oks")}


def origins(profile: Profile) -> Origins:
    """Images come from control image and caption, all else from images."""
    control = control_column(profile.generator)
    drawn = (*all_of("control_maps", control), *all_of("pose_library", "caption"))
    found = (*drawn, *all_of("control_maps", *sample_scores.OKS_OF))
    return {
        **copied("pose_library", "sample_id", "partition_key", "image_id", "caption"),
        "image": drawn,
        **dict.fromkeys(("oks", "keep", "reason", "reasons"), found),
        "render_oks": (*all_of("rendered_scenes", "image"), *all_of("control_maps", *sample_scores.OKS_OF)),
    }


def under(stage: Stage, profile: Profile) -> Stage:
    """It reads the map that the profile's generator is given."""
    columns = dict.fromkeys((control_column(profile.generator), *sample_scores.OF_MAPS))
    changed = (replace(one, columns=tuple(columns)) if one.table == "control_maps" else one for one in stage.reads)
    return replace(stage, reads=tuple(changed))


STAGE = replace(
    Stage(
        TABLE,
        "One row per pose of the base round: the image that the generator paints without alignment from the same noise, with its "
        "scores and the verdict that the filter would give.",
        make,
        "1",
        table=TABLE,
        settings=("generator", "image", "judge", "ranker", "counter", "curation"),
        files=("judge", "ranker", "counter"),
        reads=(
            Reads("pose_library", _OF_POSE),
            Reads("control_maps", ("control", *sample_scores.OF_MAPS)),
            Reads("rendered_scenes", ("image",)),
        ),
        checkpoints=("control_checkpoint",),
        origins=origins,
        figures=figures,
        units=lambda profile: 5 * profile.poses.batch_size,
        under=under,
        kinds=frozenset(("diffusers", "torch", "lance")),
        pool="gpu",
        starts="request",
    ).of_round(BASE, BASE),
    ui_group="students",
)

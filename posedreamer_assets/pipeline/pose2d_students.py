"""One network of an arm: trained on from the baseline, from one seed, for as many steps as every other."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import BASELINE, Arm, Profile
from posedreamer_assets.pipeline import annotated_photos, photo_people, pose2d_baseline, scene_images, scene_people
from posedreamer_assets.pipeline import styled_images
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
)
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import PHOTO, SCENE, sample_id
from posedreamer_assets.tables.rows import array, make_table

if TYPE_CHECKING:
    from posedreamer_assets.people2d.learn import Learned

TABLE = "pose2d_students"


def make(inputs: Inputs) -> Made:
    """Train from a seed that follows from its number alone, the same one for every arm; the baseline is taken as it is."""
    arm, number = arm_of(inputs.key)
    seed = derive_seed(inputs.profile.seed, f"seed {number}", "pose2d")
    start = pose2d_baseline.file_of(inputs.checkpoint(pose2d_baseline.KEY))
    ...

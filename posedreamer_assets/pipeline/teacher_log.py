"""What a teacher did: every update that it made, from which the next one can be computed again."""

import json
from typing import Any

import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import pose2d_students
from posedreamer_assets.pipeline.arm_study import TEACHER_SETTING, arm_of
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, copied
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import TEACHER, sample_id
from posedreamer_assets.tables.rows import make_table

TABLE = "teacher_log"
_NAMES = {
    "window": "window",
    "group": "chosen_group",
    "explored": "explored",
    "probabilities": "probabilities",
    "target": "target",
    "reward": "reward",
    "loss": "window_loss",
    "history_mean": "history_mean",
    "sizes": "group_sizes",
}


def make(inputs: Inputs) -> Made:
    """A row for each update of a network's teacher."""
    student = inputs.rows(pose2d_students.TABLE).to_pylist()[0]
    logged = json.loads(student["updates"])
    updates, (arm, number) = logged["updates"], arm_of(inputs.key)
    count = len(updates)
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, index) for index in range(count)],
        "partition_key": [inputs.key] * count,
        "arm": [arm.name] * count,
        "training_seed": [number] * count,
        **{column: [one[name] for one in updates] for name, column in _NAMES.items()},
        "edges": [logged["edges"]] * count,
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How often a group was harder than of late, and how uneven the last probabilities are."""
    if not rows.num_rows:
        return {"updates": 0.0}
    rewards = rows.column("reward").to_pylist()
    last = rows.column("probabilities")[rows.num_rows - 1].as_py()
    return {
        "updates": float(rows.num_rows),
        "rewarded_share": round(rewards.count(1) / len(rewards), 4),
        "largest_probability": round(max(last), 4),
    }


def origins(profile: Profile) -> Origins:
    """Everything was logged in training."""
    table = pose2d_students.TABLE
    return {
        **copied(table, "arm", "training_seed"),
        **dict.fromkeys((*_NAMES.values(), "edges"), ((table, "updates"),)),
    }


STAGE = Stage(
    TABLE,
    "One row per update of a teacher: the group that was trained on, whether it was harder than of late (eq. 1), the "
    "probabilities before, and what they are to become (eq. 2).",
    make,
    "1",
    table=TABLE,
    groups=(TEACHER,),
    settings=(TEACHER_SETTING,),
    reads=(Reads(pose2d_students.TABLE, ("arm", "training_seed", "updates")),),
    seeded=False,
    origins=origins,
    figures=figures,
    ui_group="arms",
    kinds=frozenset(("numpy", "lance")),
    starts="request",
)

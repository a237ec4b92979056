"""Tests of networks trained on arms: equal parts, frozen layers, test photographs, equation 2, and tables with intervals."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from posedreamer_assets.checks.model import Around, DataCheck, Measured, Verdicts
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.config import arm_called
from posedreamer_assets.config.arms import NONE
from posedreamer_assets.pipeline import pose2d_baseline
from posedreamer_assets.pipeline.pose2d_students import weights_of


def half_and_half(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Half of all that was drawn comes from each of an arm's sources, or everything from its only one."""
    columns = ("arm", "steps", "batch_size", "real_seen", "synthetic_seen")
    return [_as_planned(*values) for values in zip(*(rows.values(name) for name in columns), strict=True)]


def _as_planned(name: str, steps: int, batch: int, real: int, synthetic: int) -> bool:
    try:
        arm = arm_called(name)
    except KeyError:
        return False
    parts = arm.real + (arm.synthetic != NONE)
    each = steps * batch // max(1, parts)
    return (real, synthetic) == (each * arm.real, each * (arm.synthetic != NONE))


def in_split(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Each row's photograph is in the split that it must be in."""
    assert check.column is not None, "held by the kind's scope"
    known = _split(check, around)
    return [None if name is None else name in known for name in rows.values(check.column)]


def covers_split(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """No photograph of the split is missing, and none is there twice."""
    assert check.column is not None, "held by the kind's scope"
    named = [name for name in rows.values(check.column) if name is not None]
    missing, twice = _split(check, around) - set(named), len(named) - len(set(named))
    return Measured(len(missing) + twice, 0, f"{len(missing)} photographs missing, {twice} there again")


def _split(check: DataCheck, around: Around) -> set[str]:
    found = [around.everywhere(table, ["sample_id", "split"]) for table in check.args["to"]]
    return {row["sample_id"] for table in found for row in table.to_pylist() if row["split"] == check.args["split"]}


def joints_for_people(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Lists are as long as the people found need."""
    columns = ("people_found", "found_2d", "found_joints", "found_scores")
    lists = [
        None not in values and tuple(map(len, values[1:])) == (32 * values[0], 16 * values[0], 16 * values[0])
        for values in zip(*(rows.values(name) for name in columns), strict=True)
    ]
    groups = zip(rows.values("people_found"), rows.values("found_group"), strict=True)
    return [right and (of is None or len(of) == count) for right, (count, of) in zip(lists, groups, strict=True)]


def eq2_followed(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Every update can be computed again from its row, under the profile's teacher."""
    from posedreamer_assets.curriculum.teacher import Update, follows_eq2

    profile = around.profile()
    if profile is None:
        return [None] * len(rows)
    cfg = profile.teacher
    return [
        follows_eq2(
            Update(
                row["window"],
                row["chosen_group"],
                row["explored"],
                np.array(row["probabilities"], float),
                np.array(row["target"], float),
                row["reward"],
                row["window_loss"],
                row["history_mean"],
                np.array(row["group_sizes"], int),
            ),
            cfg.alpha,
            cfg.min_samples,
        )
        for row in rows.table.to_pylist()
    ]


def cells_have_intervals(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Each figure that has a mean has both ends of an interval around it; there is at least one."""
    assert check.column is not None, "held by the kind's scope"
    cells = [[] if text is None else list(_cells(json.loads(text))) for text in rows.values(check.column)]
    return [bool(of) and all(_lies_between(cell) for cell in of) for of in cells]


def _cells(report: Mapping[str, Any]) -> Iterator[Any]:
    """Every figure of a report that has to have an interval."""
    for arm in (*report.get("arms", {}).values(), *report.get("scenes", {}).get("arms", {}).values()):
        yield from (*arm["cells"].values(), *arm["minus"].values())
    yield from (one["minus"] for one in report.get("contrasts", []))
    for part in report.get("seen", []):
        yield from (cell for arm in part["arms"].values() for cell in arm.values())


def _lies_between(cell: Any) -> bool:
    if not isinstance(cell, Mapping) or not {"mean", "low", "high"} <= set(cell):
        return False
    mean, low, high = cell["mean"], cell["low"], cell["high"]
    if mean is None and low is None and high is None:
        return True  # nobody is annotated, and the table says so
    return mean is not None and low is not None and high is not None and low <= mean <= high


def frozen_layers_kept(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The frozen layers of the stored weights have the digest that is stored, and it is the baseline's."""
    from posedreamer_assets.people2d.network import frozen_digest

    profile = around.profile()
    if profile is None:
        return [None] * len(rows)
    starts = {}
    for row in around.everywhere("checkpoints", ["name", "metrics"]).to_pylist():
        if row["name"] == pose2d_baseline.KEY:
            facts = json.loads(row["metrics"])
            starts[facts["digest"]] = facts["frozen_digest"]
    columns = zip(*(rows.values(name) for name in ("weights", "frozen_digest", "baseline_digest")), strict=True)
    return [
        frozen == starts.get(start) == frozen_digest(weights_of(weights), profile.pose2d)
        for weights, frozen, start in columns
    ]

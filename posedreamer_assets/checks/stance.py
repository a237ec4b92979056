"""Tests of bodies as people: how tall they are, whether they stand on the ground, and which way up."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.checks.files import BODY_MEASURES
from posedreamer_assets.checks.labels import spread, usable_rows
from posedreamer_assets.checks.model import Around, DataCheck, Verdicts
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.poses.floor import lowest_points_m, sole_pitch_deg
from posedreamer_assets.poses.stature import stature_m
from posedreamer_assets.poses.upright import trunk_tilt_deg
from posedreamer_assets.tables.fields import BODY_COLUMNS
from posedreamer_assets.tables.rows import bodies


def _steepest_sole_deg(body: BodyModel, params: BodyParams) -> Float[np.ndarray, "n"]:
    """Pitch of the steeper of the soles that touch the ground, degrees, without its sign; NaN where none does."""
    pitch = np.abs(sole_pitch_deg(body, params))
    return np.where(np.isnan(pitch).all(1), np.nan, np.nan_to_num(pitch, nan=-1.0).max(1))


_MEASURES: dict[str, Callable[[BodyModel, BodyParams], np.ndarray]] = {
    "stature_m": lambda body, params: stature_m(body, params.betas),
    "lowest_m": lowest_points_m,
    "trunk_tilt_deg": trunk_tilt_deg,
    "sole_pitch_deg": _steepest_sole_deg,
}
assert tuple(_MEASURES) == BODY_MEASURES
"""Height in the T-pose; height of the lowest vertex over the ground; angle of the trunk with the vertical; pitch of the steeper
planted sole."""


def body_measure_between(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """A measure of each body is within a range; bodies that it says nothing of pass."""
    usable = usable_rows(rows, BODY_COLUMNS)
    if not len(usable):
        return [None] * len(rows)
    found = _MEASURES[check.args["of_body"]](around.body(), bodies(rows.take(usable).table))
    low, high = check.args.get("min", -np.inf), check.args.get("max", np.inf)
    return spread(len(rows), usable, np.isnan(found) | ((found >= low) & (found <= high)))

"""Numbers that say how a partition came out, the same ones for every partition of a table: what is plotted over them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.scoring.verdict import KEPT, REASONS
from posedreamer_assets.tables.rows import array

PAIR_STATUSES = ("pair", "small_gap", "weak_winner", "no_alignment")


def facts(table: str, rows: pa.Table) -> dict[str, int | float]:
    """Figures of a partition's rows by name; which ones there are depends on the table alone.

    A figure that nothing could be measured for is left out: it has no place in a plot.

    Args:
        table: a name in `records.SCHEMAS`.
        rows: of one partition, as they are stored.
    """
    found = _FACTS[table](rows) if table in _FACTS else {}
    return {name: value for name, value in found.items() if math.isfinite(value)} | {"bytes": rows.nbytes}


def _poses(rows: pa.Table) -> dict[str, float]:
    return {
        "families": len(set(rows.column("family").to_pylist())),
        "truncated_share": _mean(rows, "truncated"),
        "mean_camera_pitch_deg": _mean(rows, "cam_pitch_deg"),
    }


def _hard_poses(rows: pa.Table) -> dict[str, float]:
    return {**_poses(rows), "mean_predicted_oks": _mean(rows, "predicted_oks")}


def _maps(rows: pa.Table) -> dict[str, float]:
    area = array(rows, "width").astype(float) * array(rows, "height")
    return {
        "body_share": round(float(np.mean(array(rows, "body_pixels") / area)), 4) if rows.num_rows else math.nan,
        "keypoints_visible_share": _mean(rows, "keypoints_visible"),
    }


def _scenes(rows: pa.Table) -> dict[str, float]:
    return {"reference_rows": rows.column("split").to_pylist().count("reference")}


def _pairs(rows: pa.Table) -> dict[str, float]:
    statuses = rows.column("status").to_pylist()
    counts = {f"status_{name}": statuses.count(name) for name in PAIR_STATUSES}
    gap = array(rows, "winner_oks") - array(rows, "loser_oks")
    return {
        **counts,
        "pair_rate": _share(counts["status_pair"], rows.num_rows),
        "mean_winner_oks": _mean(rows, "winner_oks"),
        "mean_oks_gap": round(float(gap.mean()), 4) if rows.num_rows else math.nan,
    }


def _scores(rows: pa.Table) -> dict[str, float]:
    oks, people = array(rows, "oks").astype(float), array(rows, "people")
    usable = oks[np.isfinite(oks)]
    return {
        "mean_oks": _mean(rows, "oks"),
        "median_oks": round(float(np.median(usable)), 4) if len(usable) else math.nan,
        "mean_ranker_oks": _mean(rows, "ranker_oks"),
        "no_person_share": _share(int((people < 1).sum()), len(people)),
        "crowded_share": _share(int((people > 1).sum()), len(people)),
        "mean_head_error_deg": _mean(rows, "head_error_deg"),
        "mean_top_colour_error": _mean(rows, "top_colour_error"),
    }


def _verdicts(rows: pa.Table) -> dict[str, float]:
    reasons = rows.column("reason").to_pylist()
    kept = rows.filter(pa.array([reason == KEPT for reason in reasons], pa.bool_()))
    return {
        "kept": kept.num_rows,
        "pass_rate": _share(kept.num_rows, rows.num_rows),
        **{f"rejected_{reason}": reasons.count(reason) for reason in REASONS},
        **{f"rejected_{reason}_rate": _share(reasons.count(reason), rows.num_rows) for reason in REASONS},
        "mean_oks": _mean(rows, "oks"),
        "mean_oks_of_kept": _mean(kept, "oks"),
    }


_FACTS: dict[str, Callable[[pa.Table], dict[str, float]]] = {
    "pose_library": _poses,
    "hard_samples": _hard_poses,
    "rendered_scenes": _scenes,
    "preference_pairs": _pairs,
    **{f"{name}_control_maps": _maps for name in ("base", "hard")},
    **{f"{name}_sample_scores": _scores for name in ("base", "hard")},
    **{f"{name}_filtered_dataset": _verdicts for name in ("base", "hard")},
}


def _mean(rows: pa.Table, column: str) -> float:
    """The mean of a column's measured values; NaN where there are none."""
    values = array(rows, column).astype(float)
    usable = values[np.isfinite(values)]
    return round(float(usable.mean()), 4) if len(usable) else math.nan


def _share(count: int, of: int) -> float:
    return round(count / of, 4) if of else math.nan


def flat_figures(figures: Mapping[str, Any], within: str = "") -> dict[str, int | float | str]:
    """A checkpoint's figures as single values, so that each can be plotted over its materialisations.

    An estimate with an interval, {"mean", "ci95"} or {"value", "low", "high"}, gives its name, `<name>_low` and
    `<name>_high`; other nested names are joined with a slash. Lists and what is not finite are left out.
    """
    flat: dict[str, int | float | str] = {}
    for name, value in figures.items():
        place = f"{within}{name}"
        if isinstance(value, Mapping):
            flat |= _estimate(place, value) or flat_figures(value, f"{place}/")
        elif isinstance(value, str | bool) or (isinstance(value, int | float) and math.isfinite(value)):
            flat[place] = value
    return flat


def _estimate(name: str, value: Mapping[str, Any]) -> dict[str, int | float | str]:
    middle = value.get("mean", value.get("value"))
    low, high = value.get("ci95") or (value.get("low"), value.get("high"))
    if middle is None or low is None or high is None:
        return {}
    found = {name: middle, f"{name}_low": low, f"{name}_high": high}
    return {key: number for key, number in found.items() if math.isfinite(number)}

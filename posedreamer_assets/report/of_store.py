"""The sections of the report, from what is stored and up to date. Large stores are sampled: see `reading.MOST_SHOWN`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.report.coverage import COLUMNS, LOOKS, captions_in_words, coverage
from posedreamer_assets.report.gallery import GallerySample
from posedreamer_assets.report.gather import kept_by_skin_tone, pair_statuses
from posedreamer_assets.report.html import Note, PanelRow, Section
from posedreamer_assets.report.plots import distributions, kept_bars
from posedreamer_assets.report.reading import MOST_SHOWN, result_of, rows_of, rows_of_all, spread
from posedreamer_assets.report.samples import samples_of
from posedreamer_assets.report.scenes import scenes_section
from posedreamer_assets.report.sections import (
    Difficulty,
    alignment_section,
    coverage_section,
    curation_section,
    difficulty_section,
    fairness_section,
    quality_section,
    samples_section,
)
from posedreamer_assets.report.students import students_section
from posedreamer_assets.report.trained_arms import arms_section
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.scoring.verdict import KEPT
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.keys import BASE
from posedreamer_assets.tables.rows import array, texts

_SHOWN, _OF_REASON, _HARDEST = 12, 4, 6
_STRIP = ("control", "image", "detected", "mesh")  # as many as can be told from each other on a phone
_CHECKPOINT_ARRAYS = "figures.json"  # curves and per-pose figures that a checkpoint keeps for the report
_MEASURED = {
    "facing": ("Facing", "degrees; 0 faces the camera"),
    "upright": ("Torso", "degrees from upright"),
    "pitch": ("Camera pitch", "degrees, down is positive"),
    "focal": ("Focal length", "image heights"),
    "distance": ("Distance", "metres"),
    "shape 1": ("First shape component", "standard deviations"),
}


def sections_of(snapshot: Snapshot) -> list[Section]:
    """The body of the report."""
    makers = (
        *(_samples, students_section, _alignment, _curation, _difficulty, _quality, _coverage, _fairness),
        scenes_section,
        arms_section,
    )
    return [section for make in makers if (section := make(snapshot)) is not None]


def _strip(sample: GallerySample) -> PanelRow:
    tone = {"kept": "good", "rejected": "bad"}.get(sample.verdict, "")
    figures = {"OKS": sample.figures["oks"]} if "oks" in sample.figures else {}
    pictures = {title: picture for title, picture in sample.panels.items() if title in _STRIP}
    said = {**figures, "verdict": sample.reason} if sample.reason else figures
    return PanelRow(pictures, sample.sample_id, said, tone)


def _strips(snapshot: Snapshot, ids: Sequence[str]) -> list[PanelRow]:
    return [_strip(sample) for sample in samples_of(snapshot.store, ids)]


def _some(ids: Sequence[str], most: int) -> list[str]:
    """Samples spread evenly over the list."""
    return [ids[int(i)] for i in spread(len(ids), most)]


def _judged(snapshot: Snapshot) -> pa.Table | None:
    return rows_of(snapshot, snapshot.graph[f"{BASE}/filtered_dataset"], ["sample_id", "reason", "oks"])


def _samples(snapshot: Snapshot) -> Section | None:
    judged = _judged(snapshot)
    if judged is None:
        return None
    kept = texts(judged.filter(pc.field("reason") == KEPT), "sample_id")
    return samples_section(_strips(snapshot, _some(kept or texts(judged, "sample_id"), _SHOWN)))


def _curation(snapshot: Snapshot) -> Section | None:
    judged = _judged(snapshot)
    if judged is None:
        return None
    of_reason = {r: texts(judged.filter(pc.field("reason") == r), "sample_id") for r in set(texts(judged, "reason"))}
    examples = {r: _strips(snapshot, _some(ids, _OF_REASON)) for r, ids in sorted(of_reason.items())}
    threshold = snapshot.profile.curation.min_oks
    return curation_section(texts(judged, "reason"), array(judged, "oks"), min_oks=threshold, examples=examples)


def _alignment(snapshot: Snapshot) -> Section | None:
    found = result_of(snapshot, "dpo_checkpoint")
    if found is None:
        return None
    if found.metrics.get("method") == "none":
        return Section("Preference alignment", [Note(f"{found.metrics['note'].capitalize()}.")])
    figures = json.loads((found.path / _CHECKPOINT_ARRAYS).read_text())
    curves = {name: (curve["steps"], curve["values"]) for name, curve in figures["curves"].items()}
    return alignment_section(
        np.array(figures["oks_before"]),
        np.array(figures["oks_after"]),
        curves,
        pairs=pair_statuses(snapshot),
        same_seed=[_before_and_after(found.path, shown) for shown in figures["shown"]],
        judge=figures["judge"],
    )


def _before_and_after(folder: Path, shown: Mapping[str, Any]) -> PanelRow:
    pictures = {side: decode((folder / file).read_bytes()) for side, file in shown["files"].items()}
    change = shown["oks_after"] - shown["oks_before"]
    figures = {"OKS before": f"{shown['oks_before']:.2f}", "after": f"{shown['oks_after']:.2f}"}
    return PanelRow(pictures, shown["name"], figures, "good" if change > 0 else "bad" if change < 0 else "")


def _difficulty(snapshot: Snapshot) -> Section | None:
    hard = [one.name for one in snapshot.graph.rounds if one.learns_from]
    found = {name: one for name in hard if (one := _expected(snapshot, name)) is not None}
    if not found:
        return None
    scored = {name: _oks(snapshot, name) for name in (BASE, *found)}
    return difficulty_section(found, {name: array(rows, "oks") for name, rows in scored.items() if rows is not None})


def _oks(snapshot: Snapshot, name: str) -> pa.Table | None:
    return rows_of(snapshot, snapshot.graph[f"{name}/sample_scores"], ["sample_id", "oks"])


def _expected(snapshot: Snapshot, name: str) -> Difficulty | None:
    """What the model of a round expected, and what came."""
    poses = rows_of(snapshot, snapshot.graph[f"{name}/hard_samples"], ["sample_id", "predicted_oks"])
    scores, model = _oks(snapshot, name), result_of(snapshot, f"{name}/difficulty_model")
    if poses is None or scores is None or model is None:
        return None
    oks = dict(zip(texts(scores, "sample_id"), array(scores, "oks"), strict=True))
    ids, predicted = texts(poses, "sample_id"), array(poses, "predicted_oks")
    measured = np.array([oks.get(i, np.nan) for i in ids], float)
    usable = np.flatnonzero(np.isfinite(measured))
    shown = usable[spread(len(usable), MOST_SHOWN)]
    figures = {key: f"{model.metrics[key]:.3f} (held-out folds)" for key in ("r2", "spearman") if key in model.metrics}
    hardest = [ids[i] for i in np.argsort(predicted)[:_HARDEST]]
    return Difficulty(predicted[shown], measured[shown], figures, _strips(snapshot, hardest))


def _quality(snapshot: Snapshot) -> Section | None:
    found = result_of(snapshot, "quality_report")
    if found is None:
        return None
    points = json.loads((found.path / _CHECKPOINT_ARRAYS).read_text())
    planes = {"inception": points["feature_plane"], **points.get("planes_by_network", {})}
    arrays = {by: {name: np.array(p) for name, p in plane.items()} for by, plane in planes.items() if plane}
    return quality_section({"kept images": found.metrics}, arrays)


def _coverage(snapshot: Snapshot) -> Section | None:
    judged = rows_of_all(snapshot, "filtered_dataset", ["sample_id", "keep"])
    if judged is None or not judged.num_rows:
        return None
    chosen = judged.take(pa.array(spread(judged.num_rows, MOST_SHOWN)))
    ids = texts(chosen, "sample_id")
    kept = texts(chosen.filter(pc.field("keep")), "sample_id")
    poses = snapshot.store.take("pose_library", ids, columns=COLUMNS)
    found = coverage(poses, kept)
    counted = {"family": "Families", **LOOKS}
    some = "" if len(ids) == judged.num_rows else f"{len(ids):,} of {judged.num_rows:,} poses, evenly spread. "
    note = some + captions_in_words(texts(poses, "caption"))
    return coverage_section(
        [
            *(kept_bars(title, *found.counts(what)) for what, title in counted.items()),
            *(distributions(title, found.groups(what), label=label) for what, (title, label) in _MEASURED.items()),
        ],
        note,
    )


def _fairness(snapshot: Snapshot) -> Section | None:
    found = kept_by_skin_tone(snapshot)
    return None if found is None else fairness_section(found)

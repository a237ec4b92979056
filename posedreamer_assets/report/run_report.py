"""The end of a run: `summary.json`, `report.html` and the table in the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.defs.local.runner import open_store
from posedreamer_assets.metrics.quality import CLASSIFIER_SCORE
from posedreamer_assets.pipeline.graph import STAGES, Snapshot
from posedreamer_assets.report.coverage import LOOKS, coverage, kept_ids
from posedreamer_assets.report.figures import gather, kept_by_skin_tone, pair_statuses
from posedreamer_assets.report.gallery import GallerySample
from posedreamer_assets.report.html import Cell, Note, PanelRow, Section, Table, write_report
from posedreamer_assets.report.plots import distributions, kept_bars
from posedreamer_assets.report.samples import hardest_first, pick, sample_of, sample_rows, table_samples
from posedreamer_assets.report.sections import (
    alignment_section,
    coverage_section,
    curation_section,
    difficulty_section,
    quality_section,
    samples_section,
)
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.rows import array, texts

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable

_SHOWN = 12
_STRIP = ("control", "image", "detected", "mesh")  # as many as can be told from each other on a phone
_CHECKPOINT_ARRAYS = "figures.json"  # curves and per-pose figures that a checkpoint keeps for the report
# Figures at the top of the report; the table below them has all.
_TILES = ("kept", "OKS, base round", "OKS error less by", "OKS, hard - base", "FID", "IS by classifier")


def write_run_report(
    home: Home, profile: Profile, *, timings: Sequence[Mapping[str, Any]] = (), seconds: float | None = None
) -> dict[str, Any]:
    """Write `summary.json` and `report.html` into `<home>/reports/latest`; returns the figures.

    Args:
        home: whose store is reported.
        profile: of the run.
        timings: what each stage cost in this run; stages that were up to date keep what they cost when they were made.
        seconds: of the whole run.
    """
    folder = home.reports / "latest"
    folder.mkdir(parents=True, exist_ok=True)
    summary_path = folder / "summary.json"
    figures = gather(profile, open_store(home))
    figures["stages"] = _with_former(timings, summary_path)
    figures["seconds"] = None if seconds is None else round(seconds, 1)
    figures["peak_memory_mb"] = max((t["peak_memory_mb"] for t in timings), default=0.0)
    write_report(folder / "report.html", _headline(figures), [*_sections(home, profile), _all_figures(figures)])
    partial = summary_path.with_suffix(".part")
    partial.write_text(json.dumps(_finite(figures), indent=2, sort_keys=True, allow_nan=False) + "\n")
    partial.replace(summary_path)
    return figures


def _with_former(timings: Sequence[Mapping[str, Any]], summary_path: Any) -> list[dict[str, Any]]:
    """Timings of this run, each with `made_in_s`: what making the stage cost when it was last made."""
    former: dict[str, Any] = {}
    if summary_path.exists():
        former = {t["stage"]: t.get("made_in_s") for t in json.loads(summary_path.read_text()).get("stages", [])}
    return [{**t, "made_in_s": t["seconds"] if t["made"] else former.get(t["stage"])} for t in timings]


def _finite(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def main_figures(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The table at the end: label, value, note."""
    lines: list[tuple[str, str, str]] = [
        ("poses", str(figures["poses"]), ""),
        ("images made", str(figures["images_made"]), ""),
    ]
    share = figures["kept"] / max(1, figures["images_made"])
    lines.append(("kept", str(figures["kept"]), f"{share:.0%} of {figures['images_made']}"))
    lines += [(f"rejected: {reason}", str(n), "") for reason, n in sorted(figures.get("rejected", {}).items())]
    lines += [(f"not readable: {reason}", str(n), "") for reason, n in sorted(figures.get("quarantined", {}).items())]
    for name, found in figures.get("rounds", {}).items():
        lines.append((f"OKS, {name} round", _with_interval(found["oks"]), f"{found['pass_rate']:.0%} kept"))
    dpo = figures.get("dpo", {})
    if dpo.get("method") == "none":
        lines.append(("alignment", dpo["method"], dpo["note"]))
    if "oks_before" in dpo:
        lines.append(("OKS before DPO", _with_interval(dpo["oks_before"]), f"{dpo['test_poses']} held-out poses"))
        lines.append(("OKS after DPO", _with_interval(dpo["oks_after"]), dpo.get("judge", "")))
        lines.append(("OKS error less by", _with_interval(dpo["error_reduction"]), f"{dpo['relative_reduction']:.0%}"))
    if "outside_judge" in dpo:
        outside = dpo["outside_judge"]
        lines.append(("outside judge, before DPO", _with_interval(outside["oks_before"]), outside["name"]))
        lines.append(("outside judge, after DPO", _with_interval(outside["oks_after"]), outside["name"]))
    if "hard_minus_base_oks" in figures:
        lines.append(("OKS, hard - base", _with_interval(figures["hard_minus_base_oks"]), ""))
    if "r2" in figures.get("difficulty", {}):
        lines.append(("difficulty R2", f"{figures['difficulty']['r2']:.3f}", "held-out folds"))
    quality = figures.get("quality", {})
    named = (
        ("FID", "fid_2048"),
        ("FID, 64 features", "fid_64"),
        ("KID", "kid"),
        ("IS by classifier", CLASSIFIER_SCORE),
    )
    for label, key in named:
        if key in quality:
            note = {"IS by classifier": key, "FID": f"against {quality['reference_is']}"}.get(label, "")
            lines.append((label, f"{quality[key]['value']:.3f}", note))
    for role in ("judge", "outside_judge"):
        for what in ("renders", "base_generations"):
            if role in quality:
                label = f"OKS of {what.replace('_', ' ')}, {role.replace('_', ' ')}"
                lines.append((label, _with_interval(quality[role][what]), quality[role]["name"]))
    for garment, found in quality.get("garment_colours", {}).get("base_generations", {}).items():
        chance = f"by chance {quality['garment_colours']['by_chance']:.2f}"
        lines.append((f"{garment} has the caption's colour", _with_interval(found), chance))
    return lines


def _with_interval(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{found['mean']:.3f} [{low:.3f}, {high:.3f}]"


def print_summary(figures: Mapping[str, Any]) -> None:
    """Print the table at the end and the time of each stage."""
    from rich.console import Console

    console = Console()
    console.print()
    console.print(_table(("figure", "value", ""), main_figures(figures)))
    rows = [(t["stage"], _spent(t), f"{t['peak_memory_mb']:.0f} MB" if t["made"] else "") for t in figures["stages"]]
    total = f"{figures['seconds']:.1f} s" if figures.get("seconds") else ""
    rows.append(("all", total, f"{figures['peak_memory_mb']:.0f} MB"))
    console.print(_table(("stage", "time", "peak memory"), rows))


def _spent(timing: Mapping[str, Any]) -> str:
    if timing["made"]:
        return f"{timing['seconds']:.1f} s"
    return "up to date" + (f" (made in {timing['made_in_s']:.1f} s)" if timing.get("made_in_s") else "")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "TerminalTable":
    from rich import box
    from rich.table import Table as TerminalTable

    table = TerminalTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i == 1 else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _headline(figures: Mapping[str, Any]) -> dict[str, Any]:
    stages = [
        {"name": t["stage"], "seconds": t["made_in_s"] or 0.0, "items": t["made"] or None, "note": _stage_note(t)}
        for t in figures["stages"]
    ]
    return {
        "title": "PoseDreamer Assets",
        "subtitle": f"profile {figures['profile']}, seed {figures['seed']}",
        "headline": [_tile(label, value, note) for label, value, note in main_figures(figures) if label in _TILES],
        "stages": stages,
        "facts": {
            "body model": figures.get("body_model", ""),
            "generator": figures.get("generator", ""),
            "peak memory": f"{figures['peak_memory_mb']:.0f} MB",
        },
    }


def _tile(label: str, value: str, note: str) -> dict[str, str]:
    """The mean stands large, its interval small."""
    mean, _, interval = value.partition(" ")
    return {"label": label, "value": mean, "note": ", ".join(part for part in (interval, note) if part), "tone": ""}


def _all_figures(figures: Mapping[str, Any]) -> Section:
    table = Table(("figure", "value", ""), main_figures(figures), caption="In brackets: 95 % bootstrap intervals.")
    return Section("All figures", [table], "The same as in summary.json, where the rest is too.")


def _stage_note(timing: Mapping[str, Any]) -> str:
    return f"{timing['peak_memory_mb']:.0f} MB" if timing["made"] else "up to date"


def _sections(home: Home, profile: Profile) -> list[Section]:
    """The body of the report: what is stored and up to date."""
    snapshot = Snapshot(profile, open_store(home))
    makers = (_samples, _alignment, _curation, _difficulty, _quality, _coverage, _fairness)
    return [section for make in makers if (section := make(snapshot)) is not None]


def _strip(sample: GallerySample) -> PanelRow:
    tone = {"kept": "good", "rejected": "bad"}.get(sample.verdict, "")
    facts = {"OKS": sample.facts["oks"]} if "oks" in sample.facts else {}
    pictures = {title: picture for title, picture in sample.panels.items() if title in _STRIP}
    return PanelRow(pictures, sample.sample_id, {**facts, "verdict": sample.reason} if sample.reason else facts, tone)


def _judged_samples(snapshot: Snapshot, name: str, most: int) -> list[GallerySample]:
    stage = STAGES[f"{name}/filtered_dataset"]
    samples: list[GallerySample] = []
    for key in snapshot.current_keys(stage)[:2]:
        samples += table_samples(snapshot.store, stage.table, key, most)
    return samples


def _samples(snapshot: Snapshot) -> Section | None:
    samples = _judged_samples(snapshot, "base", 96)
    kept = [s for s in samples if s.verdict == "kept"]
    shown = pick(kept, _SHOWN) or pick(samples, _SHOWN)
    return samples_section([_strip(s) for s in shown]) if shown else None


def _curation(snapshot: Snapshot) -> Section | None:
    stage = STAGES["base/filtered_dataset"]
    keys = snapshot.current_keys(stage)
    if not keys:
        return None
    rows = snapshot.store.read(stage.table, keys=keys, columns=["reason", "oks"])
    samples = _judged_samples(snapshot, "base", 96)
    reasons = sorted({s.reason for s in samples})
    examples = {r: [_strip(s) for s in pick([s for s in samples if s.reason == r], 4)] for r in reasons}
    return curation_section(
        texts(rows, "reason"), array(rows, "oks"), min_oks=snapshot.profile.curation.min_oks, examples=examples
    )


def _alignment(snapshot: Snapshot) -> Section | None:
    stage = STAGES["dpo_checkpoint"]
    found = snapshot.checkpoint(stage) if snapshot.is_current(stage) else None
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
    facts = {"OKS before": f"{shown['oks_before']:.2f}", "after": f"{shown['oks_after']:.2f}"}
    return PanelRow(pictures, shown["name"], facts, "good" if change > 0 else "bad" if change < 0 else "")


def _difficulty(snapshot: Snapshot) -> Section | None:
    hard = _scored(snapshot, "hard")
    found = snapshot.checkpoint(STAGES["difficulty_model"])
    if hard is None or found is None:
        return None
    stage = STAGES["hard_samples"]
    poses = snapshot.store.read(stage.table, keys=snapshot.current_keys(stage), columns=["sample_id", "predicted_oks"])
    oks = dict(zip(texts(hard, "sample_id"), array(hard, "oks"), strict=True))
    measured = np.array([oks.get(i, np.nan) for i in texts(poses, "sample_id")])
    predicted, usable = array(poses, "predicted_oks"), np.isfinite(measured)
    base = _scored(snapshot, "base")
    rounds = {name: array(rows, "oks") for name, rows in (("base", base), ("hard", hard)) if rows is not None}
    metrics = found.metrics
    return difficulty_section(
        predicted[usable],
        measured[usable],
        {name: f"{metrics[name]:.3f} (held-out folds)" for name in ("r2", "spearman") if name in metrics},
        rounds=rounds,
        hardest=_hardest(snapshot, 6),
    )


def _hardest(snapshot: Snapshot, most: int) -> list[PanelRow]:
    stage = STAGES["hard/filtered_dataset"]
    rows = [row for key in snapshot.current_keys(stage)[:2] for row in sample_rows(snapshot.store, stage.table, key)]
    return [_strip(sample_of(row)) for row in hardest_first(rows)[:most]]


def _scored(snapshot: Snapshot, name: str) -> pa.Table | None:
    stage = STAGES[f"{name}/sample_scores"]
    keys = snapshot.current_keys(stage)
    return snapshot.store.read(stage.table, keys=keys, columns=["sample_id", "oks"]) if keys else None


def _quality(snapshot: Snapshot) -> Section | None:
    stage = STAGES["quality_report"]
    found = snapshot.checkpoint(stage) if snapshot.is_current(stage) else None
    if found is None:
        return None
    plane = json.loads((found.path / _CHECKPOINT_ARRAYS).read_text())["feature_plane"]
    return quality_section({"kept images": found.metrics}, {name: np.array(points) for name, points in plane.items()})


_MEASURED = {
    "facing": ("Facing", "degrees; 0 faces the camera"),
    "upright": ("Torso", "degrees from upright"),
    "pitch": ("Camera pitch", "degrees, down is positive"),
    "focal": ("Focal length", "image heights"),
    "distance": ("Distance", "metres"),
    "shape 1": ("First shape component", "standard deviations"),
}


def _coverage(snapshot: Snapshot) -> Section | None:
    poses, kept = [], []
    for table, name in (("pose_library", "base"), ("hard_samples", "hard")):
        filtered = STAGES[f"{name}/filtered_dataset"]
        keys = snapshot.current_keys(filtered)
        if keys:
            poses.append(snapshot.store.read(STAGES[table].table, keys=keys))
            kept += kept_ids(snapshot.store.read(filtered.table, keys=keys, columns=["sample_id", "keep"]))
    if not poses:
        return None
    # The hard round's rows have columns of their own.
    found = coverage(pa.concat_tables([table.select(poses[0].column_names) for table in poses]), kept)
    counted = {"family": "Families", **LOOKS}
    return coverage_section(
        [
            *(kept_bars(title, *found.counts(what)) for what, title in counted.items()),
            *(distributions(title, found.groups(what), label=label) for what, (title, label) in _MEASURED.items()),
        ]
    )


_FAIR_LEVEL = 0.01  # as in dbt_like_checks/*_filtered_dataset.yml


def _fairness(snapshot: Snapshot) -> Section | None:
    found = kept_by_skin_tone(snapshot)
    if found is None:
        return None
    rows = [
        (g.name, g.asked, g.kept, Cell(f"{g.rate:.0%}", f"[{g.low:.0%}, {g.high:.0%}]"), f"{g.p:.2g}")
        for g in sorted(found.groups, key=lambda g: g.rate)
    ]
    table = Table(
        ("skin tone", "images", "kept", "share", "p against the others"),
        rows,
        caption="In brackets: 95 % Wilson intervals. p: Fisher's exact test, corrected by Holm for testing every tone.",
    )
    apart = ", ".join(g.name for g in found.groups if g.p < _FAIR_LEVEL)
    differ = f"Shares that differ so much would come about by chance with a probability of {found.p:.2g}. "
    verdict = f"Groups apart from the others: {apart}." if apart else "No group is apart from the others."
    note = Note(differ + verdict, "warn" if found.p < _FAIR_LEVEL else "")
    return Section("Skin tone", [table, note], "Whether the filter keeps images of all skin tones equally often.")

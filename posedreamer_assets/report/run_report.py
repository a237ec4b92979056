"""The end of a run: `summary.json` and `report.html`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posedreamer_assets.config import Profile, profile_to_dict, write_whole
from posedreamer_assets.digests import digest
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home

# Figures at the top of the report; the table below them has all.
_TILES = ("kept", "OKS, base round", "OKS error less by", "OKS, hard - base", "FID", "IS by classifier")
_OWN_FILES = ("*.py", "templates/*.j2")


def write_run_report(
    home: Home, profile: Profile, *, timings: Sequence[Mapping[str, Any]] = (), seconds: float | None = None
) -> dict[str, Any]:
    """Write `summary.json` and `report.html` into `<home>/reports/latest`; returns the figures.

    Where what they are written from is as it was, the page stays, and only the timings of the summary change.

    Args:
        home: whose store is reported.
        profile: of the run.
        timings: what each stage cost in this run; stages that were up to date keep what they cost when they were made.
        seconds: of the whole run.
    """
    folder = home.reports / "latest"
    folder.mkdir(parents=True, exist_ok=True)
    summary, page = folder / "summary.json", folder / "report.html"
    former = json.loads(summary.read_text()) if summary.exists() else {}
    snapshot = Snapshot(profile, home.store())
    figures: dict[str, Any] = {"written_from": _written_from(snapshot)}
    same = page.exists() and former.get("written_from") == figures["written_from"]
    figures = {**(former if same else _gathered(snapshot)), **figures}
    figures["stages"] = _with_former(timings, former)
    figures["seconds"] = None if seconds is None else round(seconds, 1)
    figures["peak_memory_mb"] = max((t["peak_memory_mb"] for t in timings), default=0.0)
    if not same:
        _write_page(page, snapshot, figures)
    write_whole(summary, json.dumps(figures, indent=2, sort_keys=True, allow_nan=False) + "\n")
    return figures


def _written_from(snapshot: Snapshot) -> str:
    """Digest of everything that figures and page show, but for times: settings, what is up to date, and this package."""
    contents = {
        stage.key: {key or "": stored.content for key in keys if (stored := snapshot.stored(stage, key))}
        for stage in snapshot.graph
        if (keys := snapshot.current_of(stage) if stage.partitioned else [None] * snapshot.is_current(stage))
    }
    beside = {
        table: {key: info.content_digest for key, info in snapshot.store.partitions(table).items()}
        for table in ("quarantine", "pose_notes", "pose_clips")
    }
    own = sorted(path for pattern in _OWN_FILES for path in Path(__file__).parent.glob(pattern))
    program = {path.name: path.read_bytes() for path in own}
    return digest([profile_to_dict(snapshot.profile), contents, beside, program])


def _gathered(snapshot: Snapshot) -> dict[str, Any]:
    from posedreamer_assets.report.gather import gather

    return _finite(gather(snapshot))


def _write_page(page: Path, snapshot: Snapshot, figures: Mapping[str, Any]) -> None:
    from posedreamer_assets.report.html import Section, Table, write_report
    from posedreamer_assets.report.main_figures import main_figures
    from posedreamer_assets.report.of_store import sections_of

    lines = main_figures(figures)
    table = Table(("figure", "value", ""), lines, caption="In brackets: 95 % bootstrap intervals.")
    everything = Section("All figures", [table], "The same as in summary.json, where the rest is too.")
    write_report(page, _headline(figures, lines), [*sections_of(snapshot), everything])


def _with_former(timings: Sequence[Mapping[str, Any]], former: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Timings of this run, each with `made_in_s`: what making the stage cost when it was last made."""
    before = {t["stage"]: t.get("made_in_s") for t in former.get("stages", [])}
    return [{**t, "made_in_s": t["seconds"] if t["made"] else before.get(t["stage"])} for t in timings]


def _finite(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _headline(figures: Mapping[str, Any], lines: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    stages = [
        {"name": t["stage"], "seconds": t["made_in_s"] or 0.0, "items": t["made"] or None, "note": _stage_note(t)}
        for t in figures["stages"]
    ]
    return {
        "title": "PoseDreamer Assets",
        "subtitle": f"profile {figures['profile']}, seed {figures['seed']}",
        "headline": [_tile(label, value, note) for label, value, note in lines if label in _TILES],
        "stages": stages,
        "setup": {
            "body model": figures.get("body_model", ""),
            "generator": figures.get("generator", ""),
            "peak memory": f"{figures['peak_memory_mb']:.0f} MB",
        },
    }


def _tile(label: str, value: str, note: str) -> dict[str, str]:
    """The mean stands large, its interval small."""
    mean, _, interval = value.partition(" ")
    return {"label": label, "value": mean, "note": ", ".join(part for part in (interval, note) if part), "tone": ""}


def _stage_note(timing: Mapping[str, Any]) -> str:
    return f"{timing['peak_memory_mb']:.0f} MB" if timing["made"] else "up to date"

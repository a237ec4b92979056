"""Every figure of a run, gathered from the store: what `summary.json` holds."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.config import ARM_STUDY, profile_to_dict
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.metrics.intervals import bootstrap_difference, bootstrap_mean
from posedreamer_assets.pipeline import Round, Stage
from posedreamer_assets.poses.folder import Folder
from posedreamer_assets.report.reading import count_of, poses_in_parts, result_of, rows_of
from posedreamer_assets.report.scenes import scenes_figures
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.scoring.verdict import KEPT
from posedreamer_assets.tables.fields import NO_ROOM
from posedreamer_assets.tables.keys import BASE
from posedreamer_assets.tables.rows import array

if TYPE_CHECKING:
    from posedreamer_assets.metrics.group_rates import GroupRates

Figures = dict[str, Any]


def gather(snapshot: Snapshot) -> Figures:
    """Figures of everything that is stored and up to date. Stages that were not made leave their figures out."""
    profile = snapshot.profile
    rounds = {one.name: found for one in snapshot.graph.rounds if (found := _round(snapshot, one))}
    hard = [one for one in snapshot.graph.rounds if one.learns_from]
    lower = {one.name: found for one in hard if (found := _minus_base(snapshot, one))}
    models = {one.name: found for one in hard if (found := _metrics(snapshot, f"{one.name}/difficulty_model"))}
    rates = kept_by_skin_tone(snapshot)
    figures: Figures = {
        "profile": profile.name,
        "seed": profile.seed,
        "settings": profile_to_dict(profile),
        "body_model": _metrics(snapshot, "body_model").get("name"),
        "generator": _metrics(snapshot, "control_checkpoint").get("name"),
        "poses": sum(count_of(snapshot, stage) for stage in snapshot.graph.stored_as("pose_library")),
        "images_made": sum(r["images"] for r in rounds.values()),
        "kept": sum(r["kept"] for r in rounds.values()),
        "rejected": dict(sum((Counter(r["rejected"]) for r in rounds.values()), Counter[str]())),
        "quarantined": _quarantined(snapshot),
        "files_with_notes": _files_with_notes(snapshot),
        "pose_files": _pose_files(snapshot),
        "rounds": rounds,
        "pairs": pair_statuses(snapshot),
        "dpo": _metrics(snapshot, "dpo_checkpoint"),
        "difficulty": models.get("hard"),
        "difficulties": models,
        "hard_minus_base_oks": lower.get("hard"),
        "rounds_minus_base_oks": lower if len(lower) > 1 else None,
        "kept_by_skin_tone": rates.as_dict() if rates else None,
        "dataset": _metrics(snapshot, "dataset_release"),
        "quality": _metrics(snapshot, "quality_report"),
        "crowds": scenes_figures(snapshot),
        "arms": _metrics(snapshot, "pose2d_report") if ARM_STUDY in profile.studies else {},
        "students": {} if profile.students.off else _metrics(snapshot, "hmr_benchmark"),
    }
    return {name: value for name, value in figures.items() if name == "rejected" or value not in (None, {})}


def _metrics(snapshot: Snapshot, key: str) -> Figures:
    found = result_of(snapshot, key)
    return dict(found.metrics) if found else {}


def _quarantined(snapshot: Snapshot) -> dict[str, int]:
    if snapshot.profile.poses.source == "procedural":
        return {}
    # People of scenes for whom there was no room are no pose files.
    files = f"reason != '{NO_ROOM}'"
    rows = snapshot.store.read("quarantine", columns=["path", "reason", "detail"], filter=files, missing_ok=True)
    # Batches that share a file each report it.
    once = {(row["path"], row["reason"], row["detail"]) for row in rows.to_pylist()}
    return dict(Counter(reason for _, reason, _ in once))


def _files_with_notes(snapshot: Snapshot) -> int | None:
    """How many pose files were read with something assumed or dropped; None where there is none."""
    if snapshot.profile.poses.source == "procedural":
        return None
    rows = snapshot.store.read("pose_notes", columns=["path"], missing_ok=True)
    return len(set(rows.column("path").to_pylist())) or None


def _pose_files(snapshot: Snapshot) -> dict[str, int]:
    """What became of the files of a pose folder; empty for procedural poses. Files in no batch wait for more batches."""
    source = snapshot.profile.poses.source
    if source == "procedural":
        return {}
    batched, read = _paths(snapshot, "pose_files"), _paths(snapshot, "pose_clips")
    set_aside = _paths(snapshot, "quarantine", f"reason != '{NO_ROOM}'")
    try:
        there = set(Folder(source).pose_paths())
    except (PoseFileError, OSError):
        there = batched  # the folder has gone since
    return {
        "files": len(there | batched),
        "read": len(read - set_aside),
        "read in part": len(read & set_aside),
        "refused": len(set_aside - read),
        "without poses": len(batched - read - set_aside),
        "in no batch": len(there - batched),
    }


def _paths(snapshot: Snapshot, table: str, where: str | None = None) -> set[str]:
    return set(snapshot.store.read(table, columns=["path"], filter=where, missing_ok=True).column("path").to_pylist())


def _round(snapshot: Snapshot, one: Round) -> Figures:
    stage = snapshot.graph[f"{one.name}/filtered_dataset"]
    rows = rows_of(snapshot, stage, ["reason", "oks"])
    if rows is None:
        return {}
    reasons = counted(rows.column("reason"))
    kept = reasons.pop(KEPT, 0)
    return {
        "batches": len(snapshot.current_of(stage)),
        "images": rows.num_rows,
        "kept": kept,
        "pass_rate": round(kept / max(1, rows.num_rows), 4),
        "rejected": dict(sorted(reasons.items())),
        "oks": bootstrap_mean(array(rows, "oks"), snapshot.profile.seed).as_dict(),
    }


def counted(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each text is there."""
    return {item["values"]: item["counts"] for item in column.value_counts().to_pylist()}


def pair_statuses(snapshot: Snapshot) -> dict[str, int]:
    """Alignment poses by what their candidates gave."""
    rows = rows_of(snapshot, snapshot.graph["preference_pairs"], ["status"])
    return {} if rows is None else counted(rows.column("status"))


def kept_by_skin_tone(snapshot: Snapshot) -> "GroupRates | None":
    """How much of each skin tone the filter kept, over all rounds; None where nothing was judged."""
    from posedreamer_assets.metrics.group_rates import group_rates

    tones: list[str] = []
    kept: list[np.ndarray] = []
    for judged in snapshot.graph.named("filtered_dataset"):
        verdicts = rows_of(snapshot, judged, ["sample_id", "keep"])
        if verdicts is not None and verdicts.num_rows:
            tones += _skin_tones(snapshot, judged, verdicts.column("sample_id"))
            kept.append(array(verdicts, "keep").astype(bool))
    return group_rates(tones, np.concatenate(kept)) if tones else None


def _skin_tones(snapshot: Snapshot, judged: Stage, ids: pa.ChunkedArray) -> list[str]:
    """Of the samples of a round, in their order."""
    parts = list(map(_names_and_tones, poses_in_parts(snapshot, judged, ("sample_id", "appearance"))))
    own = pa.concat_tables(parts)
    places = pc.call_function("index_in", [ids], pc.SetLookupOptions(own.column("sample_id").combine_chunks()))
    return own.column("tone").take(places).to_pylist()


def _names_and_tones(poses: pa.Table) -> pa.Table:
    tones = [json.loads(look)["skin"] for look in poses.column("appearance").to_pylist()]
    return pa.table({"sample_id": poses.column("sample_id"), "tone": pa.array(tones, pa.string())})


def _minus_base(snapshot: Snapshot, one: Round) -> Figures:
    """How much lower a hard round scores than the base round, whose poses are random."""
    found = [rows_of(snapshot, snapshot.graph[f"{name}/sample_scores"], ["oks"]) for name in (one.name, BASE)]
    hard, base = (None if rows is None else array(rows, "oks") for rows in found)
    if hard is None or base is None:
        return {}
    return bootstrap_difference(hard, base, snapshot.profile.seed).as_dict()

"""Every figure of a run, gathered from the store: what `summary.json` holds, and the table at the end."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.config import Profile, profile_to_dict
from posedreamer_assets.metrics.group_rates import GroupRates, group_rates
from posedreamer_assets.metrics.intervals import bootstrap_difference, bootstrap_mean
from posedreamer_assets.pipeline.graph import STAGES, Snapshot
from posedreamer_assets.tables.rows import array

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore


def gather(profile: Profile, store: "LanceStore") -> dict[str, Any]:
    """Figures of everything that is stored and up to date. Stages that were not made leave their figures out."""
    snapshot = Snapshot(profile, store)
    rounds = {name: found for name in ("base", "hard") if (found := _round(snapshot, name))}
    figures: dict[str, Any] = {
        "profile": profile.name,
        "seed": profile.seed,
        "settings": profile_to_dict(profile),
        "body_model": _checkpoint(snapshot, "body_model").get("name"),
        "generator": _checkpoint(snapshot, "control_checkpoint").get("name"),
        "poses": _rows(snapshot, "pose_library") + _rows(snapshot, "hard_samples"),
        "images_made": sum(r["images"] for r in rounds.values()),
        "kept": sum(r["kept"] for r in rounds.values()),
        "rejected": dict(sum((Counter(r["rejected"]) for r in rounds.values()), Counter[str]())),
        "quarantined": _quarantined(snapshot),
        "rounds": rounds,
        "pairs": pair_statuses(snapshot),
        "dpo": _checkpoint(snapshot, "dpo_checkpoint"),
        "difficulty": _checkpoint(snapshot, "difficulty_model"),
        "hard_minus_base_oks": _hard_effect(snapshot),
        "kept_by_skin_tone": rates.as_dict() if (rates := kept_by_skin_tone(snapshot)) else None,
        "dataset": _checkpoint(snapshot, "dataset"),
        "quality": _checkpoint(snapshot, "quality_report"),
    }
    return {name: value for name, value in figures.items() if name == "rejected" or value not in (None, {})}


def _checkpoint(snapshot: Snapshot, key: str) -> dict[str, Any]:
    stage = STAGES[key]
    found = snapshot.checkpoint(stage) if snapshot.is_current(stage) else None
    return dict(found.metrics) if found else {}


def _rows(snapshot: Snapshot, key: str) -> int:
    stage = STAGES[key]
    return sum(snapshot.partitions(stage)[k].rows for k in snapshot.current_keys(stage))


def _quarantined(snapshot: Snapshot) -> dict[str, int]:
    if snapshot.profile.poses.source == "procedural" or not snapshot.store.partitions("quarantine"):
        return {}
    rows = snapshot.store.read("quarantine", columns=["path", "reason", "detail"]).to_pylist()
    # Batches that share a file each report it.
    return dict(Counter(reason for _, reason, _ in {(row["path"], row["reason"], row["detail"]) for row in rows}))


def _round(snapshot: Snapshot, name: str) -> dict[str, Any]:
    stage = STAGES[f"{name}/filtered_dataset"]
    keys = snapshot.current_keys(stage)
    if not keys:
        return {}
    rows = snapshot.store.read(stage.table, keys=keys, columns=["keep", "reason", "oks"])
    reasons = Counter(rows.column("reason").to_pylist())
    kept = int(sum(rows.column("keep").to_pylist()))
    return {
        "batches": len(keys),
        "images": rows.num_rows,
        "kept": kept,
        "pass_rate": round(kept / max(1, rows.num_rows), 4),
        "rejected": {reason: count for reason, count in sorted(reasons.items()) if reason != "kept"},
        "oks": bootstrap_mean(array(rows, "oks"), snapshot.profile.seed).as_dict(),
    }


def pair_statuses(snapshot: Snapshot) -> dict[str, int]:
    """Alignment poses by what their candidates gave."""
    stage = STAGES["preference_pairs"]
    keys = snapshot.current_keys(stage)
    if not keys:
        return {}
    rows = snapshot.store.read(stage.table, keys=keys, columns=["status"])
    return dict(Counter(rows.column("status").to_pylist()))


def kept_by_skin_tone(snapshot: Snapshot) -> GroupRates | None:
    """How much of each skin tone the filter kept, over both rounds; None where nothing was judged."""
    tones: dict[str, str] = {}
    kept: dict[str, bool] = {}
    for poses, name in (("pose_library", "base"), ("hard_samples", "hard")):
        stage = STAGES[f"{name}/filtered_dataset"]
        keys = snapshot.current_keys(stage)
        if keys:
            looks = snapshot.store.read(STAGES[poses].table, keys=keys, columns=["sample_id", "appearance"])
            tones |= {
                i: json.loads(look)["skin"] for i, look in zip(*(c.to_pylist() for c in looks.columns), strict=True)
            }
            verdicts = snapshot.store.read(stage.table, keys=keys, columns=["sample_id", "keep"])
            kept |= dict(zip(*(c.to_pylist() for c in verdicts.columns), strict=True))
    return group_rates([tones[i] for i in kept], np.array([*kept.values()], bool)) if kept else None


def _hard_effect(snapshot: Snapshot) -> dict[str, Any]:
    """How much lower the hard round scores than the base round, whose poses are random."""
    oks: dict[str, np.ndarray] = {}
    for name in ("base", "hard"):
        stage = STAGES[f"{name}/sample_scores"]
        keys = snapshot.current_keys(stage)
        if not keys:
            return {}
        oks[name] = array(snapshot.store.read(stage.table, keys=keys, columns=["oks"]), "oks")
    return bootstrap_difference(oks["hard"], oks["base"], snapshot.profile.seed).as_dict()

"""Tests of rows against the rows they were made from: labels carried along, seeds, scores and verdicts."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from posedreamer_assets.checks.model import Around, DataCheck, Measured, Verdicts
from posedreamer_assets.checks.rows import Rows, numbers
from posedreamer_assets.poses.splits import split_of
from posedreamer_assets.scoring.oks import object_keypoint_similarity
from posedreamer_assets.scoring.verdict import COLUMNS, judge_samples
from posedreamer_assets.seeds import derive_seed

_EXAMPLES = 20
_CHUNK = 64  # rows compared with all others at once


def _upstream(rows: Rows, check: DataCheck, around: Around, columns: Sequence[str]) -> Rows:
    tables = [around.rows(table, ["sample_id", *columns]) for table in check.args["to"]]
    return rows.matched(pa.concat_tables(tables, promote_options="permissive"))


def same_in(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The columns hold what they hold in the other table, to the last bit; rows that it lacks are not judged."""
    columns = check.args["columns"]
    other = _upstream(rows, check, around, columns)
    known = other.present("sample_id")
    equal = np.logical_and.reduce([_equal(rows.table.column(n), other.table.column(n)) for n in columns])
    return [bool(ok) if found else None for ok, found in zip(equal, known, strict=True)]


def _equal(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray:
    kind = left.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_floating(kind):
        a, b = (numbers(column).reshape(len(left), -1) for column in (left, right))
        return ((a == b) | (np.isnan(a) & np.isnan(b))).all(1)
    return np.array([a == b for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True)], bool)


def covers(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """Every sample of the other tables is here; with `having`, every one for which that column is true."""
    having = check.args.get("having")
    own, missing, wanted = set(rows.ids), [], 0
    for table in check.args["to"]:
        found = around.rows(table, ["sample_id", *([having] if having else [])])
        keep = found.column(having).to_pylist() if having else [True] * found.num_rows
        ids = [name for name, ok in zip(found.column("sample_id").to_pylist(), keep, strict=True) if ok]
        wanted += len(ids)
        missing += [name for name in ids if name not in own]
    text = f"{len(missing)} of {wanted} samples are missing" if missing else f"all {wanted} samples are here"
    return Measured(len(missing), 0, text, tuple(missing[:_EXAMPLES]))


def seed_derived(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Each seed is the one that follows from the run's seed, the sample's id and `stage`."""
    profile = around.profile()
    assert check.column is not None, "held by the kind's scope"
    if profile is None:
        return [None] * len(rows)
    pairs = zip(rows.ids, rows.values(check.column), strict=True)
    stage = check.args["stage"]
    return [None if seed is None else seed == derive_seed(profile.seed, name, stage) for name, seed in pairs]


def split_of_pose(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The split is that of the row's clip or procedural pose, whatever other frames of it lie in other batches."""
    profile = around.profile()
    assert check.column is not None, "held by the kind's scope"
    if profile is None:
        return [None] * len(rows)
    pairs = zip(rows.values("provenance"), rows.values(check.column), strict=True)
    share = profile.poses.val_share
    return [None if text is None or split is None else split == split_of(text, share) for text, split in pairs]


def oks_follows_detections(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The stored OKS is that of the detected keypoints against the label in the other table."""
    detected, truth, visible, area = _detections(rows, check, around)
    usable = np.isfinite(truth).all((1, 2)) & np.isfinite(area) & np.isfinite(detected).all((1, 2))
    found = object_keypoint_similarity(
        np.nan_to_num(detected), np.nan_to_num(truth), visible & usable[:, None], np.nan_to_num(area)
    )
    same = np.abs(rows.numbers("oks") - found) <= check.args.get("tolerance", 1e-3)
    judged = usable & rows.present("oks")
    return [bool(ok) if use else None for ok, use in zip(same, judged, strict=True)]


def _detections(rows: Rows, check: DataCheck, around: Around) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    other = _upstream(rows, check, around, ["keypoints_2d", "keypoints_visible", "body_pixels"])
    visible = other.numbers("keypoints_visible") == 1
    return (
        rows.numbers("detected", 3)[..., :2],
        other.numbers("keypoints_2d", 2),
        visible,
        other.numbers("body_pixels"),
    )


def fits_own_label(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """No other sample's label fits the detected person well (`other`) where the own one does not (`own`).

    Catches images that belong to another sample of the partition, as far as the generator kept to the pose and the
    detector sees it.
    """
    detected, truth, visible, area = _detections(rows, check, around)
    usable = np.isfinite(truth).all((1, 2)) & np.isfinite(area) & np.isfinite(detected).all((1, 2)) & visible.any(1)
    index = np.flatnonzero(usable)
    detected, truth, visible, area = (a[index] for a in (detected, truth, visible, area))
    verdicts: Verdicts = [None] * len(rows)
    for start in range(0, len(index), _CHUNK):
        some = detected[start : start + _CHUNK]
        pairs = len(some) * len(index)
        fit = object_keypoint_similarity(
            np.repeat(some, len(index), axis=0),
            np.broadcast_to(truth, (len(some), *truth.shape)).reshape(pairs, 17, 2),
            np.broadcast_to(visible, (len(some), *visible.shape)).reshape(pairs, 17),
            np.tile(area, len(some)),
        ).reshape(len(some), -1)
        for k, row in enumerate(fit):
            own = row[start + k]
            best = np.delete(row, start + k).max(initial=0.0)
            verdicts[index[start + k]] = not (own < check.args["own"] and best > check.args["other"])
    return verdicts


def verdict_follows_scores(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Verdict and reasons are those that the scores in the other table give under the profile's thresholds."""
    profile = around.profile()
    if profile is None or not len(rows):
        return [None] * len(rows)
    scores = _upstream(rows, check, around, COLUMNS)
    known = scores.present("sample_id") & scores.present("people")
    # The filter compared single precision with its thresholds.
    judged = {name: scores.numbers(name).astype(np.float32) for name in COLUMNS}
    wanted = judge_samples(judged, [family or "" for family in rows.values("family")], profile.curation)
    found = zip(rows.values("keep"), rows.values("reason"), rows.values("reasons"), strict=True)
    same = [
        (keep, reason, tuple(reasons or ())) == dataclasses.astuple(verdict)
        for (keep, reason, reasons), verdict in zip(found, wanted, strict=True)
    ]
    return [ok if use else None for ok, use in zip(same, known, strict=True)]


def ranking_followed(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Winner and loser are the best and the worst candidate, and their OKS are those of the candidates."""
    names = ("candidate_oks", "candidate_seeds", "winner", "loser", "winner_oks", "loser_oks")
    return [_ranked(*row) for row in zip(*(rows.values(name) for name in names), strict=True)]


def _ranked(oks: list[float] | None, seeds: list[int] | None, *found: float | None) -> bool | None:
    if not oks or not seeds or any(value is None for value in found):
        return None  # not_null says so where it must not be
    best, worst = max(oks), min(oks)
    winner, loser, winner_oks, loser_oks = (value or 0 for value in found)
    if not (0 <= winner < len(oks) and 0 <= loser < len(oks)):
        return False
    return (
        oks[int(winner)] == best == winner_oks and oks[int(loser)] == worst == loser_oks and len(set(seeds)) == len(oks)
    )

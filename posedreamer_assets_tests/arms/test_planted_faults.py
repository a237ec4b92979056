"""Faults in what the study trains and reports, and the check that must catch each by its name; clean rows pass them all."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from posedreamer_assets.checks import run_checks
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.people2d.network import PoseNet, frozen_names
from posedreamer_assets.pipeline.arm_study import arm_key
from posedreamer_assets.pipeline.pose2d_students import weights_of, weights_to_bytes
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.arms.small import SETTINGS
from posedreamer_assets_tests.planted_faults.faults import with_column

Plant = Callable[[pa.Table, LanceStore], pa.Table]


@dataclass(frozen=True)
class Fault:
    """What happened to the rows of a partition, and the check that must say so."""

    name: str
    table: str
    key: str | None
    check: str
    plant: Plant


def changed(column: str, change: Callable[[Any], Any], row: int = 0) -> Plant:
    def plant(rows: pa.Table, store: LanceStore) -> pa.Table:
        values = rows.column(column).to_pylist()
        values[row] = change(values[row])
        return with_column(rows, column, values)

    return plant


def frozen() -> list[str]:
    """Names of the weights and statistics of the layers that no arm trains."""
    cfg = load_profile("pocket", dict(SETTINGS)).pose2d
    return frozen_names(PoseNet(cfg), cfg.frozen)


def trained_in_front(data: bytes) -> bytes:
    """The very first weights a little off, as an optimiser that was given them would leave them."""
    weights = weights_of(data)
    first = frozen()[0]
    return weights_to_bytes({**weights, first: weights[first] + 1e-3})


def statistics_moved(data: bytes) -> bytes:
    """Running statistics of the first layers, which move in training mode though nothing is optimised."""
    weights = weights_of(data)
    first = next(name for name in frozen() if "running_mean" in name)
    return weights_to_bytes({**weights, first: weights[first] + 1e-3})


def of_train(rows: pa.Table, store: LanceStore) -> pa.Table:
    photos = store.read("annotated_photos", columns=["sample_id", "split"]).to_pylist()
    train = next(row["sample_id"] for row in photos if row["split"] == "train")
    return changed("photo_id", lambda _: train)(rows, store)


def in_figures(change: Callable[[dict[str, Any]], None]) -> Plant:
    def plant(rows: pa.Table, store: LanceStore) -> pa.Table:
        figures = json.loads(rows.column("metrics")[0].as_py())
        change(figures)
        return changed("metrics", lambda _: json.dumps(figures))(rows, store)

    return plant


def _number_alone(figures: dict[str, Any]) -> None:
    cells = figures["arms"]["real"]["cells"]
    cells["knee"] = cells["knee"]["mean"]


def _scenes_alone(figures: dict[str, Any]) -> None:
    figures["scenes"]["arms"]["ds"]["cells"]["mean"].pop("high")


def _no_upper_end(figures: dict[str, Any]) -> None:
    figures["contrasts"][0]["minus"]["high"] = None


def _end_missing(figures: dict[str, Any]) -> None:
    figures["arms"]["ds"]["minus"]["real"].pop("low")


def _outside(figures: dict[str, Any]) -> None:
    cell = figures["arms"]["ds"]["cells"]["mean"]
    cell["mean"] = cell["high"] + 1


def _bin_without(figures: dict[str, Any]) -> None:
    part = next(one for one in figures["seen"] if one["people"])
    part["arms"]["ds"]["recall"] = {"mean": 3.0}


def wrong_target(rows: pa.Table, store: LanceStore) -> pa.Table:
    """The target of a comparison in place of an assignment: nothing moves."""
    return with_column(rows, "target", rows.column("probabilities").to_pylist())


STUDENT, LOG, FOUND, REPORT = "pose2d_students", "teacher_log", "pose2d_predictions", "pose2d_report"
TWO, ONE, TAUGHT = arm_key("real-ds", 0), arm_key("real", 1), arm_key("teacher-c", 0)
FAULTS = (
    Fault("more real than synthetic people", STUDENT, TWO, "half_and_half", changed("real_seen", lambda n: n + 1)),
    Fault("all people from one source", STUDENT, TWO, "half_and_half",
          lambda rows, store: changed("synthetic_seen", lambda _: 0)(changed("real_seen", lambda n: 2 * n)(rows, store), store)),
    Fault("synthetic people in the arm of photographs", STUDENT, ONE, "half_and_half", changed("synthetic_seen", lambda _: 4)),
    Fault("fewer steps than others", STUDENT, ONE, "half_and_half", changed("real_seen", lambda n: n - 2)),
    Fault("a frozen layer trained", STUDENT, TWO, "frozen_layers_kept", changed("weights", trained_in_front)),
    Fault("statistics of a frozen layer moved", STUDENT, ONE, "frozen_layers_kept", changed("weights", statistics_moved)),
    Fault("a digest of other layers", STUDENT, ONE, "frozen_layers_kept", changed("frozen_digest", lambda _: "other")),
    Fault("another start", STUDENT, ONE, "frozen_layers_kept", changed("baseline_digest", lambda _: "other")),
    Fault("a train photograph tested on", FOUND, TWO, "only_test_photographs", of_train),
    Fault("a test photograph left out", FOUND, TWO, "all_test_photographs", lambda rows, store: rows.slice(1)),
    Fault("a scene that was trained on", FOUND, TWO, "only_held_out_scenes",
          lambda rows, store: changed("scene_id", lambda _: "scenes-0000/000001", rows.num_rows - 1)(rows, store)),
    Fault("a group for nobody", FOUND, TWO, "joints_for_people", changed("found_group", lambda _: [0] * 1000)),
    Fault("a person without joints", FOUND, TWO, "joints_for_people", changed("people_found", lambda n: n + 1)),
    Fault("eq. 2 not followed", LOG, TAUGHT, "eq2_followed", wrong_target),
    Fault("a reward for what was easier", LOG, TAUGHT, "eq2_followed", changed("reward", lambda r: -r)),
    Fault("a cell without its interval", REPORT, None, "cells_have_intervals", in_figures(_number_alone)),
    Fault("an interval of one end", REPORT, None, "cells_have_intervals", in_figures(_no_upper_end)),
    Fault("an end left out", REPORT, None, "cells_have_intervals", in_figures(_end_missing)),
    Fault("a mean outside of its interval", REPORT, None, "cells_have_intervals", in_figures(_outside)),
    Fault("a figure of scenes without its interval", REPORT, None, "cells_have_intervals", in_figures(_scenes_alone)),
    Fault("a bin without its interval", REPORT, None, "cells_have_intervals", in_figures(_bin_without)),
)  # fmt: skip


def failed(trained: tuple[LanceStore, Profile], table: str, key: str | None, rows: pa.Table) -> set[str]:
    store, profile = trained
    around = Surroundings(store, profile, table if key else "checkpoints", key)
    return {outcome.name for outcome in run_checks(table, rows, around) if not outcome.passed}


def rows_of(store: LanceStore, table: str, key: str | None) -> pa.Table:
    return store.read(table, [key]) if key else store.read("checkpoints", filter=f"name = '{table}'")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught_by_the_check_named_for_it(trained: tuple[LanceStore, Profile], fault: Fault) -> None:
    rows = rows_of(trained[0], fault.table, fault.key)
    assert fault.check in failed(trained, fault.table, fault.key, fault.plant(rows, trained[0]))


@pytest.mark.parametrize(("table", "key"), sorted({(one.table, one.key) for one in FAULTS}, key=str))
def test_clean_rows_pass(trained: tuple[LanceStore, Profile], table: str, key: str | None) -> None:
    assert failed(trained, table, key, rows_of(trained[0], table, key)) == set()

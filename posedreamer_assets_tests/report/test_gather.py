"""Figures of a store with several rounds, against loops over its rows."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from posedreamer_assets.report.gather import gather
from posedreamer_assets.report.main_figures import main_figures
from posedreamer_assets.report.reading import rows_of, spread
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.keys import group_of

NAMES = ("base", "hard", "hard2")


@pytest.fixture(scope="module")
def snapshot(made: Home) -> Snapshot:
    return Snapshot(made.profile(), made.store())


@pytest.fixture(scope="module")
def figures(snapshot: Snapshot) -> dict[str, Any]:
    return gather(snapshot)


def of_round(snapshot: Snapshot, table: str, name: str) -> list[dict[str, Any]]:
    return [row for row in snapshot.store.read(table).to_pylist() if group_of(row["partition_key"]) == name]


def test_every_round_is_counted(snapshot: Snapshot, figures: dict[str, Any]) -> None:
    assert tuple(figures["rounds"]) == NAMES
    for name, found in figures["rounds"].items():
        rows = of_round(snapshot, "filtered_dataset", name)
        reasons = Counter(row["reason"] for row in rows)
        assert found["images"] == len(rows)
        assert found["kept"] == sum(row["keep"] for row in rows) == reasons.pop("kept", 0)
        assert found["rejected"] == dict(reasons)
        assert found["oks"]["mean"] == pytest.approx(np.nanmean([row["oks"] for row in rows]), abs=1e-5)
    assert (
        figures["images_made"] == snapshot.store.read("raw_generations", columns=["sample_id"]).num_rows == 18 + 2 + 3
    )
    assert figures["kept"] == snapshot.store.read("dataset", columns=["sample_id"]).num_rows
    assert figures["kept"] + sum(figures["rejected"].values()) == figures["images_made"]
    assert figures["poses"] == snapshot.store.read("pose_library", columns=["sample_id"]).num_rows


def test_hard_rounds_are_compared_with_the_base_round(snapshot: Snapshot, figures: dict[str, Any]) -> None:
    means = {n: np.nanmean([row["oks"] for row in of_round(snapshot, "sample_scores", n)]) for n in NAMES}
    lower = figures["rounds_minus_base_oks"]
    assert {name: found["mean"] for name, found in lower.items()} == {
        name: pytest.approx(means[name] - means["base"], abs=1e-5) for name in NAMES[1:]
    }
    assert figures["hard_minus_base_oks"] == lower["hard"]
    assert figures["difficulty"] == figures["difficulties"]["hard"]
    assert figures["difficulties"].keys() == lower.keys()
    labels = [label for label, _, _ in main_figures(figures)]
    assert {"OKS, hard - base", "OKS, hard2 - base", "OKS, hard2 round", "difficulty R2, hard2"} <= set(labels)


def test_skin_tones_are_those_of_the_poses(snapshot: Snapshot, figures: dict[str, Any]) -> None:
    poses = snapshot.store.read("pose_library").to_pylist()
    tones = {row["sample_id"]: json.loads(row["appearance"])["skin"] for row in poses}
    verdicts = snapshot.store.read("filtered_dataset").to_pylist()
    made = Counter(tones[row["sample_id"]] for row in verdicts)
    kept = Counter(tones[row["sample_id"]] for row in verdicts if row["keep"])
    found = figures["kept_by_skin_tone"]["groups"]
    assert {name: (one["images"], one["kept"]) for name, one in found.items()} == {n: (made[n], kept[n]) for n in made}


def test_what_is_out_of_date_has_no_figures(made: Home, snapshot: Snapshot) -> None:
    from posedreamer_assets.config import load_profile, profile_to_dict

    settings = profile_to_dict(snapshot.profile)
    settings["curation"]["min_oks"] = 0.5
    path = made.path / "other.yaml"
    path.write_text(json.dumps(settings))
    other = Snapshot(load_profile(str(path)), made.store())
    assert rows_of(other, other.graph["base/filtered_dataset"], ["sample_id"]) is None
    found = gather(other)
    assert "rounds" not in found
    assert found["images_made"] == 0
    assert found["rejected"] == {}
    assert "kept_by_skin_tone" not in found
    assert "dataset" not in found
    assert found["hard_minus_base_oks"]["n"] > 0


def test_figures_are_read_from_the_columns_that_they_need(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str] | None]] = []
    store = type(snapshot.store)
    for name in ("read", "batches"):
        whole = getattr(store, name)

        def note(
            self: Any, table: str, keys: Any = None, columns: Any = None, *given: Any, _whole: Any = whole, **more: Any
        ) -> Any:
            asked.append((table, columns))
            return _whole(self, table, keys, columns, *given, **more)

        monkeypatch.setattr(store, name, note)
    gather(Snapshot(snapshot.profile, snapshot.store))
    large = {table: columns for table, columns in asked if table not in ("checkpoints", "check_results")}
    assert {"filtered_dataset", "sample_scores", "pose_library", "preference_pairs"} <= large.keys()
    assert all(columns is not None and len(columns) <= 4 for columns in large.values())
    assert "raw_generations" not in large
    assert not {"image", "candidate_images", "control"} & {name for columns in large.values() for name in columns or ()}


@pytest.mark.parametrize(("count", "most"), [(0, 5), (3, 5), (5, 5), (1000, 7)])
def test_spread_takes_ends_and_no_more_than_asked(count: int, most: int) -> None:
    found = spread(count, most).tolist()
    assert len(found) == len(set(found)) == min(count, most)
    assert found == sorted(found)
    if count:
        assert (found[0], found[-1]) == (0, count - 1)


def test_a_figure_that_could_not_be_measured_is_a_dash() -> None:
    nothing = {"mean": None, "ci95": [None, None], "n": 0}
    lines = main_figures({"poses": 0, "images_made": 0, "kept": 0, "hard_minus_base_oks": nothing})
    assert ("OKS, hard - base", "– [–, –]", "") in lines

"""Samples put together from all tables, and which of them are shown first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.report.samples import hardest_first, panels, sample_of, sample_rows, samples_of
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import encode_png

KEY = "a-0000"
REQUIRED = {"source": "procedural", "licence": "CC0-1.0"}


def write(store: LanceStore, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    schema = SCHEMAS[table]
    given = {k: v for k, v in REQUIRED.items() if k in schema.names}
    full = [{"partition_key": KEY, **given, **row} for row in rows]
    store.replace_partition(table, KEY, pa.Table.from_pylist(full, schema=schema), input_digest="x")


def picture(value: int) -> bytes:
    return encode_png(np.full((24, 24, 3), value, np.uint8))


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(str(tmp_path))


def test_people_of_an_image_share_its_picture(store: LanceStore) -> None:
    people = [f"{KEY}/000000", f"{KEY}/000000/01", f"{KEY}/000001"]
    write(store, "pose_library", [{"sample_id": name, "caption": f"caption of {name}", "seed": 1} for name in people])
    write(store, "sample_scores", [{"sample_id": name, "oks": i / 4} for i, name in enumerate(people)])
    write(store, "filtered_dataset", [{"sample_id": people[1], "keep": False, "reason": "low_oks"}])
    images = [{"sample_id": people[i], "image": picture(10 * i), "seed": 5 + i} for i in (0, 2)]
    write(store, "raw_generations", images)
    write(store, "rendered_scenes", [{"sample_id": people[0], "image": picture(200)}])
    order = [people[1], people[2], people[0]]
    found = {row["sample_id"]: row for row in sample_rows(store, order)}
    assert list(found) == order
    assert [found[name]["oks"] for name in people] == [0.0, 0.25, 0.5]
    assert found[people[1]]["image"] == found[people[0]]["image"] == picture(0)
    assert found[people[1]]["render"] == picture(200)
    assert found[people[2]]["image"] == picture(20)
    assert "render" not in found[people[2]]
    assert [found[name]["seed"] for name in people] == [5, 5, 7]  # the image's, not the pose's
    assert [sample.verdict for sample in samples_of(store, order)] == ["rejected", "", ""]
    assert samples_of(store, order)[0].label == "low_oks"


def test_the_best_and_the_worst_candidate_are_shown(store: LanceStore) -> None:
    candidates = [picture(value) for value in (10, 20, 30)]
    write(
        store,
        "preference_pairs",
        [
            {"sample_id": f"{KEY}/000000", "winner": 2, "loser": 0, "candidate_images": candidates, "winner_oks": 0.5},
            {"sample_id": f"{KEY}/000001", "status": "no_alignment"},
        ],
    )
    pair, none = sample_rows(store, [f"{KEY}/000000", f"{KEY}/000001"])
    shown = panels(pair)
    assert {title: int(shown[title][0, 0, 0]) for title in shown} == {"winner": 30, "loser": 10}
    assert panels(none) == {}
    assert sample_of(none).figures == {"status": "no_alignment"}


def test_the_hardest_are_those_that_were_expected_to_fail_then_those_that_did(store: LanceStore) -> None:
    ids = [f"{KEY}/{i:06d}" for i in range(6)]
    a, b, c, d, e, unknown = ids
    poses = [{"sample_id": c, "predicted_oks": 0.9}, {"sample_id": d, "predicted_oks": 0.2}, {"sample_id": a}]
    write(store, "pose_library", poses)
    write(store, "sample_scores", [{"sample_id": a, "oks": 0.5}, {"sample_id": b}, {"sample_id": c, "oks": 0.1}])
    write(store, "preference_pairs", [{"sample_id": e, "winner_oks": 0.3}])
    assert hardest_first(store, [KEY], ids) == [d, e, a, c, b, unknown]


def test_no_table_is_needed(store: LanceStore) -> None:
    assert hardest_first(store, [KEY], [f"{KEY}/000000"]) == [f"{KEY}/000000"]
    assert sample_rows(store, [f"{KEY}/000000"]) == [{"sample_id": f"{KEY}/000000"}]


def test_a_sample_of_a_whole_run_has_all_its_pictures(made: Home) -> None:
    store = made.store()
    ids = store.read("filtered_dataset", keys=["procedural-0000"], columns=["sample_id"]).column(0).to_pylist()[:2]
    for sample in samples_of(store, ids):
        assert list(sample.panels) == ["control", "render", "image", "label", "detected", "mesh"]
        assert {"oks", "caption", "seed", "split"} <= sample.figures.keys()

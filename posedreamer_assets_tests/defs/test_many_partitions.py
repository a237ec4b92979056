"""Runs of many partitions: each keeps its own rows, metadata and check results, and a bad one stops no other."""

from typing import Any

import pytest

from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.defs.many_partitions import ASSETS, BAD, KEYS, main

GOOD = [key for key in KEYS if key != BAD]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the runs left: with bad poses in one partition, in a second home then, with the cause gone, and once more."""
    return main(Home(tmp_path_factory.mktemp("many")))


def places(*keys: str, assets: tuple[str, ...] = ASSETS) -> list[str]:
    return sorted(f"{asset}[{key}]" for asset in assets for key in keys)


def test_bad_rows_hold_back_what_is_made_from_them_and_nothing_else(runs: dict[str, Any]) -> None:
    found = runs["bad"]
    assert sorted(found["versions"]) == sorted([*places(*GOOD), f"pose_library[{BAD}]"])
    held = [place for place, names in found["metadata"].items() if "held_back" in names]
    assert sorted(held) == places(BAD, assets=("base/control_maps", "rendered_scenes"))
    assert sorted(found["metadata"]) == places(*KEYS)


def test_a_run_with_a_partition_held_back_fails_when_the_others_are_done(runs: dict[str, Any]) -> None:
    assert not runs["bad"]["success"]
    assert runs["bad"]["failed_steps"] == ["base_control_maps_checks", "rendered_scenes_checks"]


def test_the_status_counts_what_is_held_back_as_missing(runs: dict[str, Any]) -> None:
    assert [runs["bad"]["status"][asset] for asset in ASSETS[1:]] == [[2, 0, 1], [2, 0, 1]]
    assert list(runs["mended"]["status"].values()) == [[3, 0, 0]] * 3


def test_check_results_are_those_of_each_partition(runs: dict[str, Any]) -> None:
    assert runs["bad"]["failed"] == [f"caption_not_blank[{BAD}]"]
    assert runs["bad"]["checked"] == sorted([*places(*GOOD), f"pose_library[{BAD}]"])
    assert runs["mended"]["checked"] == places(*KEYS)


def test_bad_rows_and_what_they_held_back_are_made_again_and_the_others_skipped(runs: dict[str, Any]) -> None:
    before, after = runs["bad"]["versions"], runs["mended"]
    assert after["success"]
    skipped = [place for place, names in after["metadata"].items() if "skipped" in names]
    assert sorted(skipped) == places(*GOOD)
    assert {place: after["versions"][place] for place in places(*GOOD)} == {p: before[p] for p in places(*GOOD)}
    assert sorted(after["versions"]) == places(*KEYS)


def test_a_run_over_partitions_that_have_not_changed_makes_none(runs: dict[str, Any]) -> None:
    assert runs["again"]["success"]
    assert all("skipped" in names for names in runs["again"]["metadata"].values())
    assert runs["again"]["versions"] == runs["mended"]["versions"]


def test_what_is_skipped_keeps_the_figures_and_pictures_of_when_it_was_made(runs: dict[str, Any]) -> None:
    for place in places(*GOOD):
        assert set(runs["again"]["metadata"][place]) == {*runs["bad"]["metadata"][place], "skipped"}


def test_every_partition_has_its_own_figures_and_pictures(runs: dict[str, Any]) -> None:
    made = [names for place, names in runs["bad"]["metadata"].items() if place in places(*GOOD)]
    assert all({"digest", "dagster/row_count"} <= set(names) for names in made)
    pictured = [place for place, names in runs["bad"]["metadata"].items() if "thumbnails" in names]
    assert sorted(pictured) == sorted([*places(*GOOD), f"pose_library[{BAD}]"])


def test_a_second_home_on_the_same_storage_holds_bad_rows_back_too(runs: dict[str, Any]) -> None:
    found = runs["second"]
    assert not found["success"]
    assert not any(BAD in place for place in found["versions"] if not place.startswith("pose_library"))
    held = [place for place, names in found["metadata"].items() if "held_back" in names]
    assert sorted(held) == places(BAD, assets=ASSETS[1:])
    assert found["versions"] == runs["bad"]["versions"]

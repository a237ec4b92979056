"""Killed processes and rival processes lose, double and tear no row. `POSEDREAMER_KILLS=100` kills that many."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from posedreamer_assets_tests.storage_faults import kills, rivals
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options, running_server

KILLS = int(os.environ.get("POSEDREAMER_KILLS", "10"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_server() as endpoint:
        yield endpoint


def test_kills_at_random_moments_of_every_write_leave_the_old_rows_or_the_new_ones(tmp_path: Path) -> None:
    report = kills.inject(str(tmp_path / "store"), None, tmp_path, KILLS, seed=1)
    assert report.tally.clean, report.tally.notes
    assert report.kills.total() == KILLS
    assert report.writes > KILLS


def test_kills_leave_an_object_store_whole(endpoint: str, tmp_path: Path) -> None:
    report = kills.inject(new_bucket(endpoint), options(endpoint), tmp_path, max(3, KILLS // 5), seed=2)
    assert report.tally.clean, report.tally.notes


@pytest.mark.parametrize(("place", "processes", "partitions"), [("local", 8, 6), ("s3", 4, 3)])
def test_processes_beside_upkeep_and_a_reader_leave_each_partition_to_one_of_them(
    tmp_path: Path, place: str, processes: int, partitions: int, request: pytest.FixtureRequest
) -> None:
    keys = [f"procedural-{i:04d}" for i in range(partitions)]
    plans = {f"w{i}": keys[i % partitions :] + keys[: i % partitions] for i in range(processes)}
    if place == "s3":
        endpoint = request.getfixturevalue("endpoint")
        report = rivals.compete(new_bucket(endpoint), options(endpoint), tmp_path, plans)
    else:
        report = rivals.compete(str(tmp_path / "store"), None, tmp_path, plans)
    assert report.failed == 0
    assert report.tally.clean, report.tally.notes
    assert sorted(report.labels) == keys
    assert report.reads and report.upkeeps

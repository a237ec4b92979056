"""`posedreamer run` on the stages that need no trained weights: what is made, skipped and made again."""

from pathlib import Path

import pytest

from posedreamer_assets.cli.memory import PeakMemory
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore

POSES = ("body_model", "pose_library", "base/control_maps", "rendered_scenes")


def small_profile(**settings: object) -> Profile:
    """The pocket profile with two base batches and one alignment batch of three poses."""
    sizes = {"poses.batch_size": 3, "poses.batches": 2, "poses.align_batches": 1, "scenes.supersample": 1}
    return load_profile("pocket", {**sizes, **settings})


def digests(home: Home, table: str) -> dict[str, str]:
    """Content digest of each stored partition."""
    return {key: info.content_digest for key, info in LanceStore(str(home.storage)).partitions(table).items()}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("first"))
    summary = run_main_job(home, small_profile(), only=POSES)
    assert {t.stage: t.made for t in summary.timings} == {
        "body_model": 1,
        "pose_library": 3,
        "base/control_maps": 3,
        "rendered_scenes": 3,
    }
    return home


def test_a_second_run_makes_nothing(first: Home) -> None:
    before = digests(first, "pose_library")
    summary = run_main_job(first, small_profile(), only=POSES)
    assert all(t.made == 0 for t in summary.timings)
    assert digests(first, "pose_library") == before


def test_partitions_made_one_by_one_in_another_order_are_the_same(first: Home, tmp_path: Path) -> None:
    other, profile = Home(tmp_path), small_profile()
    other.prepare(profile)
    with Runner(other) as runner:
        runner.execute(runner.graph["body_model"], None)
        for key in ("procedural-0001", "align-procedural-0000", "procedural-0000"):
            runner.execute(runner.graph["pose_library"], key)
            runner.execute(runner.graph["base/control_maps"], key)
    assert digests(other, "pose_library") == digests(first, "pose_library")
    assert digests(other, "control_maps") == digests(first, "control_maps")


def test_more_batches_make_only_the_new_ones(first: Home) -> None:
    before = digests(first, "control_maps")
    summary = run_main_job(first, small_profile(**{"poses.batches": 3}), only=POSES)
    assert {t.stage: (t.made, t.up_to_date) for t in summary.timings}["base/control_maps"] == (1, 3)
    after = digests(first, "control_maps")
    assert {key: after[key] for key in before} == before


def test_a_changed_setting_remakes_only_what_depends_on_it(first: Home) -> None:
    profile = small_profile(**{"scenes.reference_share": 0.9, "poses.batches": 3})
    summary = run_main_job(first, profile, only=POSES)
    assert {t.stage for t in summary.timings if t.made} == {"rendered_scenes"}


def test_a_partition_of_outdated_poses_is_not_current(first: Home) -> None:
    snapshot = Snapshot(small_profile(seed=5), LanceStore(str(first.storage)))
    assert snapshot.partitions(snapshot.graph["pose_library"])
    assert snapshot.current_of(snapshot.graph["pose_library"]) == []
    assert snapshot.current_of(snapshot.graph["base/control_maps"]) == []


def test_peak_memory_sees_an_allocation() -> None:
    with PeakMemory(interval_s=0.01) as memory:
        start = memory.peak_mb
        block = bytearray(b"x") * (80 << 20)
    assert memory.peak_mb >= start + 60
    assert len(block) == 80 << 20

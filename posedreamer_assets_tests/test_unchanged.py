"""What is unchanged is skipped: one changed pose file makes exactly the partitions below it again."""

from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.driver import run_main_job
from posedreamer_assets.home import Home
from posedreamer_assets.pose_files import recorded_batches
from posedreamer_assets.stages import STAGES
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.body.sources.test_amass import smplx_arrays, standing

POSES = ("body_model", "pose_library", "base/control_maps", "rendered_scenes")


def profile(mocap: Path) -> Profile:
    sizes = {"poses.batch_size": 2, "poses.batches": 2, "poses.align_batches": 1, "scenes.supersample": 1}
    files = {"poses.files_per_batch": 1, "curriculum.pool_size": 2, "poses.frame_stride_s": 0.01}
    return load_profile("pocket", {"poses.source": str(mocap), **sizes, **files})


def write_clip(path: Path, seed: int) -> None:
    np.savez(path, **smplx_arrays(standing(seed)))


def inputs(home: Home) -> dict[str, str]:
    """Input digest of every stored partition: it changes when one is made again from something else."""
    store = LanceStore(str(home.storage))
    tables = [STAGES[name].table for name in POSES if STAGES[name].group]
    return {f"{t}[{key}]": info.input_digest for t in tables for key, info in store.partitions(t).items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    place = tmp_path_factory.mktemp("unchanged")
    mocap = place / "mocap"
    mocap.mkdir()
    for seed in range(4):
        write_clip(mocap / f"clip{seed}.npz", seed)
    home = Home(place / "home")
    run_main_job(home, profile(mocap), only=POSES)
    return home, mocap


def test_a_changed_pose_file_makes_its_descendants_again_and_nothing_else(made: tuple[Home, Path]) -> None:
    home, mocap = made
    (changed,) = recorded_batches(LanceStore(str(home.storage)))["mocap-0001"].paths
    before = inputs(home)
    write_clip(mocap / changed, seed=9)
    summary = run_main_job(home, profile(mocap), only=POSES)
    assert {t.stage: t.made for t in summary.timings} == {name: int(name != "body_model") for name in POSES}
    after = inputs(home)
    assert {place for place in before if after[place] != before[place]} == {
        f"{table}[mocap-0001]" for table in ("pose_library", "base_control_maps", "rendered_scenes")
    }


def test_a_file_that_was_only_written_again_makes_nothing(made: tuple[Home, Path]) -> None:
    home, mocap = made
    for path in mocap.iterdir():
        path.write_bytes(path.read_bytes())
    summary = run_main_job(home, profile(mocap), only=POSES)
    assert not any(t.made for t in summary.timings)

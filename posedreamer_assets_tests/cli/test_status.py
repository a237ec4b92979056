"""`posedreamer status` counts what is done, stale, missing and failed, and repeats what the checks said."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.status import StageStatus, look
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import Runner, open_store, run_main_job
from posedreamer_assets.pipeline.graph import STAGES
from posedreamer_assets.runtime.home import Home


def profile(**settings: object) -> Profile:
    sizes = {"poses.batch_size": 2, "poses.batches": 2, "poses.align_batches": 0}
    return load_profile("pocket", {**sizes, **settings})


def of(home: Home, asset: str) -> StageStatus:
    return next(status for status in look(home, open_store(home)) if status.asset == asset)


def test_every_count_follows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    home.prepare(profile())
    poses = of(home, "pose_library")
    assert (poses.done, poses.stale, poses.missing, poses.failed, poses.rows, poses.bytes) == (0, 0, 2, 0, 0, 0)

    run_main_job(home, profile(), only=("body_model", "pose_library"))
    poses = of(home, "pose_library")
    assert (poses.done, poses.stale, poses.missing, poses.failed, poses.rows) == (2, 0, 0, 0, 4)
    assert poses.bytes > 1000
    assert poses.checks_passed > 10
    assert of(home, "base/control_maps").missing == 2

    home.prepare(profile(**{"poses.betas_std": 0.5}))
    poses = of(home, "pose_library")
    assert (poses.done, poses.stale, poses.missing) == (0, 2, 0)

    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("posedreamer_assets.pipeline.pose_library.make_pose_table", broken)
    with Runner(home) as runner, pytest.raises(ValueError, match="broken"):
        runner.execute(STAGES["pose_library"], "procedural-0002")
    poses = of(home, "pose_library")
    assert (poses.done, poses.stale, poses.missing, poses.failed) == (0, 2, 1, 1)

    shown = CliRunner().invoke(cli, ["status", "--json", "--home", str(tmp_path)])
    (line,) = [stage for stage in json.loads(shown.stdout) if stage["asset"] == "pose_library"]
    assert (line["stale"], line["failed"], line["rows"]) == (2, 1, 4)

"""The study as a user runs it: made through Dagster with all checks, up to date afterwards, killed and gone on with."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.cli.run_command import stages_of
from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline.stage import Stage
from posedreamer_assets.pipeline.studies import scene_stages
from posedreamer_assets.report import scenes
from posedreamer_assets.report.scenes import with_joints
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.scenes.conftest import SMALL, STUDY, Study

COMMAND = [
    *(sys.executable, "-c", "from posedreamer_assets.cli.commands import main; main()", "run", "--study", STUDY),
    *(part for name, value in SMALL.items() if "enabled" not in name for part in ("--set", f"{name}={value}")),
]


@pytest.mark.slow
def test_a_study_is_made_and_then_up_to_date_and_a_setting_makes_again_what_depends_on_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    profile = load_profile("pocket", {**SMALL, f"{STUDY}.scene_batches": 2})
    wanted = stages_of(STUDY, load_profile("pocket"))
    first = run_main_job(home, profile, only=wanted)
    assert [timing.stage for timing in first.timings] == wanted
    assert [timing.made for timing in first.timings] == [1, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    page = Path(first.report).read_text()
    assert "scenes of many people" in page and "rendered stand-in" in page and page.count("data:image/") > 12
    second = run_main_job(home, profile, only=wanted)
    assert not any(timing.made for timing in second.timings)
    styled = run_main_job(home, load_profile("pocket", {**SMALL, "style.min_pixels": 25}), only=wanted)
    assert [timing.stage for timing in styled.timings if timing.made] == ["dm/styled_images"]


def test_joints_that_are_seen_are_filled_and_hidden_ones_hollow() -> None:
    person = {"person": 0, "origin": "synthetic", "mpii_2d": [0.0] * 32}
    person["mpii_2d"][18:20] = [40.0, 20.0]  # the top of the head
    person |= {"mpii_labelled": [k == 9 for k in range(16)]}
    black = np.zeros((64, 64, 3), np.uint8)
    drawn = [
        with_joints(black, np.zeros((64, 64), np.uint8), [{**person, "mpii_visible": [flag] * 16}])
        for flag in (True, False)
    ]
    assert drawn[0][20, 40].any() and not drawn[1][20, 40].any()
    assert drawn[1].any() and not drawn[0][:, :30].any()


def test_images_whose_labels_are_not_up_to_date_are_not_shown(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    images = study.rows("ds/scene_images").column("sample_id").to_pylist()

    def rows_of(snapshot: Snapshot, stage: Stage, columns: Sequence[str], groups: Sequence[str]) -> pa.Table:
        rows = study.rows(stage.key)
        if stage.table == "scene_people":
            rows = rows.filter(pc.field("image_id") != images[0])
        return rows.select(columns)

    monkeypatch.setattr(scenes, "rows_of", rows_of)
    shown = scenes._examples(Snapshot(study.profile, study.store), "ds")
    assert [row.title for row in shown] == images[1:]


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with_and_gives_the_rows_of_one_that_was_not(study: Study, tmp_path: Path) -> None:
    """Held against tables that were made in another process, in one go."""
    home = Home(tmp_path)
    images = home.storage / "scene_images.lance"
    running = subprocess.Popen([*COMMAND, "--home", str(home.path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while not images.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert images.exists()
    run_main_job(home, study.profile, only=stages_of(STUDY, load_profile("pocket")))
    made = home.store()
    for stage in scene_stages((), ()):
        assert stage.table is not None
        wanted = study.store.partitions(stage.table)
        found = made.partitions(stage.table)
        assert {k: one.content_digest for k, one in found.items()} == {
            k: one.content_digest for k, one in wanted.items()
        }

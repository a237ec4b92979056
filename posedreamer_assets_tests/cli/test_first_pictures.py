"""The first batch's pictures: before everything else, of the rows that are stored, and only where something is new."""

from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.checks import suite
from posedreamer_assets.cli import run
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import Stage
from posedreamer_assets.report.first_pictures import SHOWN_POSES
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.images import decode, decode_all
from posedreamer_assets_tests.diffusion.conftest import SIDE, save_tiny_parts
from posedreamer_assets_tests.runtime.small import KEY, OTHER, SMALL, passing

CHOSEN = ("body_model", "pose_library", "base/control_maps", "rendered_scenes")


@pytest.mark.slow
def test_pictures_of_the_first_batch_come_before_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_parts(tmp_path / "generator")
    sizes = {**SMALL, "poses.align_batches": 0, "generator.model_path": str(tmp_path / "generator")}
    profile, home, made, shown = load_profile("pocket", sizes), Home(tmp_path / "home"), [], []
    monkeypatch.setattr(suite, "run_checks", passing)
    make = run._Job._make

    def noted(self: run._Job, stage: Stage, keys: list[str | None], *more: object) -> None:
        made.extend((stage.key, key) for key in keys)
        make(self, stage, keys, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(run._Job, "_make", noted)

    def show(path: Path) -> None:
        shown.append(path)
        made.append(("shown", None))

    timings = run_main_job(home, profile, only=CHOSEN, show=show).timings
    assert made == [
        ("body_model", None),
        *[(stage, KEY) for stage in CHOSEN[1:]],
        ("shown", None),
        *[(stage, OTHER) for stage in CHOSEN[1:]],
    ]
    assert [(t.stage, t.made, t.up_to_date) for t in timings] == [(s, 1 if s == CHOSEN[0] else 2, 0) for s in CHOSEN]
    assert all(t.seconds > 0 and t.peak_memory_mb > 0 for t in timings)

    sheet = decode(shown[0].read_bytes())
    assert sheet.shape == (3 * SIDE, SHOWN_POSES * SIDE, 3)
    for row, (table, column) in enumerate((("control_maps", "control"), ("rendered_scenes", "image"))):
        stored = decode_all(home.store().read(table, [KEY]).column(column).to_pylist()[:SHOWN_POSES])
        np.testing.assert_array_equal(sheet[row * SIDE : (row + 1) * SIDE], np.concatenate([*stored], axis=1))
    assert sheet[2 * SIDE :].std() > 0

    made.clear()
    assert not any(t.made for t in run_main_job(home, profile, only=CHOSEN, show=show).timings)
    assert made == [], "nothing is new, so nothing is shown"
    again = Home(tmp_path / "again")
    timings = run_main_job(again, profile, only=CHOSEN, show=show, force=True).timings
    assert len(made) == len(set(made)), "what was made for the pictures is not made once more"
    assert [t.made for t in timings] == [1, 2, 2, 2]

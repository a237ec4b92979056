"""`summary.json` and `report.html` of a home with three rounds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from posedreamer_assets.config import load_profile, profile_to_dict
from posedreamer_assets.report import of_store, run_report
from posedreamer_assets.report.html import Plots
from posedreamer_assets.report.run_report import write_run_report
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.report.test_pages import Page

MADE = [{"stage": "pose_library", "seconds": 2.5, "made": 2, "up_to_date": 0, "peak_memory_mb": 100.0}]
IDLE = [{"stage": "pose_library", "seconds": 0.0, "made": 0, "up_to_date": 2, "peak_memory_mb": 0.0}]


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Home:
    """A copy, to be written to."""
    return Home(Path(shutil.copytree(made.path, tmp_path / "home")))


def files(home: Home) -> tuple[Path, Path]:
    return home.reports / "latest" / "report.html", home.reports / "latest" / "summary.json"


def test_report_and_summary_say_the_same(home: Home) -> None:
    figures = write_run_report(home, home.profile(), timings=MADE, seconds=3.0)
    page, summary = files(home)
    assert json.loads(summary.read_text()) == figures
    text = page.read_text()
    assert Page(text).problems == []
    for title in (
        "Samples",
        "Preference alignment",
        "Curation",
        "Hard samples",
        "Coverage",
        "Skin tone",
        "All figures",
    ):
        assert f"<h2>{title}</h2>" in text
    assert "Image quality" not in text  # it was not made
    for name in ("hard", "hard2"):
        assert f"Hardest poses, round {name}" in text
        assert f"OKS, {name} - base" in text
    assert figures["stages"][0]["made_in_s"] == 2.5


def test_nothing_is_read_or_drawn_again_where_nothing_changed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_run_report(home, home.profile(), timings=MADE, seconds=3.0)
    page, summary = files(home)
    written = page.stat().st_mtime_ns

    def fail(*_: Any) -> Any:
        raise AssertionError("not needed")

    monkeypatch.setattr(run_report, "_gathered", fail)
    monkeypatch.setattr(run_report, "_write_page", fail)
    second = write_run_report(home, home.profile(), timings=IDLE, seconds=1.0)
    assert page.stat().st_mtime_ns == written
    times = ("stages", "seconds", "peak_memory_mb")
    assert {k: v for k, v in second.items() if k not in times} == {k: v for k, v in first.items() if k not in times}
    assert (second["seconds"], second["stages"][0]["made_in_s"]) == (1.0, 2.5)
    assert json.loads(summary.read_text()) == second


def test_it_is_written_again_where_rows_settings_or_files_changed(home: Home) -> None:
    page, _ = files(home)

    def rewritten(**settings: Any) -> bool:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("former")
        values = profile_to_dict(home.profile())
        values["curation"] |= settings
        (home.path / "given.yaml").write_text(json.dumps(values))
        write_run_report(home, load_profile(str(home.path / "given.yaml")), timings=IDLE)
        return page.read_text() != "former"

    assert rewritten()
    assert not rewritten()
    assert rewritten(min_oks=0.5)
    assert rewritten()
    home.store().delete_partition("preference_pairs", "align-procedural-0000")
    assert rewritten()
    assert not rewritten()
    page.unlink()
    write_run_report(home, home.profile(), timings=IDLE)
    assert page.exists()


def test_an_empty_home_has_a_report(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    figures = write_run_report(home, home.profile())
    assert (figures["poses"], figures["images_made"], figures["kept"], figures["rejected"]) == (0, 0, 0, {})
    assert "<h2>All figures</h2>" in files(home)[0].read_text()


def test_pictures_are_read_of_shown_samples_alone(made: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, int] = {}
    take, read = LanceStore.take, LanceStore.read

    def count(self: LanceStore, table: str, ids: Any, columns: Any = None, **more: Any) -> pa.Table:
        taken[table] = taken.get(table, 0) + len(ids)
        return take(self, table, ids, columns, **more)

    def check(
        self: LanceStore, table: str, keys: Any = None, columns: Any = None, *given: Any, **more: Any
    ) -> pa.Table:
        assert columns is not None or table == "checkpoints"
        assert not {"image", "control", "candidate_images"} & set(columns or ())
        return read(self, table, keys, columns, *given, **more)

    monkeypatch.setattr(LanceStore, "take", count)
    monkeypatch.setattr(LanceStore, "read", check)
    monkeypatch.setattr(of_store, "_SHOWN", 3)
    monkeypatch.setattr(of_store, "_OF_REASON", 1)
    monkeypatch.setattr(of_store, "_HARDEST", 1)
    snapshot = Snapshot(made.profile(), made.store())
    reasons = set(snapshot.store.read("filtered_dataset", columns=["reason"]).column(0).to_pylist())
    of_store.sections_of(snapshot)
    assert 0 < taken["raw_generations"] <= 3 + len(reasons) + 2


def test_coverage_of_many_poses_is_that_of_some(made: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_store, "MOST_SHOWN", 7)
    sections = of_store.sections_of(Snapshot(made.profile(), made.store()))
    (found,) = [section for section in sections if section.title == "Coverage"]
    plots, note = found.blocks
    assert isinstance(plots, Plots)
    assert any("(n=7)" in plot.svg for plot in plots.plots)
    assert getattr(note, "text", "").startswith("7 of 23 poses, evenly spread. 7 captions: 100% unlike")

"""A caption, the names of pose files and a check's texts that are HTML: shown as text wherever they come out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path
from unittest import mock

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.checks import suite
from posedreamer_assets.checks.files import load_table_checks
from posedreamer_assets.checks.model import Around, CheckOutcome
from posedreamer_assets.config import Profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.pose_batches import plan_batches
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.report.run_report import write_run_report
from posedreamer_assets.report.view import write_view
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.site import write_all
from posedreamer_assets_tests.poses.clips import clip
from posedreamer_assets_tests.runtime.small import MAPS, POSES, small_profile

CAPTION = "<script>alert('caption')</script> a person"
CHECK = "<script>alert('check')</script> | [a](javascript:alert)"
FILE, BROKEN = "<img src=x onerror=alert(1)>.npz", "<svg onload=alert(2)>.npz"
PLANTED = ("<script>alert", "<img src=x", "<svg onload")


@contextmanager
def planted() -> Iterator[None]:
    """While entered, all captions and texts of checks are HTML."""
    stage = graph(2)[POSES]
    whole = stage.make

    def captioned(inputs: Inputs) -> Made:
        made = whole(inputs)
        assert made.rows is not None
        place = made.rows.schema.get_field_index("caption")
        captions = pa.array([CAPTION] * made.rows.num_rows)
        return replace(made, rows=made.rows.set_column(place, made.rows.schema.field(place), captions))

    def outcomes(table: str, rows: pa.Table, around: Around) -> list[CheckOutcome]:
        ids: Sequence[str] = rows.column("sample_id").to_pylist()[:2] if "sample_id" in rows.column_names else ()
        return [
            CheckOutcome(c.name, c.blocking, c.severity, CHECK, CHECK, tuple(ids), rows.num_rows)
            for c in load_table_checks(table).checks
        ]

    with mock.patch.dict(stage.__dict__, {"make": captioned}), mock.patch.object(suite, "run_checks", outcomes):
        yield


def _pose_files(folder: Path) -> None:
    folder.mkdir()
    params = clip("stand").take(slice(0, 1))
    poses = params.full_pose().reshape(1, -1)
    np.savez(folder / FILE, poses=poses, trans=params.transl, betas=params.betas[0], mocap_framerate=30.0)
    (folder / BROKEN).write_bytes(b"not an archive")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Profile]:
    """A home whose poses come from these files."""
    place = tmp_path_factory.mktemp("attacked")
    _pose_files(place / "poses")
    home = Home(place / "home")
    profile = small_profile(**{"poses.source": str(place / "poses"), "poses.batches": 1, "poses.files_per_batch": 2})
    home.prepare(profile)
    plan_batches(profile, home.store())
    with planted(), Runner(home) as runner:
        runner.execute(runner.graph["body_model"], None)
        for stage in (POSES, MAPS):
            for key in planned_keys(profile, ("base",)) or sorted(home.store().partitions(POSES)):
                runner.execute(runner.graph[stage], key)
    return home, profile


def test_pages_show_them_as_text(attacked: tuple[Home, Profile], tmp_path: Path) -> None:
    home, profile = attacked
    for table in (POSES, "control_maps", "pose_files", "quarantine", "check_results"):
        write_view(home, table, None, tmp_path / f"{table}.html", limit=50)
    write_run_report(home, profile, timings=[], seconds=1.0)
    of_the_run = {page: page.read_text() for page in home.path.rglob("*.html")}
    write_all(home, home.store())
    pages = {page: page.read_text() for page in (*tmp_path.glob("*.html"), *home.path.rglob("*.html"))}
    for page, text in [*pages.items(), *of_the_run.items()]:
        assert not [tag for tag in PLANTED if tag in text], page
    gallery, checks = pages[tmp_path / f"{POSES}.html"], next(home.checks.glob(f"{POSES}/*-*.html")).read_text()
    assert escape(CAPTION, quote=False) in gallery.replace("&#39;", "'")
    assert escape(CHECK, quote=False) in checks.replace("&#39;", "'")
    assert escape(FILE) in pages[tmp_path / "pose_files.html"]
    assert escape(BROKEN) in pages[tmp_path / "quarantine.html"]
    assert (home.reports / "latest" / "report.html") in pages


def test_dagster_is_given_none_of_them_as_markdown(attacked: tuple[Home, Profile]) -> None:
    home, _ = attacked
    seen: list[dg.MetadataValue] = []
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        for run in instance.get_runs():
            for record in instance.get_records_for_run(run.run_id).records:
                event = record.event_log_entry.dagster_event
                data = event.event_specific_data if event else None
                for holder in (data, getattr(data, "materialization", None)):
                    seen += (getattr(holder, "metadata", None) or {}).values()
    markdown = [value.value for value in seen if isinstance(value, dg.MarkdownMetadataValue)]
    assert markdown and not [text for text in markdown if "alert" in str(text)]
    definitions = [spec for asset in graph(2) for spec in (asset.about,)]
    assert not [text for text in definitions if "<" in text], "descriptions of assets are markdown, too"

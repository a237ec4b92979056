"""What checks found, as pages, as marks that keep bad rows from downstream, and as Dagster shows it."""

from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from posedreamer_assets.checks.pages import failed_checks, page_of
from posedreamer_assets.cli.commands import cli
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import Runner, open_store, run_main_job
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline.control_maps import render_control_rows
from posedreamer_assets.pipeline.graph import STAGES, Snapshot
from posedreamer_assets.runtime.checking import refuse_bad_rows
from posedreamer_assets.runtime.home import Home
from posedreamer_assets_tests.planted_faults.faults import FAULTS, ROW

KEY = "procedural-0000"
MAPS = STAGES["base/control_maps"]
SCENES = STAGES["rendered_scenes"]


def _profile() -> Profile:
    sizes = {"poses.batch_size": 12, "poses.batches": 1, "poses.align_batches": 0, "scenes.supersample": 1}
    return load_profile("pocket", {"seed": 3, **sizes})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Poses made by the graph, then control maps by a renderer that swaps left and right in one label."""
    (fault,) = (f for f in FAULTS if f.name == "swapped left and right joints")
    home = Home(tmp_path_factory.mktemp("home"))
    run_main_job(home, _profile(), only=("body_model", "pose_library"))
    assert not list((home.path / "checks").rglob("*.bad"))

    def faulty(profile: Profile, poses: pa.Table, key: str) -> tuple[pa.Table, np.ndarray]:
        rows, images = render_control_rows(profile, poses, key)
        return fault.plant(rows).cast(rows.schema), images

    with pytest.MonkeyPatch.context() as patched, Runner(home) as runner:
        patched.setattr("posedreamer_assets.pipeline.control_maps.render_control_rows", faulty)
        with pytest.raises(CheckError, match="joints_are_the_projected_body"):
            runner.execute(MAPS, KEY)
    return home


class _Page(HTMLParser):
    """Links and pictures of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found["href"] or ""] if "href" in found else []
        self.pictures += [found["src"] or ""] if "src" in found else []


def test_every_page_is_reached_by_links_and_needs_no_network(home: Home) -> None:
    root = home.path / "checks"
    seen, todo = set[Path](), [root / "index.html"]
    while todo:
        path = todo.pop()
        seen.add(path)
        page = _Page(path)
        assert not [link for link in [*page.links, *page.pictures] if "//" in link and not link.startswith("data:")]
        todo += [target for link in page.links if (target := (path.parent / link).resolve()) not in seen]
    assert seen == set(root.rglob("*.html"))
    assert page_of(home, MAPS.table, KEY) in seen
    assert page_of(home, "body_model", None) in seen


def test_the_page_of_a_bad_partition_says_so_with_samples_and_pictures(home: Home) -> None:
    page = _Page(page_of(home, MAPS.table, KEY))
    assert "Bad partition" in page.text
    assert f"{KEY}/{ROW:06d}" in page.text
    assert any(picture.startswith("data:image/jpeg") for picture in page.pictures)
    assert "1 bad" in (home.path / "checks" / "index.html").read_text()


def test_a_bad_partition_is_refused_downstream_until_its_rows_are_others(home: Home) -> None:
    store = open_store(home)
    stored = store.partition(MAPS.table, KEY)
    assert stored is not None
    assert "joints_are_the_projected_body" in failed_checks(home, MAPS.table, KEY, stored.content_digest)
    assert failed_checks(home, MAPS.table, KEY, "other content") == []
    images = STAGES["base/raw_generations"]
    with pytest.raises(CheckError, match=r"must not be made from base/control_maps\[procedural-0000\]"):
        refuse_bad_rows(home, Snapshot(_profile(), store), images, KEY)
    refuse_bad_rows(home, Snapshot(_profile(), store), SCENES, KEY)


def test_dagster_shows_counts_samples_pictures_and_the_page(home: Home) -> None:
    with Runner(home) as runner:
        asset = dg.AssetKey(MAPS.key.split("/"))
        found = runner._instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [dg.AssetCheckKey(asset, "joints_are_the_projected_body")]
        )
        ((_, record),) = found.items()
        assert record.event is not None and record.event.dagster_event is not None
        shown = record.event.dagster_event.asset_check_evaluation_data
        assert (shown.passed, shown.partition, shown.blocking) == (False, KEY, True)
        assert (shown.metadata["rows"].value, shown.metadata["failed"].value) == (12, 1)
        assert shown.metadata["failing"].value == [f"{KEY}/{ROW:06d}"]
        assert str(shown.metadata["pictures"].value).startswith("![samples](data:image/jpeg;base64,")
        assert shown.metadata["docs"].value == str(page_of(home, MAPS.table, KEY))
        observed = runner._instance.fetch_observations(asset, limit=1).records[0].asset_observation
        assert observed is not None and observed.partition == KEY
        assert str(observed.metadata["bad"].value).startswith("BAD ROWS")


def test_the_command_names_what_failed_and_writes_the_pages(home: Home) -> None:
    result = CliRunner().invoke(cli, ["checks", "run", MAPS.table, KEY, "--home", str(home.path)])
    assert result.exit_code == 1
    assert f"joints_are_the_projected_body: 1 of 12 rows fail (8.3 %) ({KEY}/{ROW:06d})" in result.output
    assert str(home.path / "checks" / "index.html") in result.output
    clean = CliRunner().invoke(cli, ["checks", "run", "pose_library", "--home", str(home.path)])
    assert clean.exit_code == 0, clean.output


def test_the_commands_list_checks_and_kinds() -> None:
    listed = CliRunner().invoke(cli, ["checks", "list", "dataset"]).output
    assert "rows_of_the_filter" in listed
    assert "error" in listed
    kinds = CliRunner().invoke(cli, ["checks", "list", "--kinds"]).output
    assert "outline_in_image" in kinds


def test_validate_names_every_broken_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["checks", "validate", "--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert "pose_library.yml: no such file" in result.stderr

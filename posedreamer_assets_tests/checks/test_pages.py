"""What checks found, as pages, as marks that keep bad rows from downstream, and as Dagster shows it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.errors import CheckError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import refuse_bad_rows
from posedreamer_assets.runtime.outcomes import full_records, known_outcomes
from posedreamer_assets.runtime.site import page_of_stage, write_all
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.planted_faults.faults import FAULTS, ROW

KEY = "procedural-0000"
BAD = "joints_are_the_projected_body"


def _profile() -> Profile:
    sizes = {"poses.batch_size": 12, "poses.batches": 1, "poses.align_batches": 0, "scenes.supersample": 1}
    return load_profile("pocket", {"seed": 3, **sizes})


GRAPH = graph_of(_profile())
BODY, POSES, MAPS, SCENES = (
    GRAPH[key] for key in ("body_model", "pose_library", "base/control_maps", "rendered_scenes")
)


@contextmanager
def _left_and_right_swapped() -> Iterator[None]:
    """While entered, the renderer swaps left and right in one label."""
    (fault,) = (f for f in FAULTS if f.name == "swapped left and right joints")
    maps = graph_of(_profile())[
        "base/control_maps"
    ]  # the one that runs; tests before this one may have made graphs anew
    whole = maps.make

    def faulty(inputs: Inputs) -> Made:
        made = whole(inputs)
        assert made.rows is not None, "maps are rows"
        return replace(made, rows=fault.plant(made.rows).cast(made.rows.schema))

    with mock.patch.dict(maps.__dict__, {"make": faulty}):
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Poses made by the graph, then control maps by a renderer that swaps left and right in one label."""
    home = Home(tmp_path_factory.mktemp("home"))
    run_main_job(home, _profile(), only=(BODY.key, POSES.key))
    assert not [one for one in known_outcomes(home.store()).values() if one.failed]
    with _left_and_right_swapped(), Runner(home) as runner, pytest.raises(CheckError, match=BAD):
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
    assert {page_of_stage(home, MAPS, KEY), page_of_stage(home, POSES, KEY), page_of_stage(home, BODY, None)} <= seen


def test_the_page_of_a_bad_partition_says_so_with_samples_and_pictures(home: Home) -> None:
    page = _Page(page_of_stage(home, MAPS, KEY))
    assert "Bad partition" in page.text
    assert f"{KEY}/{ROW:06d}" in page.text
    assert any(picture.startswith("data:image/jpeg") for picture in page.pictures)
    assert "1 bad" in (home.path / "checks" / "index.html").read_text()


def test_all_pages_can_be_written_again_from_the_store_alone(home: Home, tmp_path: Path) -> None:
    """As on another machine that shares the store: everything but the pictures."""
    other = Home(tmp_path)
    other.keep_in(home.storage_root)
    index = write_all(other, other.store())
    assert index == other.path / "checks" / "index.html"
    own, others = ({p.relative_to(one.checks) for p in one.checks.rglob("*.html")} for one in (home, other))
    assert own == others
    same = [p for p in own if p != page_of_stage(home, MAPS, KEY).relative_to(home.checks)]
    assert {p: (home.checks / p).read_text() for p in same} == {p: (other.checks / p).read_text() for p in same}
    page = _Page(page_of_stage(other, MAPS, KEY))
    assert "Bad partition" in page.text and f"{KEY}/{ROW:06d}" in page.text and not page.pictures


def test_a_bad_partition_is_refused_downstream_until_its_rows_are_others(home: Home, tmp_path: Path) -> None:
    store = home.store()
    stored = store.partition("control_maps", KEY)
    known = known_outcomes(store)["control_maps", KEY]
    assert stored is not None and known.content == stored.content_digest
    assert BAD in known.failed and known.rows == 12
    (record,) = full_records(store, "control_maps")
    (outcome,) = [o for o in record["outcomes"] if o["name"] == BAD]
    assert (outcome["passed"], outcome["failed"], outcome["failing_ids"]) == (False, 1, [f"{KEY}/{ROW:06d}"])
    snapshot = Snapshot(_profile(), store)
    assert BAD in snapshot.failed(MAPS, KEY) and not snapshot.is_current(MAPS, KEY)
    with pytest.raises(CheckError, match=r"must not be made from base/control_maps\[procedural-0000\]"):
        refuse_bad_rows(snapshot, GRAPH["base/raw_generations"], KEY)
    refuse_bad_rows(snapshot, SCENES, KEY)
    copied = LanceStore(str(shutil.copytree(home.storage, tmp_path / "storage")))
    others = copied.read("control_maps", [KEY]).drop_columns(["row_digest", "input_digest"]).slice(1)
    copied.replace_partition("control_maps", KEY, others, input_digest=stored.input_digest)
    refuse_bad_rows(Snapshot(_profile(), copied), GRAPH["base/raw_generations"], KEY)


def test_dagster_shows_counts_samples_pictures_and_the_page(home: Home) -> None:
    with Runner(home) as runner:
        asset = dg.AssetKey(MAPS.key.split("/"))
        found = runner.instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [dg.AssetCheckKey(asset, BAD)]
        )
        ((_, record),) = found.items()
        assert record.event is not None and record.event.dagster_event is not None
        shown = record.event.dagster_event.asset_check_evaluation_data
        assert (shown.passed, shown.partition, shown.blocking) == (False, KEY, True)
        assert (shown.metadata["rows"].value, shown.metadata["failed"].value) == (12, 1)
        assert shown.metadata["failing"].value == [f"{KEY}/{ROW:06d}"]
        assert str(shown.metadata["pictures"].value).startswith("![samples](data:image/jpeg;base64,")
        assert shown.metadata["docs"].value == str(page_of_stage(home, MAPS, KEY))
        observed = runner.instance.fetch_observations(asset, limit=1).records[0].asset_observation
        assert observed is not None and observed.partition == KEY
        assert str(observed.metadata["bad"].value).startswith("BAD ROWS")


def test_the_command_names_what_failed_and_writes_the_pages(home: Home) -> None:
    result = CliRunner().invoke(cli, ["checks", "run", "control_maps", KEY, "--home", str(home.path)])
    assert result.exit_code == 1
    assert f"{BAD}: 1 of 12 rows fail (8.3 %) ({KEY}/{ROW:06d})" in result.output
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

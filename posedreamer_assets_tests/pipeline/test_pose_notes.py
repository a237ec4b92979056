"""What is kept of pose files that were read with something assumed, and of those that could not be read."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.cli.status import pose_file_lines
from posedreamer_assets.config import load_profile
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import NO_ROOM, SCHEMAS
from posedreamer_assets.tables.rows import make_table
from posedreamer_assets_tests.poses.sources.test_amass import smplx_arrays, standing


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose folder of poses holds a clip without a frame rate, one that is whole, and one that is no npz."""
    place = tmp_path_factory.mktemp("notes")
    (place / "mocap").mkdir()
    without_rate = smplx_arrays(standing(0))
    del without_rate["mocap_frame_rate"]
    np.savez(place / "mocap" / "no_rate.npz", **without_rate)
    np.savez(place / "mocap" / "whole.npz", **smplx_arrays(standing(1)))
    (place / "mocap" / "broken.npz").write_bytes(b"not a zip")
    sizes = {"poses.batches": 1, "poses.align_batches": 0, "poses.batch_size": 4, "curriculum.rounds": []}
    profile = load_profile("pocket", {**sizes, "poses.source": str(place / "mocap"), "alignment.method": "none"})
    run_main_job(Home(place / "home"), profile, only=("body_model", "pose_library"))
    return Home(place / "home")


def test_notes_are_kept_with_the_file_that_they_are_about(home: Home) -> None:
    rows = home.store().read("pose_notes", columns=["path", "note"]).to_pylist()
    about_rates = [row["path"] for row in rows if "frame rate" in row["note"] or "frames a second" in row["note"]]
    assert [Path(path).name for path in about_rates] == ["no_rate.npz"]
    assert "broken.npz" not in {Path(row["path"]).name for row in rows}


def test_status_counts_files_with_notes_and_unreadable_ones(home: Home) -> None:
    said = CliRunner().invoke(cli, ["status", "--home", str(home.path)])
    assert said.exit_code == 0, said.output
    files = {row["path"] for row in home.store().read("pose_notes", columns=["path"]).to_pylist()}
    assert f"pose files read with notes: {len(files)}; posedreamer view pose_notes" in said.output
    assert "pose files not readable, whole or in part: 1; posedreamer view quarantine" in said.output


def test_people_without_room_are_no_unreadable_files(tmp_path: Path) -> None:
    store = Home(tmp_path).store()
    row = {"sample_id": "scenes-0000/000000/03", "partition_key": "scenes-0000", "reason": NO_ROOM, "detail": "touched"}
    rows = make_table(
        {name: [value] for name, value in {**row, "path": row["sample_id"]}.items()}, SCHEMAS["quarantine"]
    )
    store.replace_partition("quarantine", "scenes-0000", rows, input_digest="x")
    assert pose_file_lines(store) == []


@pytest.mark.parametrize(("table", "name"), [("pose_notes", "no_rate.npz"), ("quarantine", "broken.npz")])
def test_notes_and_reasons_can_be_looked_at(home: Home, table: str, name: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = CliRunner().invoke(cli, ["view", table, "--home", str(home.path), "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert name in page.read_text()

"""`posedreamer poses inspect` tells of every file, stops at none, and its exit code says whether anything was readable."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.doctor import look_at_poses
from posedreamer_assets.config import PosesConfig, Profile
from posedreamer_assets.poses import sheet
from posedreamer_assets_tests.poses.sources.npz_kinds import base, clip_arrays, people_arrays
from posedreamer_assets_tests.poses.sources.rig_kinds import KINDS, write_kind
from posedreamer_assets_tests.poses.sources.rigs import lively


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_kind(tmp_path / "a.bvh", KINDS["motive"], lively(seed=1))
    np.savez(tmp_path / "b.npz", **clip_arrays())
    (tmp_path / "c.bvh").write_text("HIERARCHY")
    (tmp_path / "d.npz").write_bytes(b"\x80\x04 a pickle")
    (tmp_path / "e.fbx").write_bytes(b"Kaydara")
    return tmp_path


def test_every_file_has_a_line_and_is_counted(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["poses", "inspect", "--no-sheet", str(folder)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["a.bvh", "b.npz", "c.bvh", "d.npz"]
    assert "refused: truncated" in lines[2]
    assert "refused: pickle" in lines[3]
    assert "4 files: 2 read (1 bvh, 1 amass), 2 refused (1 truncated, 1 pickle), 0 read in part" in lines[4]
    assert "1 file: .fbx is not read" in lines[5]


def test_json_tells_a_stature_measured_on_vertices(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["poses", "inspect", "--no-sheet", "--json", str(folder / "a.bvh")])
    (file,) = json.loads(result.stdout)["files"]
    (clip,) = file["clips"]
    heights = load_body().forward(BodyParams.zeros(1)).vertices[0, :, 1]
    assert not clip["has_betas"]
    assert clip["stature_m"] == pytest.approx(float(np.ptp(heights)), abs=1e-3)
    assert clip["notes"]
    assert "NaN" not in result.stdout


def test_nothing_readable_is_exit_code_1(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["poses", "inspect", "--no-sheet", str(folder / "c.bvh"), str(folder / "d.npz")])
    assert result.exit_code == 1
    assert "2 files: 0 read, 2 refused" in result.stdout


def test_doctor_counts_unreadable_files(folder: Path) -> None:
    profile = Profile(poses=PosesConfig(source=str(folder)))
    finding = look_at_poses(profile)
    assert finding.ok
    assert "4 files" in finding.detail
    assert "2 unreadable" in finding.detail


def inspected(*arguments: str) -> dict:
    """The document of `--json`, and no sheets unless they are asked for."""
    quiet = () if "--sheet" in arguments else ("--no-sheet",)
    return json.loads(CliRunner().invoke(cli, ["poses", "inspect", "--json", *quiet, *arguments]).stdout)


def height_of(path: str) -> int:
    with Image.open(path) as page:
        return page.size[1]


def test_frames_rate_and_axis_are_fields_of_their_own(folder: Path) -> None:
    clips = {file["path"]: file["clips"] for file in inspected(str(folder))["files"]}
    (a,), (b,) = clips["a.bvh"], clips["b.npz"]
    assert (a["frames"], b["frames"]) == (12, 48)
    assert (a["fps"], b["fps"]) == (pytest.approx(30, rel=1e-4), 30)
    assert (a["up_axis"], b["up_axis"]) == ("y", "z")
    assert 0.9 < a["up_axis_sure"] <= 1 and 0.9 < b["up_axis_sure"] <= 1


def test_several_places_keep_their_files_apart_and_count_those_that_fail(folder: Path, tmp_path: Path) -> None:
    twins = [tmp_path / "one", tmp_path / "two"]
    for twin in twins:
        twin.mkdir()
        (twin / "a.bvh").write_bytes((folder / "a.bvh").read_bytes())
    found = inspected(*map(str, twins), str(twins[0] / "a.bvh"), str(tmp_path / "nowhere"), str(folder / "e.fbx"))
    assert [file["path"] for file in found["files"]] == [
        *(f"{twin}/a.bvh" for twin in (*twins, twins[0])),
        str(tmp_path / "nowhere"),
        str(folder / "e.fbx"),
    ]
    assert found["totals"]["read"] == {"bvh": 3}
    assert found["totals"]["refused"] == {"empty": 1, "unknown_layout": 1}


def test_files_of_shapes_are_no_unreadable_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", **clip_arrays())
    np.savez(tmp_path / "shape.npz", betas=np.zeros(16), gender="neutral")
    np.savez(tmp_path / "neutral_stagei.npz", betas=np.zeros(16), gender="neutral", markers_latent=np.zeros((5, 3)))
    totals = inspected(str(tmp_path))["totals"]
    assert (totals["read"], totals["refused"], totals["poseless"]) == ({"amass": 1}, {}, 1)
    assert look_at_poses(Profile(poses=PosesConfig(source=str(tmp_path)))).detail.endswith("0 unreadable")


def test_people_of_a_file_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", **people_arrays([base(), base()]))
    (file,) = inspected(str(tmp_path))["files"]
    assert [clip["name"] for clip in file["clips"]] == ["both-1", "both-2"]


def test_sheets_have_a_row_a_clip_and_pages_that_a_limit_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, "ROWS", 8)
    place, out = tmp_path / "clips", tmp_path / "sheets"
    place.mkdir()
    write_kind(place / "a.bvh", KINDS["motive"], lively(seed=1))
    for copy in range(9):
        (place / f"b{copy:02}.bvh").write_bytes((place / "a.bvh").read_bytes())
    found = inspected("--sheet", str(out), str(place))
    assert found["sheets"] == [str(out / "poses-001.png"), str(out / "poses-002.png")]
    heights = [height_of(path) for path in found["sheets"]]
    assert heights[1] * 3 < heights[0] < heights[1] * 4 + 100  # 8 rows and 2
    limited = inspected("--sheet", str(tmp_path / "few"), "--sheet-files", "1", str(place))
    assert len(limited["files"]) == 10 and len(limited["sheets"]) == 1
    assert height_of(limited["sheets"][0]) < heights[1]


def test_no_sheet_is_written_where_none_is_wanted(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    result = CliRunner().invoke(cli, ["poses", "inspect", "--no-sheet", str(folder)])
    assert result.exit_code == 0
    assert not list(here.iterdir())
    result = CliRunner().invoke(cli, ["poses", "inspect", str(folder)])
    assert [path.name for path in here.rglob("*.png")] == ["poses-001.png"]
    assert result.stdout.splitlines()[-1] == "contact sheets: pose_sheets/poses-001.png"


def test_names_keep_to_their_line_and_say_nothing_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\nfile \x1b[2Jcleared.bvh").write_text("HIERARCHY")
    result = CliRunner().invoke(cli, ["poses", "inspect", "--no-sheet", str(tmp_path)])
    assert result.stdout.splitlines()[0].startswith(r"a\nfile \x1b[2Jcleared.bvh  refused: truncated")
    assert "\x1b" not in result.stdout

"""`posedreamer poses inspect` tells of every file, stops at none, and its exit code says whether anything was readable."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.doctor import look_at_poses
from posedreamer_assets.config import PosesConfig, Profile
from posedreamer_assets_tests.poses.sources.npz_kinds import clip_arrays
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
    result = CliRunner().invoke(cli, ["poses", "inspect", str(folder)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["a.bvh", "b.npz", "c.bvh", "d.npz"]
    assert "refused: truncated" in lines[2]
    assert "refused: pickle" in lines[3]
    assert "4 files: 2 read (1 bvh, 1 amass), 2 refused (1 truncated, 1 pickle), 0 read in part" in lines[4]
    assert "1 file: .fbx is not read" in lines[5]


def test_json_tells_a_stature_measured_on_vertices(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["poses", "inspect", "--json", str(folder / "a.bvh")])
    (file,) = json.loads(result.stdout)["files"]
    (clip,) = file["clips"]
    heights = load_body().forward(BodyParams.zeros(1)).vertices[0, :, 1]
    assert not clip["has_betas"]
    assert clip["stature_m"] == pytest.approx(float(np.ptp(heights)), abs=1e-3)
    assert clip["notes"]
    assert "NaN" not in result.stdout


def test_nothing_readable_is_exit_code_1(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["poses", "inspect", str(folder / "c.bvh"), str(folder / "d.npz")])
    assert result.exit_code == 1
    assert "2 files: 0 read, 2 refused" in result.stdout


def test_doctor_counts_unreadable_files(folder: Path) -> None:
    profile = Profile(poses=PosesConfig(source=str(folder)))
    finding = look_at_poses(profile)
    assert finding.ok
    assert "4 files" in finding.detail
    assert "2 unreadable" in finding.detail

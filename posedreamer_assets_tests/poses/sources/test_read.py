import os
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources import read_folder, read_pose_file, scan_folder
from posedreamer_assets_tests.poses.sources.rigs import lively, write_bvh

SHARED = Path(os.environ.get("POSEDREAMER_SHARED", Path(__file__).parents[4] / "shared"))
MOCAP = SHARED / "data" / "mocap"


def fill(folder: Path) -> None:
    (folder / "b").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    write_bvh(folder / "b" / "walk.bvh", lively(seed=1))
    write_bvh(folder / "a.BVH", lively(seed=2))
    write_bvh(folder / ".hidden" / "no.bvh", lively(seed=3))
    (folder / "b" / "broken.bvh").write_text("HIERARCHY")
    (folder / "junk.npz").write_bytes(b"PK nothing")
    (folder / "notes.txt").write_text("not a pose file")


def test_files_are_found_in_sorted_order_without_hidden_ones(tmp_path: Path) -> None:
    fill(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in scan_folder(tmp_path)]
    assert found == ["a.BVH", "b/broken.bvh", "b/walk.bvh", "junk.npz"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PoseFileError) as caught:
        scan_folder(tmp_path / "nowhere")
    assert caught.value.reason == "empty"


def test_bad_files_are_set_aside_and_the_rest_is_read(tmp_path: Path) -> None:
    fill(tmp_path)
    clips, errors = read_folder(tmp_path, stride_s=0.1, seed=0)
    assert [clip.family for clip in clips] == ["a", "walk"]
    assert {Path(error.path).name: error.reason for error in errors} == {
        "broken.bvh": "truncated",
        "junk.npz": "truncated",
    }


def test_reading_again_gives_the_same_poses(tmp_path: Path) -> None:
    fill(tmp_path)
    first, second = (read_folder(tmp_path, stride_s=0.1, seed=5)[0] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.names == b.names
        assert np.array_equal(a.params.full_pose(), b.params.full_pose())
        assert np.array_equal(a.params.transl, b.params.transl)


def test_a_file_reads_alike_alone_and_in_its_folder(tmp_path: Path) -> None:
    fill(tmp_path)
    together = read_folder(tmp_path, stride_s=0.1, seed=5)[0][1]
    alone = read_pose_file(tmp_path / "b" / "walk.bvh", stride_s=0.1, seed=5)
    assert together.names == [f"b/{name}" for name in alone.names]  # the path below the folder
    assert np.array_equal(alone.params.full_pose(), together.params.full_pose())


def test_the_nearest_licence_file_counts(tmp_path: Path) -> None:
    fill(tmp_path)
    assert {clip.licence for clip in read_folder(tmp_path, stride_s=1, seed=0)[0]} == {
        "unknown: see a.BVH",
        "unknown: see walk.bvh",
    }
    (tmp_path / "LICENSE").write_text("\nMIT License\n\nCopyright someone\n")
    (tmp_path / "b" / "licence.txt").write_text("CC0-1.0")
    found = {clip.family: clip.licence for clip in read_folder(tmp_path, stride_s=1, seed=0)[0]}
    assert found == {"a": "MIT License (see LICENSE)", "walk": "CC0-1.0 (see licence.txt)"}


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.fbx"
    path.write_text("x")
    with pytest.raises(PoseFileError) as caught:
        read_pose_file(path, stride_s=1, seed=0)
    assert caught.value.reason == "unknown_layout"

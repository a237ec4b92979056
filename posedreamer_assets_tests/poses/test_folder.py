"""Folders as people have them: mixed, linked in circles, with odd names and formats that are not read."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec import AbstractFileSystem

from posedreamer_assets.body.model import load_body
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.folder import Folder
from posedreamer_assets.poses.sources import (
    ReadOptions,
    how_to_convert,
    read_clips,
    read_folder,
    scan_folder,
    unread_lines,
)
from posedreamer_assets_tests.poses.sources.npz_kinds import clip_arrays
from posedreamer_assets_tests.poses.sources.rig_kinds import KINDS, write_kind
from posedreamer_assets_tests.poses.sources.rigs import lively
from posedreamer_assets_tests.poses.sources.test_fits import arrays_of

FORMATS = (".pkl", ".pt", ".fbx", ".c3d", ".trc", ".glb", ".joblib", ".zip", ".amc", ".vmd")


def bvh(path: Path, seed: int = 1) -> Path:
    return write_kind(path, KINDS["motive"], lively(seed=seed))


def test_bvh_and_npz_lie_in_one_folder(tmp_path: Path) -> None:
    bvh(tmp_path / "a.bvh")
    np.savez(tmp_path / "b.npz", **clip_arrays())
    np.savez(tmp_path / "c.npz", **arrays_of())
    clips, errors = read_folder(tmp_path, stride_s=0.1, seed=0)
    assert not errors
    assert [clip.kind for clip in clips] == ["bvh", "amass", "fits"]
    assert all(clip.kind.isalnum() and clip.kind.islower() for clip in clips)


class Hub(AbstractFileSystem):
    """Data sets of a hub as folders; like the hub, it tells no times of change."""

    protocol = "hf"
    cachable = False
    root: Path

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("hf://").rstrip("/")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        place = self.root / self._strip_protocol(path)
        if not place.exists():
            raise FileNotFoundError(path)
        kind = "directory" if place.is_dir() else "file"
        return {"name": place.relative_to(self.root).as_posix(), "type": kind, "size": place.stat().st_size}

    def ls(self, path: str, detail: bool = False, **_: Any) -> list[Any]:
        found = [self.info(f"{self._strip_protocol(path)}/{one.name}") for one in self._at(path).iterdir()]
        return found if detail else [one["name"] for one in found]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return self._at(path).open(mode)

    def _at(self, path: str) -> Path:
        return self.root / self._strip_protocol(path)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    Hub.root = tmp_path / "hub"
    before = fsspec.get_filesystem_class("hf")
    fsspec.register_implementation("hf", Hub, clobber=True)
    yield Hub.root
    fsspec.register_implementation("hf", before, clobber=True)


def test_a_data_set_on_the_hub_is_a_folder(hub: Path) -> None:
    place = hub / "datasets" / "me" / "motion" / "takes"
    place.mkdir(parents=True)
    bvh(place / "a.bvh")
    (place.parent / "LICENSE.txt").write_text("CC0")
    here = Folder(str(hub / "datasets/me/motion"))
    there = Folder("hf://datasets/me/motion")
    assert there.pose_paths() == here.pose_paths() == ["takes/a.bvh"]
    assert there.digest(there.stamps["takes/a.bvh"]) == here.digest(here.stamps["takes/a.bvh"])
    copied = there.local_copy(["takes/a.bvh"])
    assert {file.name: file.read_bytes() for file in copied.rglob("*.*")} == {
        file.name: file.read_bytes() for file in place.parent.rglob("*.*")
    }
    with pytest.raises(PoseFileError, match="no such folder"):
        Folder("hf://datasets/me/nothing").pose_paths()


def test_a_hub_that_does_not_answer_is_one_line(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Hub, "info", refuse)
    with pytest.raises(PoseFileError, match="cannot be listed: ConnectionError: no route to host"):
        Folder("hf://datasets/me/motion").pose_paths()


def test_unreadable_files_are_errors_and_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text("HIERARCHY")
    (tmp_path / "b.npz").write_bytes(b"\x80\x04 a pickle")
    clips, errors = read_folder(tmp_path, stride_s=0.1, seed=0)
    assert not clips
    assert [(error.path, error.reason) for error in errors] == [("a.bvh", "truncated"), ("b.npz", "pickle")]


def test_errors_and_names_have_the_path_below_the_folder(tmp_path: Path) -> None:
    for place in ("a", "b"):  # two files of one name
        (tmp_path / place).mkdir()
        bvh(tmp_path / place / "take.bvh")
    (tmp_path / "b" / "broken.bvh").write_text("HIERARCHY")
    clips, errors = read_folder(tmp_path, stride_s=0.0, seed=0)
    names = [name for clip in clips for name in clip.names]
    assert len(set(names)) == len(names)
    assert {name.split("#")[0] for name in names} == {"a/take.bvh", "b/take.bvh"}
    assert [error.path for error in errors] == ["b/broken.bvh"]


def test_names_that_are_no_utf8_are_listed_read_and_told(tmp_path: Path) -> None:
    whole = bvh(tmp_path / "plain.bvh")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.bvh"))
    try:
        whole.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    folder = Folder(str(tmp_path))
    (path,) = folder.pose_paths()
    assert path == "caf\\xe9.bvh"
    assert len(folder.digest(folder.stamps[path])) == 32
    clips, errors = read_folder(folder.local_copy([path]), stride_s=0.0, seed=0, files=[tmp_path / path])
    assert not errors
    assert clips[0].names[0].startswith("caf\\xe9.bvh#")
    clips[0].names[0].encode()  # can be stored


def test_links_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    bvh(tmp_path / "a" / "x.bvh")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "gone.bvh").symlink_to(tmp_path / "nowhere.bvh")
    (tmp_path / "self.bvh").symlink_to(tmp_path / "self.bvh")
    assert [path.name for path in scan_folder(tmp_path)] == ["x.bvh"]
    assert Folder(str(tmp_path)).pose_paths() == ["a/x.bvh"]


def test_a_single_file_is_a_folder_of_one(tmp_path: Path) -> None:
    bvh(tmp_path / "other.bvh")
    folder = Folder(str(bvh(tmp_path / "clip.bvh")))
    (tmp_path / "LICENSE").write_text("CC0")
    assert folder.pose_paths() == ["clip.bvh"]
    assert [stamp.path for stamp in folder.licences_of(["clip.bvh"])] == ["LICENSE"]
    assert folder.local_copy(["clip.bvh"]) == tmp_path
    assert Folder(folder.root).pose_paths() == ["clip.bvh"]


@pytest.mark.parametrize("name", ["clips.zip", "clips.tar.gz", "clip.fbx", "clip.pkl", "clip.xyz"])
def test_a_single_file_that_is_not_read_says_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PoseFileError) as caught:
        Folder(str(tmp_path / name)).pose_paths()
    assert caught.value.reason == "unknown_layout"
    assert "\n" not in caught.value.detail
    assert ".bvh" in caught.value.detail or how_to_convert(Path(name).suffix) == caught.value.detail


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(PoseFileError, match="no such file or folder"):
        Folder(str(tmp_path / "nowhere")).pose_paths()


def test_shape_files_hidden_files_and_others_are_left_out(tmp_path: Path) -> None:
    for name in ("a.bvh", "b.npy", "c.tar", "neutral_stagei.npz", ".d.bvh", "notes.txt", "LICENSE"):
        (tmp_path / name).write_text("x")
    folder = Folder(str(tmp_path))
    assert sorted(folder.pose_paths()) == ["a.bvh", "b.npy", "c.tar"]
    assert set(folder.stamps) == {"a.bvh", "b.npy", "c.tar", "LICENSE"}


def test_formats_that_are_not_read_are_counted_with_how_to_convert_them(tmp_path: Path) -> None:
    for k, suffix in enumerate(FORMATS):
        for i in range(k + 1):
            (tmp_path / f"{i}{suffix}").write_text("x")
    (tmp_path / "scene.json").write_text("{}")
    found = Folder(str(tmp_path)).unread()
    assert found == {suffix: k + 1 for k, suffix in enumerate(FORMATS)}
    lines = unread_lines(found)
    assert len(lines) == len(FORMATS)
    assert lines[0].startswith("10 files: .vmd is not read: ")
    assert lines[-1].startswith("1 file: .pkl is not read: ")


def test_a_format_that_has_a_reader_is_not_told_to_be_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walk.trc").write_text("x")
    assert Folder(str(tmp_path)).unread() == {".trc": 1}
    monkeypatch.setattr("posedreamer_assets.poses.sources.read.SUFFIXES", (".trc",))
    assert Folder(str(tmp_path)).unread() == {}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_a_format_that_is_not_read_says_how_to_convert_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(PoseFileError) as caught:
        read_clips(path, ReadOptions(0.5, 0, "own", load_body()))
    assert caught.value.reason == "unknown_layout"
    assert caught.value.detail == how_to_convert(suffix)

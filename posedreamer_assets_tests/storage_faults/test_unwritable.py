"""Places that cannot be written or are not there: one line with path and remedy, and on it goes once the cause is gone."""

import errno
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.storage_faults import labelled

KEY = "procedural-0000"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting a small file system is not permitted: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def _write(store: LanceStore, label: str) -> None:
    store.replace_partition(labelled.TABLE, KEY, labelled.rows(KEY, label), input_digest="")


def _writes(store: LanceStore) -> dict[str, Callable[[], Any]]:
    return {
        "rows": lambda: _write(store, "new"),
        "another table": lambda: store.replace_partition(
            "quarantine", KEY, labelled.rows(KEY, "a").select(["sample_id"]), input_digest=""
        ),
        "checkpoint": lambda: labelled.write_checkpoint(store, "dpo", "new"),
        "tag": lambda: store.tag(labelled.TABLE, "x", 1),
    }


def _message(act: Callable[[], Any]) -> str:
    with pytest.raises(StorageError) as error:
        act()
    text = str(error.value)
    assert "\n" not in text and ".rs:" not in text and len(text) < 600
    return text


def _goes_on(store: LanceStore) -> None:
    _write(store, "again")
    labelled.write_checkpoint(store, "dpo", "again")
    tally = labelled.Tally()
    assert labelled.labels(store, tally)[KEY] == "again"
    assert labelled.checkpoint_label(store, "dpo", tally) == "again"
    labelled.damage(store, tally, (labelled.TABLE, "checkpoints"))
    assert tally.clean, tally


def test_a_full_disk_says_so_in_one_line(small_disk: Path) -> None:
    store = LanceStore(small_disk / "store")
    _write(store, "old")
    labelled.write_checkpoint(store, "dpo", "old")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    for name, act in _writes(store).items():
        text = _message(act)
        assert "No space left on device" in text and "free some space and run again" in text, name
    filler.unlink()
    _goes_on(store)


def test_a_disk_that_must_not_be_written_is_read_and_says_so_when_written(small_disk: Path) -> None:
    store = LanceStore(small_disk / "store")
    _write(store, "old")
    labelled.write_checkpoint(store, "dpo", "old")
    _remount(small_disk, "ro")
    try:
        for name, act in _writes(store).items():
            text = _message(act)
            assert "Read-only file system" in text and "--storage" in text and str(small_disk) in text, name
        tally = labelled.Tally()
        assert labelled.labels(LanceStore(store.root), tally) == {KEY: "old"}
        assert labelled.checkpoint_label(LanceStore(store.root), "dpo", tally) == "old"
        new = LanceStore(small_disk / "other")
        assert f"{new.root} could not be made" in _message(lambda: _write(new, "a"))
    finally:
        _remount(small_disk, "rw")
    _goes_on(store)


@pytest.mark.parametrize("which", ["root", "above", "table", "checkpoints", "name"])
def test_a_link_that_leads_nowhere_is_not_taken_for_an_empty_place(tmp_path: Path, which: str) -> None:
    links = {
        "root": tmp_path / "store",
        "above": tmp_path,
        "table": tmp_path / "store" / f"{labelled.TABLE}.lance",
        "checkpoints": tmp_path / "store" / "checkpoints",
        "name": tmp_path / "store" / "checkpoints" / "dpo",
    }
    link, target = links[which], tmp_path / "gone"
    root = tmp_path / "store"
    if which == "above":
        link = tmp_path / "mount"
        root = link / "store"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    store = LanceStore(root)
    acts: list[Callable[[], Any]] = []
    if which in ("root", "above", "table"):
        acts += [
            lambda: _write(store, "a"),
            lambda: store.read(labelled.TABLE, missing_ok=True),
            lambda: store.partitions(labelled.TABLE),
        ]
    if which != "table":
        acts.append(lambda: labelled.write_checkpoint(store, "dpo", "a"))
    for act in acts:
        text = _message(act)
        assert f"{link} is a symbolic link to {target}, which does not exist" in text and "remove the link" in text
    link.unlink()
    _goes_on(store)


def test_a_file_in_place_of_the_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    store = LanceStore(tmp_path / "store")
    acts = _writes(store)
    for act in (acts["rows"], acts["checkpoint"], lambda: store.partitions(labelled.TABLE)):
        text = _message(act)
        assert str(tmp_path / "store") in text and "a file lies where a folder is expected" in text
    (tmp_path / "store").unlink()
    _goes_on(store)


@pytest.mark.parametrize(("number", "raised"), [(errno.ENOSPC, StorageError), (errno.ENOENT, OSError)])
def test_only_what_the_disk_says_is_put_into_other_words(tmp_path: Path, number: int, raised: type[Exception]) -> None:
    def write(folder: Path) -> dict[str, str]:
        raise OSError(number, "while training")

    with pytest.raises(raised, match="while training"):
        LanceStore(tmp_path / "store").write_checkpoint("dpo", "abc", write, input_digest="")

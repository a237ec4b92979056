"""A disk that is full at any moment of a write: an error, the old rows stay, and writing goes on once there is room."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.storage_faults import labelled

KEYS = [f"procedural-{i:04d}" for i in range(3)]
ROOM_KB = (0, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip(f"mounting a small file system is not permitted: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(disk: Path, leave_kb: int) -> Path:
    filler = disk / "filler"
    status = os.statvfs(disk)
    filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - leave_kb * 1024)))
    return filler


def test_a_full_disk_leaves_the_old_rows_at_whatever_moment_it_is_full(small_disk: Path) -> None:
    store = LanceStore(small_disk / "store")
    stored = dict.fromkeys(KEYS[:2], "old")
    for key, label in stored.items():
        store.replace_partition(labelled.TABLE, key, labelled.rows(key, label), input_digest="")
    labelled.write_checkpoint(store, "dpo", "old")
    checkpoint, tally, failures = "old", labelled.Tally(), 0
    for number, room in enumerate(ROOM_KB):
        filler = _fill(small_disk, room)
        for key in (KEYS[0], KEYS[2]):
            try:
                label = f"n{number}"
                store.replace_partition(labelled.TABLE, key, labelled.rows(key, label), input_digest="")
                stored[key] = label
            except StorageError as error:
                assert f"table '{labelled.TABLE}', partition '{key}'" in str(error)
                failures += 1
        try:
            labelled.write_checkpoint(store, "dpo", f"c{number}")
            checkpoint = f"c{number}"
        except (StorageError, OSError):
            failures += 1
        try:
            store.maintain(labelled.TABLE)
        except StorageError:
            failures += 1
        assert labelled.labels(store, tally) == stored
        assert labelled.checkpoint_label(store, "dpo", tally) == checkpoint
        filler.unlink()
    labelled.damage(store, tally, (labelled.TABLE, "checkpoints"))
    assert tally.clean, tally.notes
    assert failures > len(ROOM_KB)
    store.replace_partition(labelled.TABLE, KEYS[0], labelled.rows(KEYS[0], "room again"), input_digest="")
    assert labelled.labels(store, tally)[KEYS[0]] == "room again"


def test_files_that_may_not_grow_leave_the_old_rows(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "store")
    store.replace_partition(labelled.TABLE, KEYS[0], labelled.rows(KEYS[0], "old"), input_digest="")
    code = (
        "import resource, sys\n"
        "from posedreamer_assets.errors import StorageError\n"
        "from posedreamer_assets.storage import LanceStore\n"
        "from posedreamer_assets_tests.storage_faults import labelled\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "try:\n"
        "    rows = labelled.rows(sys.argv[2], 'new')\n"
        "    LanceStore(sys.argv[1]).replace_partition(labelled.TABLE, sys.argv[2], rows, input_digest='')\n"
        "except StorageError as error:\n"
        "    print(error)\n"
        "    sys.exit(3)\n"
    )
    limited = subprocess.run(
        [sys.executable, "-c", code, store.root, KEYS[0]],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert limited.returncode == 3, limited.stderr
    assert "could not write rows" in limited.stdout
    tally = labelled.Tally()
    assert labelled.labels(store, tally) == {KEYS[0]: "old"}
    assert tally.clean

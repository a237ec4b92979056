"""Several writers of one store: of each partition exactly one writer's rows remain, and nobody's are lost."""

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import lance
import pytest
from lance import LanceDataset

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.storage import store as store_module
from posedreamer_assets_tests.storage.stored_rows import KEY, OTHER, TABLE, opened_again, some_rows, stored_captions

# Several writers


def test_a_writer_overtaken_while_writing_a_new_partition_drops_the_other_rows(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace_partition(TABLE, OTHER, some_rows(OTHER), input_digest="")
    write = store_module.write_fragments
    waiting = ["second", "third"]

    def overtaken(*args: Any, **options: Any) -> Any:
        written = write(*args, **options)
        if waiting:  # others write and commit the same new partition before this one commits
            store.replace_partition(TABLE, KEY, some_rows(label=waiting.pop()), input_digest="")
        return written

    monkeypatch.setattr(store_module, "write_fragments", overtaken)
    store.replace_partition(TABLE, KEY, some_rows(label="first"), input_digest="")
    assert stored_captions(store) == [f"first {i}" for i in range(5)]
    assert store.partitions(TABLE)[OTHER].rows == 5


def _write_together(store: LanceStore, monkeypatch: pytest.MonkeyPatch, keys: list[str]) -> None:
    """One writer for each key; all plan their first commit on the same version."""
    together = threading.Barrier(len(keys))
    first = threading.local()
    commit = LanceDataset.commit

    def commit_together(*args: Any, **options: Any) -> LanceDataset:
        if not hasattr(first, "done"):
            first.done = True
            together.wait(30)
        return commit(*args, **options)

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(commit_together))
    failures: list[Exception] = []

    def work(number: int, key: str) -> None:
        try:
            opened_again(store).replace_partition(
                TABLE, key, some_rows(key, label=f"w{number}"), input_digest=f"w{number}"
            )
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number, key)) for number, key in enumerate(keys)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def _store_only(store: LanceStore, keys: list[str]) -> None:
    """Make the table with these partitions, or without any."""
    for key in keys or [KEY]:
        store.replace_partition(TABLE, key, some_rows(key), input_digest="")
    if not keys:
        store.delete_partition(TABLE, KEY)


@pytest.mark.parametrize("stored", [[], [OTHER], [KEY], [KEY, OTHER]], ids=["empty", "new", "alone", "existing"])
def test_of_writers_that_commit_from_one_version_exactly_one_partition_remains(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch, stored: list[str]
) -> None:
    _store_only(store, stored)
    _write_together(store, monkeypatch, [KEY] * 4)
    found = store.read(TABLE, [KEY])
    assert found.num_rows == 5
    assert len(set(found.column("input_digest").to_pylist())) == 1


@pytest.mark.parametrize("stored", [[], [OTHER]], ids=["empty", "new"])
def test_writers_of_different_partitions_that_commit_from_one_version_lose_none(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch, stored: list[str]
) -> None:
    _store_only(store, stored)
    keys = [f"procedural-{i:04d}" for i in range(4)]
    _write_together(store, monkeypatch, keys)
    assert {key: info.rows for key, info in store.partitions(TABLE).items()} == dict.fromkeys([*stored, *keys], 5)


def test_a_commit_that_only_looked_like_a_failure_is_not_made_again(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace_partition(TABLE, OTHER, some_rows(OTHER), input_digest="")
    commit, lost = LanceDataset.commit, []

    def answer_lost(*args: Any, **options: Any) -> LanceDataset:
        done = commit(*args, **options)
        if not lost:
            lost.append(done.version)
            raise OSError("connection closed before message completed")
        return done

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(answer_lost))
    assert store.replace_partition(TABLE, KEY, some_rows(), input_digest="").version == lost[0] == store.version(TABLE)
    assert store.read(TABLE).num_rows == 10


WRITER = """
import sys
from posedreamer_assets.storage import LanceStore
import pyarrow as pa
root, label, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
def some_rows(key):
    ids = [f"{key}/{i:06d}" for i in range(20)]
    images = pa.array([b"x" * 2000] * 20, pa.large_binary())
    return pa.table({"sample_id": ids, "caption": [label] * 20, "image": images})
print("ready", flush=True)
sys.stdin.readline()
for key in keys:
    LanceStore(root).replace_partition("rendered_scenes", key, some_rows(key), input_digest=label)
"""


def _writer(root: str, label: str, keys: list[str], code: str = WRITER) -> subprocess.Popen:
    command = [sys.executable, "-c", code, root, label, *keys]
    repository = Path(__file__).parents[2]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=repository)


def test_processes_that_make_the_same_new_partitions_of_a_new_table_leave_one_of_each(local: LanceStore) -> None:
    keys = [f"procedural-{i:04d}" for i in range(6)]
    writers = [_writer(local.root, f"w{i}", keys) for i in range(4)]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [w.returncode for w in writers] == [0] * 4
    assert {k: p.rows for k, p in local.partitions(TABLE).items()} == dict.fromkeys(keys, 20)
    found = local.read(TABLE, columns=["partition_key", "caption"])
    pairs = set(zip(found.column("partition_key").to_pylist(), found.column("caption").to_pylist(), strict=True))
    assert Counter(key for key, _ in pairs) == dict.fromkeys(keys, 1)


def test_a_killed_writer_leaves_the_old_rows(local: LanceStore) -> None:
    local.replace_partition(TABLE, KEY, some_rows(label="old"), input_digest="")
    dies = "import os\nLanceStore._replace = lambda *args: os._exit(9)\n"  # its data files are written by then
    killed = _writer(local.root, "new", [KEY], WRITER.replace("root, label", dies + "root, label"))
    killed.communicate("go\n", timeout=60)
    assert killed.returncode == 9
    assert stored_captions(local) == [f"old {i}" for i in range(5)]
    local.replace_partition(TABLE, KEY, some_rows(label="next"), input_digest="")
    assert stored_captions(local) == [f"next {i}" for i in range(5)]


def test_rows_stored_twice_are_an_error_rather_than_an_answer(
    local: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.replace_partition(TABLE, KEY, some_rows(), input_digest="")
    lance.write_dataset(lance.dataset(local.uri(TABLE)).to_table(), local.uri(TABLE), mode="append")
    with pytest.raises(StorageError, match=f"partition '{KEY}': sample '{KEY}/000000' is stored twice"):
        local.read(TABLE)
    local.replace_partition(TABLE, KEY, some_rows(label="again"), input_digest="")
    assert stored_captions(local) == [f"again {i}" for i in range(5)]

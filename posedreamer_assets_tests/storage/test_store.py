"""The store: partitions replaced whole, by any number of writers, read back in order.

Every test that takes the fixture `store` runs on a local folder and on an S3 server.
"""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance import LanceDataset
from lance.file import LanceFileSession

from posedreamer_assets.digests import content_digest, row_digests
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets.storage import store as store_module
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import sample_id
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options, running_server

TABLE = "rendered_scenes"
KEY, OTHER = "procedural-0000", "cmu-0017"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_server() as endpoint:
        yield endpoint


@pytest.fixture
def local(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path / "store")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LanceStore:
    if request.param == "local":
        return LanceStore(tmp_path / "store")
    endpoint = request.getfixturevalue("endpoint")
    return LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path / "cache")


def _again(store: LanceStore, cache: Path | None = None) -> LanceStore:
    """The same store, opened anew."""
    return LanceStore(store.root, store.storage_options, cache=cache)


def _dataset(store: LanceStore, version: int | None = None) -> LanceDataset:
    return lance.dataset(store.uri(TABLE), version, storage_options=store.storage_options)


def _changed(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, pa.field(name, values.type), [values])


def _rows(key: str = KEY, n: int = 5, label: str = "a", image_bytes: int = 50) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "sample_id": [sample_id(key, i) for i in range(n)],
            "partition_key": [key] * n,
            "image_id": [sample_id(key, i) for i in range(n)],
            "image": pa.array([rng.bytes(image_bytes) for _ in range(n)], pa.large_binary()),
            "caption": [f"{label} {i}" for i in range(n)],
            "seed": list(range(n)),
            "split": ["train"] * n,
        },
        schema=SCHEMAS[TABLE],
    )


def _captions(store: LanceStore, key: str = KEY) -> list[str]:
    return store.read(TABLE, [key], ["caption"]).column("caption").to_pylist()


# Writing and reading back


def test_rows_read_back_are_those_written_with_bookkeeping(store: LanceStore) -> None:
    rows = _rows()
    info = store.replace_partition(TABLE, KEY, rows, input_digest="inputs")
    found = store.read(TABLE)
    assert found.select(rows.column_names).equals(rows)
    assert found.column("row_digest").to_pylist() == row_digests(rows)
    assert set(found.column("input_digest").to_pylist()) == {"inputs"}
    assert info.content_digest == content_digest(row_digests(rows))
    assert store.partition(TABLE, KEY) == info
    assert store.partitions(TABLE) == {KEY: info}


@pytest.mark.parametrize("table", SCHEMAS)
def test_every_table_takes_rows_of_nulls_and_gives_them_back(store: LanceStore, table: str) -> None:
    row = {f.name: None if f.nullable else "x" for f in SCHEMAS[table]} | {"partition_key": KEY}
    rows = pa.Table.from_pylist([row], schema=SCHEMAS[table])
    store.replace_partition(table, KEY, rows, input_digest="i")
    assert store.read(table, columns=SCHEMAS[table].names).equals(rows)


def test_missing_nullable_columns_and_the_key_are_filled_in(store: LanceStore) -> None:
    store.replace_partition(
        TABLE, KEY, pa.table({"sample_id": ["a"], "seed": pa.array([1], pa.int32())}), input_digest=""
    )
    (row,) = store.read(TABLE, columns=["partition_key", "seed", "image"]).to_pylist()
    assert row == {"partition_key": KEY, "seed": 1, "image": None}


def test_reads_are_ordered_by_sample_id_whatever_was_written_first(store: LanceStore) -> None:
    store.replace_partition(TABLE, KEY, _rows(KEY).take([3, 1, 4, 0, 2]), input_digest="")
    store.replace_partition(TABLE, OTHER, _rows(OTHER), input_digest="")
    store.replace_partition(TABLE, OTHER, _rows(OTHER), input_digest="")
    store.replace_partition(TABLE, KEY, _rows(KEY).take([2, 0, 1]), input_digest="")
    ids = store.read(TABLE, columns=["sample_id"]).column("sample_id").to_pylist()
    assert ids == sorted(ids)
    assert store.read(TABLE, [KEY], ["caption"]).column_names == ["caption"]
    assert _captions(store) == ["a 0", "a 1", "a 2"]


def test_keys_and_filter_select_rows(store: LanceStore) -> None:
    for key in (KEY, OTHER):
        store.replace_partition(TABLE, key, _rows(key), input_digest="")
    assert store.read(TABLE, [KEY], ["seed"], "seed >= 3").column("seed").to_pylist() == [3, 4]
    assert store.read(TABLE, filter="seed = 1 OR seed = 2").num_rows == 4
    assert store.read(TABLE, [KEY], ["seed"], "seed = 0 OR seed = 1").num_rows == 2
    assert store.read(TABLE, []).num_rows == 0


# Replacing


def test_replacing_a_partition_leaves_its_new_rows_and_its_neighbours(store: LanceStore) -> None:
    for key in (KEY, OTHER):
        store.replace_partition(TABLE, key, _rows(key, label="old"), input_digest="1")
    store.replace_partition(TABLE, KEY, _rows(KEY, n=2, label="new"), input_digest="2")
    assert _captions(store) == ["new 0", "new 1"]
    assert _captions(store, OTHER) == [f"old {i}" for i in range(5)]
    assert {k: (p.rows, p.input_digest) for k, p in store.partitions(TABLE).items()} == {KEY: (2, "2"), OTHER: (5, "1")}


def test_replacing_is_one_commit(store: LanceStore) -> None:
    versions = [store.replace_partition(TABLE, KEY, _rows(label=s), input_digest="").version for s in "abc"]
    assert versions == list(range(versions[0], versions[0] + 3))
    for version, label in zip(versions, "abc", strict=True):
        seen = _dataset(store, version).to_table()
        assert sorted(seen.column("caption").to_pylist()) == [f"{label} {i}" for i in range(5)]


def test_writing_the_same_rows_again_changes_nothing_that_is_read(store: LanceStore) -> None:
    first = store.replace_partition(TABLE, KEY, _rows(), input_digest="i")
    before = store.read(TABLE)
    second = store.replace_partition(TABLE, KEY, _rows().take([4, 3, 2, 1, 0]), input_digest="i")
    assert store.read(TABLE).equals(before)
    assert (first.content_digest, first.rows) == (second.content_digest, second.rows)


def test_content_digest_changes_with_any_byte_but_not_with_the_inputs(store: LanceStore) -> None:
    def digest_of(rows: pa.Table, inputs: str = "i") -> str:
        return store.replace_partition(TABLE, KEY, rows, input_digest=inputs).content_digest

    base = digest_of(_rows())
    blobs = _rows().column("image").to_pylist()
    blobs[-1] = blobs[-1][:-1] + b"!"
    changed = _changed(_rows(), "image", pa.array(blobs, pa.large_binary()))
    assert digest_of(_rows(), "other") == base
    assert digest_of(changed) != base


def test_rows_that_share_files_after_compaction_are_still_replaced_alone(store: LanceStore) -> None:
    keys = [f"procedural-{i:04d}" for i in range(4)]
    for key in keys:
        store.replace_partition(TABLE, key, _rows(key), input_digest="")
    assert store.maintain(TABLE).files_after == 1
    store.replace_partition(TABLE, keys[1], _rows(keys[1], n=2, label="new"), input_digest="")
    store.delete_partition(TABLE, keys[2])
    assert {k: p.rows for k, p in store.partitions(TABLE).items()} == {keys[0]: 5, keys[1]: 2, keys[3]: 5}
    assert _captions(store, keys[1]) == ["new 0", "new 1"]


def test_no_rows_and_deleting_both_leave_no_partition(store: LanceStore) -> None:
    store.delete_partition(TABLE, KEY)
    for key in (KEY, OTHER):
        store.replace_partition(TABLE, key, _rows(key), input_digest="")
    info = store.replace_partition(TABLE, KEY, _rows(n=0), input_digest="")
    store.delete_partition(TABLE, OTHER)
    assert info.rows == 0
    assert store.partitions(TABLE) == {}
    assert store.read(TABLE, [KEY], missing_ok=True).num_rows == 0


def test_clean_frees_old_versions_and_keeps_the_rows(store: LanceStore) -> None:
    for label in "abc":
        store.replace_partition(TABLE, KEY, _rows(label=label, image_bytes=10_000), input_digest="")
    assert store.maintain(TABLE).bytes_freed == 0
    assert store.maintain(TABLE, Plan(keep=timedelta(0))).bytes_freed > 2 * 50_000
    assert _captions(store) == [f"c {i}" for i in range(5)]


# Streaming


def _batches(rows: pa.Table, size: int) -> Iterator[pa.RecordBatch]:
    yield from rows.to_batches(max_chunksize=size)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streaming_writes_what_one_table_writes(store: LanceStore, size: int) -> None:
    rows = _rows(n=600)
    whole = store.replace_partition(TABLE, KEY, rows, input_digest="i")
    before = store.read(TABLE)
    streamed = store.replace_partition(TABLE, KEY, _batches(rows, size), input_digest="i")
    assert streamed.content_digest == whole.content_digest
    assert store.read(TABLE).equals(before)


def test_streaming_holds_a_few_batches_at_a_time(local: LanceStore) -> None:
    batches, rows, size = 40, 16, 100_000
    start, most = pa.total_allocated_bytes(), 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for b in range(batches):
            ids = [sample_id(KEY, b * rows + i) for i in range(rows)]
            blobs = pa.array([bytes([b]) * size] * rows, pa.large_binary())
            yield pa.record_batch({"sample_id": ids, "image": blobs})
            del blobs
            most = max(most, pa.total_allocated_bytes() - start)

    local.replace_partition(TABLE, KEY, stream(), input_digest="")
    assert local.partitions(TABLE)[KEY].rows == batches * rows
    assert most < batches * rows * size / 3


def test_an_error_while_streaming_comes_through_and_leaves_the_old_rows(store: LanceStore) -> None:
    store.replace_partition(TABLE, KEY, _rows(label="old"), input_digest="")

    def broken() -> Iterator[pa.RecordBatch]:
        yield from _rows(label="new").to_batches()
        raise LookupError("the generator's own error")

    with pytest.raises(LookupError, match="the generator's own error"):
        store.replace_partition(TABLE, KEY, broken(), input_digest="")
    assert _captions(store) == [f"old {i}" for i in range(5)]


# Errors


def _with(column: str, values: list) -> pa.Table:
    rows = _rows(n=len(values))
    return rows.set_column(rows.column_names.index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (_rows(OTHER), f"table '{TABLE}', partition '{KEY}': given rows of partition '{OTHER}'"),
        (_with("sample_id", ["a", "b", "a"]), "sample 'a' is given twice"),
        (_with("sample_id", ["a", None]), "column 'sample_id' has 1 nulls"),
        (_with("seed", ["one", "two"]), "column 'seed' has type string, expected int64"),
        (_rows().append_column("colour", [["red"] * 5]), "unknown column 'colour'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(store: LanceStore, rows: pa.Table, text: str) -> None:
    with pytest.raises(StorageError) as error:
        store.replace_partition(TABLE, KEY, rows, input_digest="")
    assert text in str(error.value)
    assert store.partitions(TABLE) == {}


@pytest.mark.parametrize(
    ("act", "texts"),
    [
        (lambda s: s.read("dataset"), ["table 'dataset' does not exist"]),
        (lambda s: s.read("dataset", [KEY]), ["'dataset'", f"'{KEY}'"]),
        (lambda s: s.read(TABLE, [KEY, OTHER]), [f"table '{TABLE}', version 2", f"no partition '{OTHER}'"]),
        (lambda s: s.read(TABLE, columns=["sample_id", "pixels"]), ["no column 'pixels'", "known: sample_id"]),
        (lambda s: s.read(TABLE, filter="pixels > 1"), [f"table '{TABLE}', version 2", "pixels > 1"]),
        (lambda s: s.read("scenes"), ["unknown table 'scenes'", "pose_library"]),
        (lambda s: s.partitions("scenes"), ["unknown table 'scenes'"]),
        (lambda s: s.read(TABLE, ["x' OR '1'='1"]), ["bad partition key"]),
        (
            lambda s: s.replace_partition(TABLE, "no number", _rows(), input_digest=""),
            ["bad partition key 'no number'"],
        ),
        (lambda s: s.delete_partition(TABLE, "A-0000"), ["bad partition key 'A-0000'"]),
        (lambda s: s.maintain("dataset"), ["table 'dataset' does not exist"]),
    ],
)
def test_errors_name_table_version_and_partition(
    store: LanceStore, act: Callable[[LanceStore], object], texts: list[str]
) -> None:
    store.replace_partition(TABLE, KEY, _rows(), input_digest="")
    with pytest.raises(StorageError) as error:
        act(store)
    assert all(text in str(error.value) for text in texts), error.value


def test_a_table_never_written_has_no_partitions(store: LanceStore) -> None:
    assert store.partitions(TABLE) == {}
    assert store.partition(TABLE, KEY) is None
    assert store.read(TABLE, missing_ok=True).schema.names[:2] == ["sample_id", "partition_key"]


def test_a_table_of_another_schema_is_refused_by_column(local: LanceStore, tmp_path: Path) -> None:
    stored = _changed(_rows(), "seed", pa.array(["1"] * 5))
    lance.write_dataset(stored, local.uri(TABLE))
    with pytest.raises(StorageError, match="column 'seed' is stored as string, this release has int64"):
        local.replace_partition(TABLE, KEY, _rows(), input_digest="")


def test_a_damaged_table_is_not_taken_for_an_absent_one(local: LanceStore) -> None:
    local.replace_partition(TABLE, KEY, _rows(), input_digest="")
    for manifest in (Path(local.uri(TABLE)) / "_versions").iterdir():
        manifest.write_bytes(b"not a manifest")
    with pytest.raises(StorageError, match="could not be opened"):
        local.partitions(TABLE)


# Several writers


def test_a_writer_overtaken_while_writing_a_new_partition_drops_the_other_rows(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace_partition(TABLE, OTHER, _rows(OTHER), input_digest="")
    write = store_module.write_fragments
    waiting = ["second", "third"]

    def overtaken(*args: Any, **options: Any) -> Any:
        written = write(*args, **options)
        if waiting:  # others write and commit the same new partition before this one commits
            store.replace_partition(TABLE, KEY, _rows(label=waiting.pop()), input_digest="")
        return written

    monkeypatch.setattr(store_module, "write_fragments", overtaken)
    store.replace_partition(TABLE, KEY, _rows(label="first"), input_digest="")
    assert _captions(store) == [f"first {i}" for i in range(5)]
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
            _again(store).replace_partition(TABLE, key, _rows(key, label=f"w{number}"), input_digest=f"w{number}")
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
        store.replace_partition(TABLE, key, _rows(key), input_digest="")
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
    store.replace_partition(TABLE, OTHER, _rows(OTHER), input_digest="")
    commit, lost = LanceDataset.commit, []

    def answer_lost(*args: Any, **options: Any) -> LanceDataset:
        done = commit(*args, **options)
        if not lost:
            lost.append(done.version)
            raise OSError("connection closed before message completed")
        return done

    monkeypatch.setattr(LanceDataset, "commit", staticmethod(answer_lost))
    assert store.replace_partition(TABLE, KEY, _rows(), input_digest="").version == lost[0] == store.version(TABLE)
    assert store.read(TABLE).num_rows == 10


WRITER = """
import sys
from posedreamer_assets.storage import LanceStore
import pyarrow as pa
root, label, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
def rows(key):
    ids = [f"{key}/{i:06d}" for i in range(20)]
    images = pa.array([b"x" * 2000] * 20, pa.large_binary())
    return pa.table({"sample_id": ids, "caption": [label] * 20, "image": images})
print("ready", flush=True)
sys.stdin.readline()
for key in keys:
    LanceStore(root).replace_partition("rendered_scenes", key, rows(key), input_digest=label)
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
    local.replace_partition(TABLE, KEY, _rows(label="old"), input_digest="")
    dies = "import os\nLanceStore._replace = lambda *args: os._exit(9)\n"  # its data files are written by then
    killed = _writer(local.root, "new", [KEY], WRITER.replace("root, label", dies + "root, label"))
    killed.communicate("go\n", timeout=60)
    assert killed.returncode == 9
    assert _captions(local) == [f"old {i}" for i in range(5)]
    local.replace_partition(TABLE, KEY, _rows(label="next"), input_digest="")
    assert _captions(local) == [f"next {i}" for i in range(5)]


def test_rows_stored_twice_are_an_error_rather_than_an_answer(
    local: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.replace_partition(TABLE, KEY, _rows(), input_digest="")
    lance.write_dataset(lance.dataset(local.uri(TABLE)).to_table(), local.uri(TABLE), mode="append")
    with pytest.raises(StorageError, match=f"partition '{KEY}': sample '{KEY}/000000' is stored twice"):
        local.read(TABLE)
    local.replace_partition(TABLE, KEY, _rows(label="again"), input_digest="")
    assert _captions(local) == [f"again {i}" for i in range(5)]


# Checkpoints


def _writes(text: str, **metrics: float) -> Callable[[Path], dict[str, float]]:
    def write(folder: Path) -> dict[str, float]:
        (folder / "weights").mkdir()
        (folder / "weights" / "w.txt").write_text(text)
        return metrics

    return write


def test_a_checkpoint_is_read_back_as_written(store: LanceStore) -> None:
    written = store.write_checkpoint("dpo_checkpoint", "abc", _writes("w", loss=0.5), input_digest="in")
    assert store.checkpoint("dpo_checkpoint") == written
    assert (written.digest, written.metrics, written.input_digest) == ("abc", {"loss": 0.5}, "in")
    assert (written.path / "weights" / "w.txt").read_text() == "w"
    assert store.checkpoint("other") is None


def test_a_newer_checkpoint_replaces_the_row_and_leaves_the_older_files(local: LanceStore) -> None:
    old = local.write_checkpoint("dpo", "abc", _writes("old"), input_digest="")
    new = local.write_checkpoint("dpo", "abc", _writes("new"), input_digest="")
    assert local.checkpoint("dpo") == new
    assert (old.path / "weights" / "w.txt").read_text() == "old"
    assert local.read("checkpoints").num_rows == 1


def test_writing_the_same_checkpoint_again_reuses_its_folder(store: LanceStore) -> None:
    first = store.write_checkpoint("dpo", "abc", _writes("w"), input_digest="")
    second = store.write_checkpoint("dpo", "abc", _writes("w"), input_digest="")
    assert first == second
    assert [p.name for p in first.path.parent.iterdir()] == [first.path.name]


def test_a_failed_checkpoint_leaves_the_former_one_and_no_files(store: LanceStore) -> None:
    first = store.write_checkpoint("dpo", "abc", _writes("w"), input_digest="")

    def broken(folder: Path) -> dict[str, float]:
        (folder / "half").write_text("x")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.write_checkpoint("dpo", "def", broken, input_digest="")
    with pytest.raises(StorageError, match="nothing was written"):
        store.write_checkpoint("dpo", "def", lambda folder: {}, input_digest="")
    assert store.checkpoint("dpo") == first
    assert [p.name for p in first.path.parent.iterdir()] == [first.path.name]


def test_a_moved_store_still_finds_its_checkpoints(local: LanceStore, tmp_path: Path) -> None:
    local.write_checkpoint("dpo", "abc", _writes("w"), input_digest="")
    Path(local.root).rename(tmp_path / "moved")
    found = LanceStore(tmp_path / "moved").checkpoint("dpo")
    assert found is not None and found.path.is_relative_to(tmp_path / "moved")


def test_checkpoint_errors_name_what_is_wrong(store: LanceStore) -> None:
    with pytest.raises(StorageError, match="bad checkpoint name 'My Model'"):
        store.write_checkpoint("My Model", "abc", _writes("w"), input_digest="")


def test_missing_files_of_a_local_checkpoint_are_an_error(local: LanceStore) -> None:
    gone = local.write_checkpoint("dpo", "abc", _writes("w"), input_digest="")
    gone.path.rename(gone.path.parent / "elsewhere")
    with pytest.raises(StorageError, match=r"its files .* are gone"):
        local.checkpoint("dpo")


def test_a_checkpoint_is_fetched_by_other_machines_and_verified(endpoint: str, tmp_path: Path) -> None:
    maker = LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path / "maker")
    written = maker.write_checkpoint("dpo", "abc", _writes("w", loss=0.5), input_digest="")
    found = _again(maker, tmp_path / "other").checkpoint("dpo")
    assert found is not None and found == written
    assert not (tmp_path / "other").exists()  # nothing is fetched before its files are asked for
    assert (found.path / "weights" / "w.txt").read_text() == "w"
    assert found.path.is_relative_to(tmp_path / "other")

    session = LanceFileSession(maker.root, storage_options=maker.storage_options)
    other = tmp_path / "other.txt"
    other.write_text("x")
    session.upload_file(other, f"{written.place}/weights/w.txt")
    damaged = _again(maker, tmp_path / "third").checkpoint("dpo")
    assert damaged is not None
    with pytest.raises(StorageError, match=rf"{written.place} have the digest .* damaged or missing"):
        _ = damaged.path
    session.delete_file(f"{written.place}/weights/w.txt")
    with pytest.raises(StorageError, match=rf"its files {maker.root}/{written.place} are gone"):
        _ = damaged.path
    assert [*(tmp_path / "third" / "checkpoints" / "dpo").iterdir()] == []


def test_an_object_store_that_cannot_be_reached_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    nowhere = {**options("http://127.0.0.1:9"), "client_max_retries": "0", "client_retry_timeout": "1"}
    store = LanceStore("s3://bucket/prefix", nowhere, cache=tmp_path)
    with pytest.raises(StorageError, match=r"table 'dataset'.*s3://bucket/prefix/dataset.lance could not be opened"):
        store.partitions("dataset")
    with pytest.raises(StorageError, match="could not upload s3://bucket/prefix/checkpoints/dpo/abc-"):
        store.write_checkpoint("dpo", "abc", _writes("w"), input_digest="")


# Tags


def test_a_tagged_version_survives_cleaning_and_is_read_by_its_tag(store: LanceStore) -> None:
    first = store.replace_partition(TABLE, KEY, _rows(label="first"), input_digest="")
    store.tag(TABLE, "release-1", first.version)
    for label in "ab":
        store.replace_partition(TABLE, KEY, _rows(label=label), input_digest="")
    assert store.maintain(TABLE, Plan(keep=timedelta(0))).versions_removed > 0
    assert store.tags(TABLE) == {"release-1": first.version}
    assert store.read(TABLE, version="release-1").column("caption").to_pylist()[0] == "first 0"
    assert _captions(store) == [f"b {i}" for i in range(5)]
    store.tag(TABLE, "release-1", store.version(TABLE) or 0)
    assert store.tags(TABLE) == {"release-1": store.version(TABLE)}


def test_a_checkpoint_tags_what_it_was_made_from_before_it_is_made(store: LanceStore) -> None:
    read = store.replace_partition(TABLE, KEY, _rows(), input_digest="").version
    seen: list[dict[str, int]] = []

    def write(folder: Path) -> dict[str, float]:
        seen.append(store.tags(TABLE))
        return _writes("w")(folder)

    store.write_checkpoint("dpo", "0123456789abcdef", write, input_digest="", reads={TABLE: read})
    assert seen == [{"dpo-0123456789ab": read}]


@pytest.mark.parametrize(("name", "version"), [("bad name", 1), ("good", 99)])
def test_a_tag_that_cannot_be_made_is_an_error(store: LanceStore, name: str, version: int) -> None:
    store.replace_partition(TABLE, KEY, _rows(), input_digest="")
    with pytest.raises(StorageError, match=f"table '{TABLE}', version {version}: could not be tagged '{name}'"):
        store.tag(TABLE, name, version)

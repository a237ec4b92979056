"""Streams, samples by id and versions give what a whole read gives, on a folder and on S3."""

import random
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore, Plan, reading
from posedreamer_assets.tables.keys import sample_id
from posedreamer_assets_tests.storage_faults.labelled import TABLE, row_count, rows
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options

KEYS = [f"procedural-{i:04d}" for i in (3, 0, 2, 1)]


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LanceStore:
    """Four partitions, written out of order; one merged and replaced since, so that a file has deleted rows."""
    if request.param == "local":
        store = LanceStore(tmp_path / "store")
    else:
        endpoint = request.getfixturevalue("endpoint")
        store = LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path / "cache")
    for key in KEYS:
        store.replace_partition(TABLE, key, rows(key, "a"), input_digest="")
    store.maintain(TABLE)
    store.replace_partition(TABLE, KEYS[2], rows(KEYS[2], "b"), input_digest="")
    return store


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("keys", "columns", "condition"),
    [
        (None, None, None),
        (KEYS[:2], ["caption", "image"], None),
        (None, ["seed"], "caption = 'b' OR sample_id LIKE '%5'"),
        ([], None, None),
        (None, None, "caption = 'nothing'"),
    ],
)
def test_batches_are_a_read_cut_in_pieces(
    store: LanceStore, keys: list[str] | None, columns: list[str] | None, condition: str | None, size: int
) -> None:
    whole = store.read(TABLE, keys, columns, condition)
    found = list(store.batches(TABLE, keys, columns, condition, rows=size))
    assert pa.concat_tables([whole.slice(0, 0), *found]).equals(whole)
    assert [t.num_rows for t in found[:-1]] == [size] * (len(found) - 1) and all(t.num_rows for t in found)


def test_batches_stay_with_the_version_that_was_the_newest(store: LanceStore) -> None:
    whole = store.read(TABLE)
    stream = store.batches(TABLE, rows=10)
    first = next(stream)
    for key in KEYS:
        store.replace_partition(TABLE, key, rows(key, "late"), input_digest="")
    assert pa.concat_tables([first, *stream]).equals(whole)


def test_batches_hold_few_rows_at_a_time(tmp_path: Path) -> None:
    store, size, count = LanceStore(tmp_path / "large"), 100_000, 200
    for key in KEYS[:2]:
        ids = [sample_id(key, i) for i in range(count)]
        images = pa.array([random.Random(name).randbytes(size) for name in ids], pa.large_binary())
        store.replace_partition(TABLE, key, pa.table({"sample_id": ids, "image": images}), input_digest="")
        del images
    start, most, seen = pa.total_allocated_bytes(), 0, 0
    for part in store.batches(TABLE, columns=["image"], rows=16):
        seen += part.num_rows
        most = max(most, pa.total_allocated_bytes() - start)
    assert seen == 2 * count and most < 2 * count * size / 4


def test_what_is_wrong_with_a_question_is_said_at_once(store: LanceStore) -> None:
    with pytest.raises(StorageError, match="no column 'pixels'"):
        store.batches(TABLE, columns=["pixels"])
    with pytest.raises(StorageError, match="no partition 'cmu-0000'"):
        store.batches(TABLE, ["cmu-0000"])
    with pytest.raises(StorageError, match="table 'dataset' does not exist"):
        store.batches("dataset")
    assert list(store.batches(TABLE, ["cmu-0000"], missing_ok=True)) == []
    assert list(store.batches("dataset", missing_ok=True)) == []


@pytest.mark.parametrize("most_ids", [3, 1000])
def test_samples_are_taken_in_the_order_asked_for(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch, most_ids: int
) -> None:
    monkeypatch.setattr(reading, "MOST_IDS", most_ids)
    whole = store.read(TABLE)
    present = whole["sample_id"].to_pylist()
    ids = random.Random(0).choices(present, k=30)
    found = store.take(TABLE, ids, ["image", "sample_id", "row_digest"])
    wanted = whole.take([present.index(name) for name in ids]).select(["image", "sample_id", "row_digest"])
    assert found.equals(wanted)
    assert store.take(TABLE, ids, ["seed"]).column_names == ["seed"]
    odd = ["x' OR '1'='1", *ids[:4], f"{KEYS[0]}/999999"]
    with pytest.raises(StorageError, match=r'no sample "x\' OR'):
        store.take(TABLE, odd)
    assert store.take(TABLE, odd, ["sample_id"], missing_ok=True)["sample_id"].to_pylist() == ids[:4]
    assert store.take(TABLE, []).num_rows == 0


def test_every_reader_reads_the_version_that_it_names(store: LanceStore) -> None:
    version = store.version(TABLE)
    assert version is not None
    before, listed = store.read(TABLE), store.partitions(TABLE)
    store.replace_partition(TABLE, KEYS[0], rows(KEYS[0], "longer label"), input_digest="")
    store.delete_partition(TABLE, KEYS[1])
    store.tag(TABLE, "then", version)
    for name in (version, "then"):
        assert store.read(TABLE, version=name).equals(before)
        assert pa.concat_tables(store.batches(TABLE, version=name, rows=13)).equals(before)
        assert store.take(TABLE, [f"{KEYS[1]}/000003"], version=name).num_rows == 1
        assert store.partitions(TABLE, version=name) == listed
        assert store.partition(TABLE, KEYS[1], version=name) == listed[KEYS[1]]
        assert store.read(TABLE, [KEYS[1], "cmu-0000"], missing_ok=True, version=name).num_rows == row_count("a")
        with pytest.raises(StorageError, match=f"version {version}: no partition 'cmu-0000'"):
            store.read(TABLE, ["cmu-0000"], version=name)
    store.maintain(TABLE, Plan(keep=timedelta(0)))
    assert store.partitions(TABLE, version="then") == listed


def test_version_0_is_the_table_before_it_was_written(store: LanceStore) -> None:
    assert store.partitions(TABLE, version=0) == {}
    assert store.read(TABLE, version=0, missing_ok=True).num_rows == 0
    with pytest.raises(StorageError, match=f"table '{TABLE}' does not exist"):
        store.read(TABLE, version=0)


def test_ids_of_all_kinds_keep_the_order_of_a_read(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "store")
    drawn = random.Random(1)
    for key in ("a-0000", "a-0000-1-0000", "b-0000"):
        ids = sorted({f"{key}/{drawn.randrange(10**6):06d}" for _ in range(50)}, key=lambda _: drawn.random())
        store.replace_partition(TABLE, key, pa.table({"sample_id": ids}), input_digest="")
    found = pa.concat_tables(store.batches(TABLE, columns=["sample_id"], rows=11))["sample_id"].to_pylist()
    assert found == sorted(found) and len(found) == store.read(TABLE).num_rows

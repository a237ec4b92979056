"""The store: partitions replaced whole and read back in order.

Every test that takes the fixture `store` runs on a local folder and on an S3 server.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from posedreamer_assets.digests import content_digest, row_digests
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import sample_id
from posedreamer_assets_tests.storage.stored_rows import (
    KEY,
    OTHER,
    TABLE,
    dataset_of,
    some_rows,
    stored_captions,
    with_values,
)

# Writing and reading back


def test_rows_read_back_are_those_written_with_bookkeeping(store: LanceStore) -> None:
    rows = some_rows()
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
    store.replace_partition(TABLE, KEY, some_rows(KEY).take([3, 1, 4, 0, 2]), input_digest="")
    store.replace_partition(TABLE, OTHER, some_rows(OTHER), input_digest="")
    store.replace_partition(TABLE, OTHER, some_rows(OTHER), input_digest="")
    store.replace_partition(TABLE, KEY, some_rows(KEY).take([2, 0, 1]), input_digest="")
    ids = store.read(TABLE, columns=["sample_id"]).column("sample_id").to_pylist()
    assert ids == sorted(ids)
    assert store.read(TABLE, [KEY], ["caption"]).column_names == ["caption"]
    assert stored_captions(store) == ["a 0", "a 1", "a 2"]


def test_keys_and_filter_select_rows(store: LanceStore) -> None:
    for key in (KEY, OTHER):
        store.replace_partition(TABLE, key, some_rows(key), input_digest="")
    assert store.read(TABLE, [KEY], ["seed"], "seed >= 3").column("seed").to_pylist() == [3, 4]
    assert store.read(TABLE, filter="seed = 1 OR seed = 2").num_rows == 4
    assert store.read(TABLE, [KEY], ["seed"], "seed = 0 OR seed = 1").num_rows == 2
    assert store.read(TABLE, []).num_rows == 0


# Replacing


def test_replacing_a_partition_leaves_its_new_rows_and_its_neighbours(store: LanceStore) -> None:
    for key in (KEY, OTHER):
        store.replace_partition(TABLE, key, some_rows(key, label="old"), input_digest="1")
    store.replace_partition(TABLE, KEY, some_rows(KEY, n=2, label="new"), input_digest="2")
    assert stored_captions(store) == ["new 0", "new 1"]
    assert stored_captions(store, OTHER) == [f"old {i}" for i in range(5)]
    assert {k: (p.rows, p.input_digest) for k, p in store.partitions(TABLE).items()} == {KEY: (2, "2"), OTHER: (5, "1")}


def test_replacing_is_one_commit(store: LanceStore) -> None:
    versions = [store.replace_partition(TABLE, KEY, some_rows(label=s), input_digest="").version for s in "abc"]
    assert versions == list(range(versions[0], versions[0] + 3))
    for version, label in zip(versions, "abc", strict=True):
        seen = dataset_of(store, version).to_table()
        assert sorted(seen.column("caption").to_pylist()) == [f"{label} {i}" for i in range(5)]


def test_writing_the_same_rows_again_changes_nothing_that_is_read(store: LanceStore) -> None:
    first = store.replace_partition(TABLE, KEY, some_rows(), input_digest="i")
    before = store.read(TABLE)
    second = store.replace_partition(TABLE, KEY, some_rows().take([4, 3, 2, 1, 0]), input_digest="i")
    assert store.read(TABLE).equals(before)
    assert (first.content_digest, first.rows) == (second.content_digest, second.rows)


def test_content_digest_changes_with_any_byte_but_not_with_the_inputs(store: LanceStore) -> None:
    def digest_of(rows: pa.Table, inputs: str = "i") -> str:
        return store.replace_partition(TABLE, KEY, rows, input_digest=inputs).content_digest

    base = digest_of(some_rows())
    blobs = some_rows().column("image").to_pylist()
    blobs[-1] = blobs[-1][:-1] + b"!"
    changed = with_values(some_rows(), "image", pa.array(blobs, pa.large_binary()))
    assert digest_of(some_rows(), "other") == base
    assert digest_of(changed) != base


def test_rows_that_share_files_after_compaction_are_still_replaced_alone(store: LanceStore) -> None:
    keys = [f"procedural-{i:04d}" for i in range(4)]
    for key in keys:
        store.replace_partition(TABLE, key, some_rows(key), input_digest="")
    assert store.maintain(TABLE).files_after == 1
    store.replace_partition(TABLE, keys[1], some_rows(keys[1], n=2, label="new"), input_digest="")
    store.delete_partition(TABLE, keys[2])
    assert {k: p.rows for k, p in store.partitions(TABLE).items()} == {keys[0]: 5, keys[1]: 2, keys[3]: 5}
    assert stored_captions(store, keys[1]) == ["new 0", "new 1"]


def test_no_rows_and_deleting_both_leave_no_partition(store: LanceStore) -> None:
    store.delete_partition(TABLE, KEY)
    for key in (KEY, OTHER):
        store.replace_partition(TABLE, key, some_rows(key), input_digest="")
    info = store.replace_partition(TABLE, KEY, some_rows(n=0), input_digest="")
    store.delete_partition(TABLE, OTHER)
    assert info.rows == 0
    assert store.partitions(TABLE) == {}
    assert store.read(TABLE, [KEY], missing_ok=True).num_rows == 0


def test_clean_frees_old_versions_and_keeps_the_rows(store: LanceStore) -> None:
    for label in "abc":
        store.replace_partition(TABLE, KEY, some_rows(label=label, image_bytes=10_000), input_digest="")
    assert store.maintain(TABLE).bytes_freed == 0
    assert store.maintain(TABLE, Plan(keep=timedelta(0))).bytes_freed > 2 * 50_000
    assert stored_captions(store) == [f"c {i}" for i in range(5)]


# Streaming


def _batches(rows: pa.Table, size: int) -> Iterator[pa.RecordBatch]:
    yield from rows.to_batches(max_chunksize=size)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streaming_writes_what_one_table_writes(store: LanceStore, size: int) -> None:
    rows = some_rows(n=600)
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
    store.replace_partition(TABLE, KEY, some_rows(label="old"), input_digest="")

    def broken() -> Iterator[pa.RecordBatch]:
        yield from some_rows(label="new").to_batches()
        raise LookupError("the generator's own error")

    with pytest.raises(LookupError, match="the generator's own error"):
        store.replace_partition(TABLE, KEY, broken(), input_digest="")
    assert stored_captions(store) == [f"old {i}" for i in range(5)]


# Errors


def _with(column: str, values: list) -> pa.Table:
    rows = some_rows(n=len(values))
    return rows.set_column(rows.column_names.index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (some_rows(OTHER), f"table '{TABLE}', partition '{KEY}': given rows of partition '{OTHER}'"),
        (_with("sample_id", ["a", "b", "a"]), "sample 'a' is given twice"),
        (_with("sample_id", ["a", None]), "column 'sample_id' has 1 nulls"),
        (_with("seed", ["one", "two"]), "column 'seed' has type string, expected int64"),
        (some_rows().append_column("colour", [["red"] * 5]), "unknown column 'colour'"),
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
            lambda s: s.replace_partition(TABLE, "no number", some_rows(), input_digest=""),
            ["bad partition key 'no number'"],
        ),
        (lambda s: s.delete_partition(TABLE, "A-0000"), ["bad partition key 'A-0000'"]),
        (lambda s: s.maintain("dataset"), ["table 'dataset' does not exist"]),
    ],
)
def test_errors_name_table_version_and_partition(
    store: LanceStore, act: Callable[[LanceStore], object], texts: list[str]
) -> None:
    store.replace_partition(TABLE, KEY, some_rows(), input_digest="")
    with pytest.raises(StorageError) as error:
        act(store)
    assert all(text in str(error.value) for text in texts), error.value


def test_a_table_never_written_has_no_partitions(store: LanceStore) -> None:
    assert store.partitions(TABLE) == {}
    assert store.partition(TABLE, KEY) is None
    assert store.read(TABLE, missing_ok=True).schema.names[:2] == ["sample_id", "partition_key"]


def test_a_table_of_another_schema_is_refused_by_column(local: LanceStore, tmp_path: Path) -> None:
    stored = with_values(some_rows(), "seed", pa.array(["1"] * 5))
    lance.write_dataset(stored, local.uri(TABLE))
    with pytest.raises(StorageError, match="column 'seed' is stored as string, this release has int64"):
        local.replace_partition(TABLE, KEY, some_rows(), input_digest="")


def test_a_damaged_table_is_not_taken_for_an_absent_one(local: LanceStore) -> None:
    local.replace_partition(TABLE, KEY, some_rows(), input_digest="")
    for manifest in (Path(local.uri(TABLE)) / "_versions").iterdir():
        manifest.write_bytes(b"not a manifest")
    with pytest.raises(StorageError, match="could not be opened"):
        local.partitions(TABLE)

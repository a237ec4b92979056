"""Upkeep: fewer files along partitions, the same rows, and no writer or reader harmed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lance.dataset import DatasetOptimizer

from posedreamer_assets.digests import content_digest
from posedreamer_assets.storage import LanceStore, PartitionInfo, Plan
from posedreamer_assets.storage import stored as stored_module
from posedreamer_assets.storage.listing import Listing
from posedreamer_assets.storage.reading import Version
from posedreamer_assets_tests.storage_faults.labelled import TABLE, Tally, labels, row_count, rows

KEYS = [f"procedural-{i:04d}" for i in range(8)]
EAGER = Plan(keep=timedelta(0))


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path / "store")


def _write(store: LanceStore, key: str, label: str) -> None:
    store.replace_partition(TABLE, key, rows(key, label), input_digest=label)


def _files_of_partitions(store: LanceStore) -> dict[str, set[int]]:
    """The fragments that hold rows of each partition."""
    found = lance.dataset(store.uri(TABLE)).scanner(columns=["partition_key"], with_row_address=True).to_table()
    pairs = zip(found["partition_key"].to_pylist(), found["_rowaddr"].to_pylist(), strict=True)
    where: dict[str, set[int]] = {}
    for key, address in pairs:
        where.setdefault(key, set()).add(address >> 32)
    return where


def _read_all(store: LanceStore) -> dict[str, PartitionInfo]:
    """The partitions, from every row of the newest version."""
    found = store.read(TABLE, columns=["partition_key", "row_digest", "input_digest"]).to_pylist()
    version = store.version(TABLE)
    assert version is not None
    infos = {}
    for key in sorted({row["partition_key"] for row in found}):
        own = [row for row in found if row["partition_key"] == key]
        content = content_digest(row["row_digest"] for row in own)
        infos[key] = PartitionInfo(key, len(own), own[0]["input_digest"], content, version)
    return infos


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(["write", "delete", "maintain"])), max_size=20),
    st.integers(20, 120),
)
def test_upkeep_at_any_time_changes_no_row_and_cuts_no_partition(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]], rows_per_file: int
) -> None:
    store, wanted = LanceStore(tmp_path_factory.mktemp("store")), dict.fromkeys(KEYS[:3], "first")
    plan = Plan(rows=rows_per_file, index_from=60, keep=timedelta(0))
    for key in wanted:
        _write(store, key, "first")
    for number, (key, step) in enumerate([*steps, (KEYS[0], "maintain")]):
        if step == "write":
            wanted[key] = f"n{number}"
            _write(store, key, wanted[key])
        elif step == "delete":
            store.delete_partition(TABLE, key)
            wanted.pop(key, None)
        else:
            store.maintain(TABLE, plan)
        assert store.partitions(TABLE) == _read_all(store)
    tally = Tally()
    assert labels(store, tally) == wanted
    assert tally.clean, tally.notes
    assert all(len(fragments) == 1 for fragments in _files_of_partitions(store).values())
    assert {key: info.rows for key, info in store.partitions(TABLE).items()} == {
        k: row_count(v) for k, v in wanted.items()
    }
    assert list(store.verify(TABLE)) == []


def test_files_are_merged_up_to_the_plan_and_rewritten_without_dead_rows(store: LanceStore) -> None:
    for key in KEYS:
        _write(store, key, "x")
    size = row_count("x")
    done = store.maintain(TABLE, Plan(rows=4 * size))
    assert (done.files_before, done.files_after, done.postponed) == (8, 2, 0)
    store.delete_partition(TABLE, KEYS[0])
    store.maintain(TABLE, Plan(rows=4 * size, dead_share=0.2))
    assert sorted(f.physical_rows for f in lance.dataset(store.uri(TABLE)).get_fragments()) == [3 * size, 4 * size]
    assert store.groups_to_merge(TABLE, Plan(rows=4 * size)) == []


def test_a_write_that_began_before_upkeep_and_cleaning_commits(store: LanceStore) -> None:
    """The version it started from and the files it was to replace are gone by the time it commits."""
    for key in KEYS[:4]:
        _write(store, key, "old")
    _write(store, KEYS[3], "older")
    before = store.version(TABLE)

    def stream(key: str, label: str) -> Iterator[pa.RecordBatch]:
        first, *others = rows(key, label).to_batches(max_chunksize=5)
        yield first
        assert store.maintain(TABLE, EAGER).versions_removed > 0
        with pytest.raises(ValueError, match="not found"):
            lance.dataset(store.uri(TABLE), before)
        yield from others

    store.replace_partition(TABLE, KEYS[0], stream(KEYS[0], "new"), input_digest="")
    before = store.version(TABLE)
    store.replace_partition(TABLE, KEYS[7], stream(KEYS[7], "new"), input_digest="")
    tally = Tally()
    wanted = {KEYS[0]: "new", KEYS[1]: "old", KEYS[2]: "old", KEYS[3]: "older", KEYS[7]: "new"}
    assert labels(store, tally) == wanted and tally.clean, tally.notes
    assert list(store.verify(TABLE)) == []


def test_a_writer_that_comes_between_postpones_the_merge_and_keeps_its_rows(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in KEYS[:4]:
        _write(store, key, "old")
    compact = DatasetOptimizer.compact_files

    def overtaken(self: DatasetOptimizer, **given: object) -> object:
        _write(store, KEYS[1], "new")
        return compact(self, **given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(DatasetOptimizer, "compact_files", overtaken)
    assert store.maintain(TABLE).postponed == 1
    tally = Tally()
    assert labels(store, tally) == {KEYS[0]: "old", KEYS[1]: "new", KEYS[2]: "old", KEYS[3]: "old"}
    assert tally.clean, tally.notes


def test_indexed_tables_answer_as_unindexed_ones_do(store: LanceStore) -> None:
    for key in KEYS[:5]:
        _write(store, key, "old")
    assert store.maintain(TABLE, Plan(index_from=50)).indexed
    _write(store, KEYS[1], "new")
    _write(store, KEYS[6], "new")
    store.delete_partition(TABLE, KEYS[2])
    wanted = {KEYS[0]: "old", KEYS[1]: "new", KEYS[3]: "old", KEYS[4]: "old", KEYS[6]: "new"}
    for _ in range(2):
        for key in KEYS:
            assert store.read(TABLE, [key], missing_ok=True).num_rows == (
                row_count(wanted[key]) if key in wanted else 0
            )
            found = store.partition(TABLE, key)
            assert (found.rows if found else 0) == (row_count(wanted[key]) if key in wanted else 0)
        store.maintain(TABLE, Plan(index_from=50))


# Listing


def test_only_files_that_were_not_seen_are_read_for_the_partitions(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    scan = Version._scan

    def counted(self: Version, *given: Any, **more: Any) -> pa.Table:
        read.append(len(more["fragments"]))
        return scan(self, *given, **more)

    monkeypatch.setattr(Version, "_scan", counted)
    for key in KEYS[:4]:
        _write(store, key, "old")
    assert list(store.partitions(TABLE)) == KEYS[:4]
    _write(store, KEYS[1], "new")
    assert store.partitions(TABLE)[KEYS[1]].input_digest == "new"
    LanceStore(store.root).partitions(TABLE)
    store.delete_partition(TABLE, KEYS[0])
    assert list(store.partitions(TABLE)) == KEYS[1:4]
    assert read == [4, 1]


def test_partitions_whose_rows_lie_in_several_files_are_listed_whole(store: LanceStore) -> None:
    _write(store, KEYS[0], "a")
    whole = store.partitions(TABLE)
    (fragment,) = lance.dataset(store.uri(TABLE)).get_fragments()
    rows_of_it = fragment.to_table()
    first, second = rows_of_it.slice(0, 3), rows_of_it.slice(3)
    dataset = lance.write_dataset(first, store.uri(TABLE), mode="overwrite")
    lance.write_dataset(second, dataset, mode="append")
    assert [info.content_digest for info in store.partitions(TABLE).values()] == [whole[KEYS[0]].content_digest]
    assert store.partitions(TABLE) == _read_all(store)


def test_a_memory_that_is_too_small_costs_time_alone(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_module, "_LISTING", Listing())
    monkeypatch.setattr("posedreamer_assets.storage.listing.MOST_FILES", 2)
    for key in KEYS[:4]:
        _write(store, key, key)
    for _ in range(2):
        assert store.partitions(TABLE) == _read_all(store)

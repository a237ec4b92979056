"""Columns that came or went since a table was made: rows stay readable, digests stay, rivals lose nothing."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lance import LanceDataset

from posedreamer_assets.digests import row_digests
from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets.storage import columns as columns_module
from posedreamer_assets.storage import store as store_module
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets_tests.storage_faults import labelled

TABLE = labelled.TABLE
KEYS = [f"procedural-{i:04d}" for i in range(6)]
FIRST = SCHEMAS[TABLE]
SCORE, NOTE = pa.field("score", pa.float32()), pa.field("note", pa.string())


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path / "store")


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a schema that of this release."""

    def use(*fields: pa.Field, without: str = "") -> None:
        own = [field for field in FIRST if field.name != without]
        monkeypatch.setitem(SCHEMAS, TABLE, pa.schema([*own, *fields]))

    return use


def _rows(key: str, label: str, **more: Any) -> pa.Table:
    rows = labelled.rows(key, label)
    for name, value in more.items():
        rows = rows.append_column(name, [[value] * rows.num_rows])
    return rows


def _write(store: LanceStore, key: str, label: str = "a", **more: Any) -> Any:
    return store.replace_partition(TABLE, key, _rows(key, label, **more), input_digest=label)


def _sound(store: LanceStore) -> bool:
    return list(store.verify(TABLE)) == []


def test_a_new_column_is_null_in_old_rows_whoever_asks_and_no_digest_changes(store: LanceStore, release: Any) -> None:
    before = _write(store, KEYS[0])
    release(SCORE, NOTE)
    version = store.version(TABLE)
    found = store.read(TABLE, [KEYS[0]], ["note", "score", "caption"])
    assert found.schema.types == [pa.string(), pa.float32(), pa.string()]
    assert found["note"].null_count == found["score"].null_count == found.num_rows == before.rows
    assert store.partitions(TABLE) == {KEYS[0]: before}
    assert store.version(TABLE) == version and _sound(store)  # nobody who only reads writes
    assert store.read(TABLE, filter="score > 0.5").num_rows == 0
    assert store.read(TABLE, filter="note IS NULL AND caption <> 'note'").num_rows == before.rows
    (part,) = store.batches(TABLE, columns=["score"], rows=1000)
    assert part["score"].null_count == part.num_rows == before.rows


def test_a_writer_adds_what_the_table_lacks_in_one_commit(store: LanceStore, release: Any) -> None:
    old = _write(store, KEYS[0])
    release(SCORE, NOTE)
    new = _write(store, KEYS[1], score=0.5, note="n")
    assert new.version == old.version + 2  # columns, rows
    assert store.partitions(TABLE)[KEYS[0]].content_digest == old.content_digest
    found = store.read(TABLE, columns=["partition_key", "score", "note"])
    assert {(r["partition_key"], r["score"], r["note"]) for r in found.to_pylist()} == {
        (KEYS[0], None, None),
        (KEYS[1], 0.5, "n"),
    }
    assert _sound(store)
    assert store.read(TABLE, columns=["score"], version=old.version)["score"].null_count == old.rows
    store.maintain(TABLE, Plan(keep=timedelta(0)))
    assert lance.dataset(store.uri(TABLE)).get_fragments()[0].physical_rows == old.rows + new.rows
    assert _sound(store) and store.partitions(TABLE)[KEYS[0]].content_digest == old.content_digest


def test_digests_are_over_the_columns_of_the_release_that_wrote(store: LanceStore, release: Any) -> None:
    release(NOTE)
    _write(store, KEYS[0])
    wanted = labelled.rows(KEYS[0], "a")
    full = pa.table({f.name: pa.nulls(wanted.num_rows, f.type) for f in SCHEMAS[TABLE]})
    for name in wanted.column_names:
        full = full.set_column(full.column_names.index(name), name, wanted[name])
    full = full.set_column(full.column_names.index("partition_key"), "partition_key", [[KEYS[0]] * wanted.num_rows])
    assert store.read(TABLE, columns=["row_digest"])["row_digest"].to_pylist() == row_digests(full)


@pytest.mark.parametrize("merged", [False, True])
def test_verify_finds_a_changed_cell_in_rows_of_every_age(store: LanceStore, release: Any, merged: bool) -> None:
    release(NOTE)
    _write(store, KEYS[0], note="old")
    release(NOTE, SCORE)
    _write(store, KEYS[1], note="new", score=1.0)
    if merged:
        store.maintain(TABLE)
    assert _sound(store)
    for change, damaged in (
        ({"score": "2.0"}, KEYS[1]),
        ({"score": "0.0"}, KEYS[0]),  # null when it was written
        ({"note": "NULL"}, KEYS[0]),
        ({"note": "NULL", "score": "NULL"}, KEYS[1]),
        ({"caption": "'other'"}, KEYS[0]),
    ):
        dataset = lance.dataset(store.uri(TABLE))
        dataset.update(change, where=f"sample_id = '{damaged}/000003'")
        found = list(store.verify(TABLE))
        assert [f"'{damaged}/000003'" in d.what for d in found] == [True], change
        lance.dataset(store.uri(TABLE), dataset.version - 1).restore()


def test_a_column_that_is_gone_is_ignored_then_null_then_dropped(store: LanceStore, release: Any) -> None:
    release(NOTE, SCORE)
    old = _write(store, KEYS[0], note="n", score=1.0)
    release(SCORE)
    assert "note" not in store.read(TABLE).column_names
    with pytest.raises(StorageError, match="no column 'note'"):
        store.read(TABLE, columns=["note"])
    new = _write(store, KEYS[1], score=2.0)
    assert new.version == old.version + 1
    assert lance.dataset(store.uri(TABLE)).count_rows(filter="note IS NULL") == new.rows
    assert _sound(store)
    done = store.migrate(TABLE)
    assert (done.added, done.dropped, done.version) == ((), ("note",), store.version(TABLE))
    stored = lance.dataset(store.uri(TABLE)).schema.names
    assert "note" not in stored
    assert {k: p.content_digest for k, p in store.partitions(TABLE).items()} == {
        KEYS[0]: old.content_digest,
        KEYS[1]: new.content_digest,
    }
    for step in (lambda: None, lambda: store.maintain(TABLE), lambda: _write(store, KEYS[2], score=3.0)):
        step()
        assert _sound(store)
    assert store.migrate(TABLE).dropped == ()
    for row in (f"{KEYS[0]}/000001", f"{KEYS[1]}/000001", f"{KEYS[2]}/000001"):
        dataset = lance.dataset(store.uri(TABLE))
        dataset.update({"score": "9.0"}, where=f"sample_id = '{row}'")
        assert [row in d.what for d in store.verify(TABLE)] == [True]
        lance.dataset(store.uri(TABLE), dataset.version - 1).restore()


def test_columns_that_come_and_go_in_any_order_leave_every_row_verifiable(store: LanceStore, release: Any) -> None:
    release(NOTE)
    _write(store, KEYS[0], note="n")
    release()  # gone, not migrated
    _write(store, KEYS[1])
    release(SCORE)
    _write(store, KEYS[2], score=1.0)
    release(SCORE, NOTE)  # back
    _write(store, KEYS[3], score=1.0, note="m")
    store.maintain(TABLE)
    assert _sound(store)
    release(NOTE)
    store.migrate(TABLE)
    assert _sound(store)
    _write(store, KEYS[4], note="k")
    release()
    store.migrate(TABLE)
    assert _sound(store)
    release(NOTE)
    _write(store, KEYS[5], note="again")
    store.maintain(TABLE)
    assert _sound(store)
    assert store.read(TABLE, columns=["note"], filter="note IS NOT NULL").num_rows == labelled.row_count("a")


def test_damage_from_before_a_column_is_dropped_is_damage_afterwards(store: LanceStore, release: Any) -> None:
    release(NOTE)
    _write(store, KEYS[0], note="n")
    lance.dataset(store.uri(TABLE)).update({"caption": "'x'"}, where=f"sample_id = '{KEYS[0]}/000002'")
    release()
    store.migrate(TABLE)
    assert [f"{KEYS[0]}/000002" in d.what for d in store.verify(TABLE)] == [True]


def test_the_number_of_a_dropped_column_is_given_to_no_other(store: LanceStore, release: Any) -> None:
    """A writer that is under way stores values under the number that its column had."""
    release(NOTE)
    _write(store, KEYS[0], note="n")
    started = lance.dataset(store.uri(TABLE))
    rows = store.read(TABLE)
    ids = pa.array([f"{KEYS[1]}/{i:06d}" for i in range(rows.num_rows)])
    rows = rows.set_column(0, SCHEMAS[TABLE].field("sample_id"), ids)
    fragments = store_module.write_fragments(rows, started, mode="append")
    for fields in ((), (pa.field("colour", pa.string()),)):
        release(*fields)
        store.migrate(TABLE)
    anchor = lance.dataset(store.uri(TABLE))
    operation = lance.LanceOperation.Update(
        updated_fragments=[anchor.get_fragments()[0].metadata], new_fragments=fragments
    )
    LanceDataset.commit(anchor, operation, read_version=anchor.version)
    assert store.read(TABLE, columns=["colour"])["colour"].null_count == 2 * rows.num_rows


@pytest.mark.parametrize(
    ("field", "without", "text"),
    [
        (pa.field("seed", pa.string()), "seed", "column 'seed' is stored as int64, this release has string"),
        (pa.field("score", pa.float32(), nullable=False), "", "column 'score' is stored as nothing"),
        (pa.field("seed", pa.int64(), nullable=False), "seed", "'seed' is stored as int64 or null"),
    ],
)
def test_what_cannot_be_migrated_is_refused_by_table_and_column(
    store: LanceStore, release: Any, field: pa.Field, without: str, text: str
) -> None:
    version = _write(store, KEYS[0]).version
    release(field, without=without)
    for act in (
        lambda: store.read(TABLE, columns=[field.name]),
        lambda: store.take(TABLE, [f"{KEYS[0]}/000000"], [field.name]),
        lambda: _write(store, KEYS[1]),
        lambda: store.migrate(TABLE),
    ):
        with pytest.raises(StorageError) as error:
            act()
        assert f"table '{TABLE}', version {version}" in str(error.value) and text in str(error.value)
        assert "move the table's folder away" in str(error.value)
    assert store.read(TABLE, columns=["caption"]).num_rows == store.partitions(TABLE)[KEYS[0]].rows


def test_a_column_that_may_not_be_empty_and_is_gone_asks_for_the_command(store: LanceStore, release: Any) -> None:
    release(pa.field("note", pa.string(), nullable=False))
    _write(store, KEYS[0], note="n")
    release()
    with pytest.raises(StorageError, match=r"column 'note' .* run `posedreamer storage migrate`"):
        _write(store, KEYS[1])
    store.migrate(TABLE)
    _write(store, KEYS[1])
    assert _sound(store)


def test_a_column_that_may_be_null_from_now_on_is_loosened(store: LanceStore, release: Any) -> None:
    release(pa.field("note", pa.string(), nullable=False))
    _write(store, KEYS[0], note="n")
    release(NOTE)
    assert store.migrate(TABLE).loosened == ("note",)
    _write(store, KEYS[1])
    assert store.read(TABLE, [KEYS[1]], ["note"])["note"].null_count == labelled.row_count("a") and _sound(store)


# Rivals


def test_rivals_that_all_add_the_same_columns_lose_nothing(store: LanceStore, release: Any) -> None:
    _write(store, KEYS[0], "old")
    release(SCORE, NOTE)
    together, failures = threading.Barrier(4), []

    def work(number: int) -> None:
        own = LanceStore(store.root)
        together.wait(30)
        try:
            _write(own, KEYS[1 + number], f"w{number}", score=float(number), note="n")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    names = lance.dataset(store.uri(TABLE)).schema.names
    assert len(names) == len(set(names)) and {"score", "note"} < set(names)
    found = store.read(TABLE, columns=["partition_key", "score"]).to_pylist()
    wanted = {KEYS[0]: None, **{KEYS[1 + n]: float(n) for n in range(4)}}
    assert {row["partition_key"]: row["score"] for row in found} == wanted and _sound(store)


@pytest.mark.parametrize("empty", [False, True])
def test_a_writer_overtaken_by_new_columns_keeps_its_rows(
    store: LanceStore, release: Any, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    _write(store, KEYS[0])
    if empty:
        store.delete_partition(TABLE, KEYS[0])
    write, overtaking = store_module.write_fragments, [True]

    def overtaken(*args: Any, **options: Any) -> Any:
        written = write(*args, **options)
        if overtaking.pop() if overtaking else False:
            release(SCORE)
            LanceStore(store.root).migrate(TABLE)
            release()
        return written

    monkeypatch.setattr(store_module, "write_fragments", overtaken)
    _write(store, KEYS[1], "late")
    tally = labelled.Tally()
    assert labelled.labels(store, tally) == {KEYS[1]: "late", **({} if empty else {KEYS[0]: "a"})}
    assert tally.clean and _sound(store) and "score" in lance.dataset(store.uri(TABLE)).schema.names


def test_rows_that_an_older_release_writes_while_digests_are_kept_are_kept_too(
    store: LanceStore, release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(NOTE)
    _write(store, KEYS[0], note="n")
    keep, late = columns_module._keep_digests, [True]

    def overtaken(*args: Any) -> None:
        keep(*args)
        if late.pop() if late else False:
            release(NOTE)
            _write(LanceStore(store.root), KEYS[1], note="late")
            release()

    monkeypatch.setattr(columns_module, "_keep_digests", overtaken)
    release()
    assert store.migrate(TABLE).dropped == ("note",)
    assert _sound(store) and list(store.partitions(TABLE)) == KEYS[:2]

"""An object store that answers 500 and 503 and drops connections, also after it has carried a request out."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.storage_faults import labelled
from posedreamer_assets_tests.storage_faults.object_store import FaultyProxy, new_bucket, options, running_server

KEYS = [f"procedural-{i:04d}" for i in range(4)]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_server() as endpoint:
        yield endpoint


def write_through_faults(
    endpoint: str, cache: Path, *, share: float, rounds: int, seed: int
) -> tuple[FaultyProxy, labelled.Tally]:
    """Two writers through a faulty proxy; the store is read past the proxy and compared with what they were told."""
    root, proxy, tally = new_bucket(endpoint), FaultyProxy(endpoint, share, seed), labelled.Tally()
    told: dict[str, set[str]] = {key: set() for key in KEYS}
    checkpoints: list[str] = []
    with proxy.running() as faulty:

        def work(writer: int) -> None:
            store = LanceStore(root, options(faulty), cache=cache / f"w{writer}")
            for number in range(rounds):
                for key in KEYS[writer:] + KEYS[:writer]:
                    label = f"w{writer}-{number}"
                    told[key].add(label)
                    try:
                        store.replace_partition(labelled.TABLE, key, labelled.rows(key, label), input_digest=label)
                    except StorageError as error:
                        tally.notes.append(str(error))
                if writer == 0:
                    labelled.write_checkpoint(store, "dpo", f"c{number}")
                    checkpoints.append(f"c{number}")

        threads = [threading.Thread(target=work, args=(writer,)) for writer in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    store = LanceStore(root, options(endpoint), cache=cache / "reader")
    stored = labelled.labels(store, tally)
    labelled.damage(store, tally, (labelled.TABLE, "checkpoints"))
    last = {f"w{writer}-{rounds - 1}" for writer in range(2)}
    for key in KEYS:
        # The last write of a partition was the last round of one of the two.
        tally.lost += 0 if stored.get(key) in last else labelled.row_count(stored.get(key) or "w0-0")
    if labelled.checkpoint_label(store, "dpo", tally) != checkpoints[-1]:
        tally.torn += 1
    return proxy, tally


def test_writes_through_a_failing_object_store_are_whole_and_none_is_lost(endpoint: str, tmp_path: Path) -> None:
    proxy, tally = write_through_faults(endpoint, tmp_path, share=0.15, rounds=1, seed=0)
    assert tally.clean and not tally.notes, tally
    assert set(proxy.faults) == set(FaultyProxy.KINDS), proxy.faults


def test_an_answer_lost_after_the_commit_does_not_make_it_twice(endpoint: str, tmp_path: Path) -> None:
    root, proxy = new_bucket(endpoint), FaultyProxy(endpoint, 0.0, 0)
    lost: list[str] = []

    def draw(path: str) -> str | None:
        if "/_versions/" in path and path.endswith(".manifest") and len(lost) < 3:
            lost.append(path)
            return "dropped after"
        return None

    proxy.draw_put = draw
    with proxy.running() as faulty:
        store = LanceStore(root, options(faulty), cache=tmp_path)
        for label in ("first", "second"):
            store.replace_partition(labelled.TABLE, KEYS[0], labelled.rows(KEYS[0], label), input_digest="")
    tally, reader = labelled.Tally(), LanceStore(root, options(endpoint), cache=tmp_path)
    assert labelled.labels(reader, tally) == {KEYS[0]: "second"}
    assert tally.clean, tally
    assert len(lost) == 3
    assert reader.version(labelled.TABLE) == 3  # made, first, second


def test_an_object_store_that_stays_down_is_an_error_and_what_was_stored_remains(endpoint: str, tmp_path: Path) -> None:
    root, proxy = new_bucket(endpoint), FaultyProxy(endpoint, 0.0, 0)
    with proxy.running() as faulty:
        impatient = {**options(faulty), "client_max_retries": "0", "client_retry_timeout": "1"}
        store = LanceStore(root, impatient, cache=tmp_path)
        store.replace_partition(labelled.TABLE, KEYS[0], labelled.rows(KEYS[0], "old"), input_digest="")
        proxy.share = 1.0
        with pytest.raises(StorageError, match=f"table '{labelled.TABLE}'"):
            store.replace_partition(labelled.TABLE, KEYS[0], labelled.rows(KEYS[0], "new"), input_digest="")
    tally = labelled.Tally()
    assert labelled.labels(LanceStore(root, options(endpoint), cache=tmp_path), tally) == {KEYS[0]: "old"}
    assert tally.clean, tally

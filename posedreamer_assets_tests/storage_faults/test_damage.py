"""A damaged or missing file is named with its table and version, and never taken for other rows."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from lance.file import LanceFileSession

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore, newest
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options, running_server

TABLE = "rendered_scenes"
KEYS = [f"procedural-{i:04d}" for i in range(4)]


def _rows(key: str, seed: int) -> pa.Table:
    rng = random.Random(f"{key} {seed}")
    images = pa.array([rng.randbytes(2000) for _ in range(20)], pa.large_binary())
    return pa.table({"sample_id": [f"{key}/{i:06d}" for i in range(20)], "image": images})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> LanceStore:
    """A store with a merged file, a file of its own and a deletion file, in version 8."""
    store = LanceStore(tmp_path_factory.mktemp("sound"))
    for key in KEYS:
        store.replace_partition(TABLE, key, _rows(key, 0), input_digest="")
    store.maintain(TABLE)
    store.replace_partition(TABLE, KEYS[1], _rows(KEYS[1], 1), input_digest="")
    assert store.version(TABLE) == 8
    return store


def _copy(store: LanceStore, to: Path) -> LanceStore:
    shutil.copytree(store.root, to, dirs_exist_ok=True)
    return LanceStore(to)


def _live_files(store: LanceStore) -> list[str]:
    """Files that the newest version consists of, relative to the table."""
    table = Path(store.uri(TABLE))
    newest = min((table / "_versions").glob("*.manifest"))
    data = [f for f in table.glob("data/*") if f.stem.encode() in newest.read_bytes()]
    assert len(data) == 2
    return [str(f.relative_to(table)) for f in [newest, *data, *table.glob("_deletions/*")]]


def _spoil(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
        return
    if how == "empty":
        content.clear()
    elif how == "cut":
        del content[len(content) // 2 :]
    else:
        start = {"head": 0, "middle": len(content) // 2, "tail": max(0, len(content) - 30)}[how]
        for i in range(start, min(start + 8, len(content))):
            content[i] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "head", "middle", "tail"])
@pytest.mark.parametrize("which", range(4), ids=["manifest", "data", "other data", "deletions"])
def test_every_damage_is_an_error_that_names_table_version_and_file(
    sound: LanceStore, tmp_path: Path, which: int, how: str
) -> None:
    store = _copy(sound, tmp_path)
    file = _live_files(store)[which]
    _spoil(Path(store.uri(TABLE)) / file, how)
    try:
        found = store.read(TABLE)
    except StorageError as error:
        for word in (f"table '{TABLE}'", "version 8"):
            assert word in str(error)
        # A manifest that is gone cannot be listed: the folder it was in is named.
        assert (file if (which, how) != (0, "missing") else "_versions") in str(error)
        return
    # Bytes inside an image can change without Lance noticing; the digests notice.
    if not found.equals(sound.read(TABLE)):
        assert any(f"data/{Path(file).name}" in d.files for d in store.verify(TABLE))


@pytest.mark.parametrize("how", ["missing", "cut", "tail"])
def test_what_is_dropped_can_be_made_again_and_the_rest_is_untouched(
    sound: LanceStore, tmp_path: Path, how: str
) -> None:
    store = _copy(sound, tmp_path)
    merged = next(f for f in _live_files(store)[1:3] if Path(store.uri(TABLE), f).stat().st_size > 100_000)
    _spoil(Path(store.uri(TABLE)) / merged, how)
    with pytest.raises(StorageError, match=Path(merged).name):
        store.replace_partition(TABLE, KEYS[0], _rows(KEYS[0], 2), input_digest="")
    (dropped,) = store.drop_damaged(TABLE)
    assert merged in dropped.files
    assert list(store.partitions(TABLE)) == [KEYS[1]]
    for key in (KEYS[0], KEYS[2], KEYS[3]):
        store.replace_partition(TABLE, key, _rows(key, 0), input_digest="")
    assert store.read(TABLE).equals(sound.read(TABLE))
    assert list(store.verify(TABLE)) == []


def test_a_table_whose_manifests_are_all_gone_is_not_made_anew(sound: LanceStore, tmp_path: Path) -> None:
    store = _copy(sound, tmp_path)
    shutil.rmtree(Path(store.uri(TABLE)) / "_versions")
    for act in (
        lambda: store.read(TABLE),
        lambda: store.replace_partition(TABLE, KEYS[0], _rows(KEYS[0], 0), input_digest=""),
    ):
        with pytest.raises(StorageError, match=f"table '{TABLE}', no version"):
            act()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_server() as endpoint:
        yield endpoint


def test_damage_in_an_object_store_is_named_too(endpoint: str, tmp_path: Path) -> None:
    store = LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path)
    for key in KEYS[:2]:
        store.replace_partition(TABLE, key, _rows(key, 0), input_digest="")
    session = LanceFileSession(store.uri(TABLE), storage_options=store.storage_options)
    data = sorted(session.list("data"))[0]
    (tmp_path / "empty").write_bytes(b"")
    session.delete_file(data)
    with pytest.raises(StorageError, match=f"table '{TABLE}', version 3: {data} is damaged or missing"):
        store.read(TABLE)
    manifest = min(session.list("_versions"))
    session.upload_file(tmp_path / "empty", manifest)
    with pytest.raises(StorageError, match=f"table '{TABLE}', version 3, file {manifest}"):
        store.read(TABLE)


def test_a_missing_newest_manifest_in_an_object_store_is_noticed_by_every_process(
    endpoint: str, tmp_path: Path
) -> None:
    store = LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path)
    for key in KEYS[:3]:
        store.replace_partition(TABLE, key, _rows(key, 0), input_digest="")
    assert len(store.partitions(TABLE)) == 3
    session = LanceFileSession(store.uri(TABLE), storage_options=store.storage_options)
    manifests = session.list("_versions")
    session.delete_file(min(manifests))
    for opened in (store, LanceStore(store.root, store.storage_options, cache=tmp_path)):
        for act in (
            lambda opened=opened: opened.read(TABLE),
            lambda opened=opened: opened.replace_partition(TABLE, KEYS[3], _rows(KEYS[3], 0), input_digest=""),
        ):
            with pytest.raises(StorageError, match=f"table '{TABLE}': version 4 was written, .* is 3: a manifest"):
                act()
    session.delete_file(newest.NEWEST_NOTE)
    assert list(store.partitions(TABLE)) == KEYS[:2]

"""Checkpoints and tags of a store, in a local folder and on an S3 server."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from lance.file import LanceFileSession

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets_tests.storage.stored_rows import KEY, TABLE, opened_again, some_rows, stored_captions
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options

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
    found = opened_again(maker, tmp_path / "other").checkpoint("dpo")
    assert found is not None and found == written
    assert not (tmp_path / "other").exists()  # nothing is fetched before its files are asked for
    assert (found.path / "weights" / "w.txt").read_text() == "w"
    assert found.path.is_relative_to(tmp_path / "other")

    session = LanceFileSession(maker.root, storage_options=maker.storage_options)
    other = tmp_path / "other.txt"
    other.write_text("x")
    session.upload_file(other, f"{written.place}/weights/w.txt")
    damaged = opened_again(maker, tmp_path / "third").checkpoint("dpo")
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
    first = store.replace_partition(TABLE, KEY, some_rows(label="first"), input_digest="")
    store.tag(TABLE, "release-1", first.version)
    for label in "ab":
        store.replace_partition(TABLE, KEY, some_rows(label=label), input_digest="")
    assert store.maintain(TABLE, Plan(keep=timedelta(0))).versions_removed > 0
    assert store.tags(TABLE) == {"release-1": first.version}
    assert store.read(TABLE, version="release-1").column("caption").to_pylist()[0] == "first 0"
    assert stored_captions(store) == [f"b {i}" for i in range(5)]
    store.tag(TABLE, "release-1", store.version(TABLE) or 0)
    assert store.tags(TABLE) == {"release-1": store.version(TABLE)}


def test_a_checkpoint_tags_what_it_was_made_from_before_it_is_made(store: LanceStore) -> None:
    read = store.replace_partition(TABLE, KEY, some_rows(), input_digest="").version
    seen: list[dict[str, int]] = []

    def write(folder: Path) -> dict[str, float]:
        seen.append(store.tags(TABLE))
        return _writes("w")(folder)

    store.write_checkpoint("dpo", "0123456789abcdef", write, input_digest="", reads={TABLE: read})
    assert seen == [{"dpo-0123456789ab": read}]


@pytest.mark.parametrize(("name", "version"), [("bad name", 1), ("good", 99)])
def test_a_tag_that_cannot_be_made_is_an_error(store: LanceStore, name: str, version: int) -> None:
    store.replace_partition(TABLE, KEY, some_rows(), input_digest="")
    with pytest.raises(StorageError, match=f"table '{TABLE}', version {version}: could not be tagged '{name}'"):
        store.tag(TABLE, name, version)

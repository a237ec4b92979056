"""Names, rows and objects that anybody may have written lead nowhere outside the folder of checkpoints."""

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest
from lance.file import LanceFileSession

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets.storage.places import SCRATCH, path_below
from posedreamer_assets.storage.superseded import remove_superseded
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options

EVIL = ["../../evil", "..", "/etc/passwd", "a/b", "a\\..\\b/..", "", ".hidden", "a\n", "a\0b", "x" * 200, "ä"]


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path / "some" / "store")


def _write(folder: Path) -> dict[str, Any]:
    (folder / "weights.bin").write_bytes(b"weights")
    return {"loss": 1.0}


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.mark.parametrize("digest", EVIL)
def test_a_digest_that_leads_elsewhere_is_refused_before_anything_is_written(
    store: LanceStore, tmp_path: Path, digest: str
) -> None:
    with pytest.raises(StorageError, match="checkpoint 'dpo': bad digest"):
        store.write_checkpoint("dpo", digest, _write, input_digest="")
    assert _files(tmp_path) == set()


@pytest.mark.parametrize("name", EVIL)
def test_a_name_that_leads_elsewhere_is_refused(store: LanceStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="bad checkpoint name"):
        store.write_checkpoint(name, "abc", _write, input_digest="")
    with pytest.raises(StorageError, match="bad checkpoint name"):
        store.checkpoint(name)
    assert _files(tmp_path) == set()


@pytest.mark.parametrize("table", ["../evil", "/tmp/evil", "checkpoints/dpo", ""])
def test_tables_are_those_of_the_release(store: LanceStore, table: str) -> None:
    for act in (
        lambda: store.uri(table),
        lambda: store.table_at(table),
        lambda: store.read(table, missing_ok=True),
        lambda: store.tags(table),
        lambda: store.migrate(table),
    ):
        with pytest.raises(StorageError, match="unknown table"):
            act()


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", ""])
def test_tags_stay_beside_their_table(store: LanceStore, tmp_path: Path, name: str) -> None:
    store.write_checkpoint("dpo", "abc", _write, input_digest="")
    before = _files(tmp_path)
    with pytest.raises(StorageError, match="could not be tagged"):
        store.tag("checkpoints", name, 1)
    assert _files(tmp_path) == before


def _row(store: LanceStore, **changed: Any) -> None:
    """A row of a checkpoint `dpo` as somebody else could have written it."""
    row = {
        "sample_id": "dpo/abc",
        "partition_key": "checkpoint-dpo-0000",
        "name": "dpo",
        "path": "checkpoints/dpo/abc-0123456789ab",
        "metrics": json.dumps({}),
        **changed,
    }
    rows = pa.Table.from_pylist([row], schema=SCHEMAS["checkpoints"])
    store.replace_partition("checkpoints", row["partition_key"], rows, input_digest="")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"path": "../../evil"}, "the place '../../evil'"),
        ({"path": "checkpoints/dpo/../../../evil"}, "the place"),
        ({"path": "/etc"}, "the place '/etc'"),
        ({"path": "checkpoints/dpo/abc-0123456789ab/.."}, "the place"),
        ({"path": "checkpoints/other/abc-0123456789ab"}, "the place"),
        ({"path": "checkpoints/dpo/xyz-0123456789ab"}, "the place"),
        ({"path": ""}, "the place ''"),
        ({"path": None}, "the place ''"),
        ({"sample_id": "other/abc"}, "a row of 'dpo' with the id 'other/abc'"),
        ({"sample_id": "dpo/../../evil", "path": "checkpoints/dpo/../../evil-0123456789ab"}, "the place"),
        ({"name": "<script>"}, "a row of '<script>'"),
        ({"metrics": "{"}, "metrics that are no JSON object"),
        ({"metrics": "[1]"}, "metrics that are no JSON object"),
        ({"metrics": None}, "metrics that are no JSON object"),
    ],
)
def test_rows_that_no_checkpoint_can_have_written_are_refused(
    store: LanceStore, tmp_path: Path, changed: dict[str, Any], text: str
) -> None:
    (tmp_path / "evil").mkdir()
    _row(store, **changed)
    with pytest.raises(StorageError) as error:
        store.checkpoint("dpo")
    assert "table 'checkpoints', checkpoint 'dpo': found " in str(error.value) and text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_place_is_looked_at_again_where_it_is_opened(store: LanceStore) -> None:
    for place in ("../../evil", "/etc", "checkpoints/dpo"):
        with pytest.raises(StorageError, match="is no place of a checkpoint"):
            store.checkpoint_folders.find(place)


@pytest.mark.parametrize("which", ["folder", "name", "file", "subfolder"])
def test_links_out_of_the_folder_are_not_followed(store: LanceStore, tmp_path: Path, which: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    made = store.write_checkpoint("dpo", "abc", _write, input_digest="").path
    if which in ("folder", "name"):
        moved = made if which == "folder" else made.parent
        moved.rename(outside / moved.name)
        moved.symlink_to(outside / moved.name)
    elif which == "file":
        (made / "linked.txt").symlink_to(outside / "secret.txt")
    else:
        (made / "linked").symlink_to(outside)
    with pytest.raises(StorageError, match="symbolic link"):
        store.checkpoint("dpo")


def test_links_out_of_the_folder_are_not_stored(store: LanceStore, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")

    def links(folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").symlink_to(tmp_path / "secret.txt")
        return {}

    with pytest.raises(StorageError, match=r"weights.bin is a symbolic link out of its folder"):
        store.write_checkpoint("dpo", "abc", links, input_digest="")
    assert store.checkpoint("dpo") is None


def test_links_within_the_folder_and_a_root_that_is_a_link_are_as_good_as_files(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    store = LanceStore(tmp_path / "root")

    def links(folder: Path) -> dict[str, Any]:
        (folder / "last.bin").symlink_to("weights.bin")
        return _write(folder)

    store.write_checkpoint("dpo", "abc", links, input_digest="")
    found = store.checkpoint("dpo")
    assert found is not None and (found.path / "last.bin").read_bytes() == b"weights"


def test_upkeep_removes_nothing_through_links(store: LanceStore, tmp_path: Path) -> None:
    store.write_checkpoint("dpo", "abc", _write, input_digest="")
    base, outside = Path(store.root, "checkpoints"), tmp_path / "outside"
    for folder in (outside / f"abc-{'0' * 12}", outside / f"{SCRATCH}old"):
        folder.mkdir(parents=True)
        (folder / "precious").write_text("x")
        os.utime(folder, (1, 1))
    (base / "elsewhere").symlink_to(outside)
    (base / "dpo" / f"xyz-{'0' * 12}").symlink_to(outside)
    (base / "dpo" / f"{SCRATCH}left").symlink_to(outside)
    late = datetime.now(UTC) + timedelta(days=900)
    removed = remove_superseded(store, store.checkpoint_folders, Plan(checkpoints=0), (), (), late)
    assert (removed.folders, removed.leftovers) == ((), 0)
    assert len(list(outside.glob("*/precious"))) == 2


def test_objects_are_not_fetched_to_other_places(endpoint: str, tmp_path: Path) -> None:
    store = LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path / "a" / "b" / "cache")
    found = store.write_checkpoint("dpo", "abc", _write, input_digest="")
    place, name = found.place, "../../../../../evil"
    for bad in (f"{place}/{name}", f"{place}/a/../../b", f"{place}//a", "other/a", f"{place}/a\0", place):
        with pytest.raises(StorageError, match="holds an object named"):
            path_below(place, bad)
    assert path_below(place, f"{place}/a/..b") == "a/..b"
    session = LanceFileSession(store.root, storage_options=store.storage_options)
    assert [path_below(place, unquote(listed)) for listed in session.list(place)] == ["weights.bin"]
    _row(store, path=f"checkpoints/dpo/abc-{hashlib.md5(b'').hexdigest()[:12]}")
    other = LanceStore(store.root, store.storage_options, cache=tmp_path / "c" / "d").checkpoint("dpo")
    assert other is not None
    with pytest.raises(StorageError, match="are gone"):
        _ = other.path

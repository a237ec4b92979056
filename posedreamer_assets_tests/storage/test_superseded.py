"""Superseded checkpoints go, with their tags and what killed writers left; nothing that is named, used or young does."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest
from lance.file import LanceFileSession

from posedreamer_assets.storage import LanceStore, Plan, Reference, Removed
from posedreamer_assets.storage.places import SCRATCH
from posedreamer_assets.storage.superseded import remove_superseded
from posedreamer_assets.tables.keys import sample_id
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options

NAME, READ, PAINTED = "dpo_checkpoint", "preference_pairs", "raw_generations"
REFERENCES, RELEASES = (Reference(NAME, PAINTED, "adapter"),), ("dataset",)
PLAN = Plan(checkpoints=1)
NEVER = Plan(checkpoints=0)


def request_digest(number: int) -> str:
    return f"{number:032x}"


def make(store: LanceStore, number: int, name: str = NAME, reads: Mapping[str, int] | None = None) -> str:
    """A checkpoint of one file; returns its place. Later numbers are younger."""

    def write(folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").write_bytes(f"{name} {number}".encode() * 100)
        return {}

    info = store.write_checkpoint(name, request_digest(number)[::-1], write, input_digest="", reads=reads)
    local = store.checkpoint_folders.local / info.place
    if store.checkpoint_folders.remote is None:
        os.utime(local, (number * 60, number * 60))
    return info.place


def write_rows(store: LanceStore, table: str, **columns: str) -> int:
    key = "procedural-0000"
    rows = pa.table({"sample_id": [sample_id(key, 0)], **{name: [value] for name, value in columns.items()}})
    return store.replace_partition(table, key, rows, input_digest="").version


def later(store: LanceStore, plan: Plan, days: float = 30) -> Removed:
    """Upkeep as it will be in some days."""
    return remove_superseded(
        store, store.checkpoint_folders, plan, REFERENCES, RELEASES, datetime.now(UTC) + timedelta(days=days)
    )


def places(store: LanceStore) -> set[str]:
    return {folder.place for folder in store.checkpoint_folders.stored()}


def test_the_current_checkpoint_and_the_newest_superseded_ones_stay(store: LanceStore, tmp_path: Path) -> None:
    made = [make(store, number) for number in range(1, 5)]
    removed = later(store, PLAN)
    assert set(removed.folders) == {*made[:2]} and removed.bytes_freed > 0
    assert places(store) == {*made[2:]}
    current = LanceStore(store.root, store.storage_options, cache=tmp_path / "elsewhere").checkpoint(NAME)
    assert current is not None and (current.path / "weights.bin").read_bytes().startswith(f"{NAME} 4".encode())
    assert later(store, PLAN).folders == ()


def test_young_ones_stay(store: LanceStore) -> None:
    for number in range(1, 4):
        make(store, number)
    for folder in (store.checkpoint_folders.local / "checkpoints" / NAME).iterdir():
        os.utime(folder)
    assert later(store, NEVER, days=6).folders == ()
    assert len(later(store, NEVER, days=8).folders) == 2


def test_what_a_tagged_version_of_the_checkpoints_names_stays(store: LanceStore) -> None:
    made = [make(store, number) for number in range(1, 3)]
    version = store.version("checkpoints")
    assert version is not None
    store.tag("checkpoints", "dataset-0123456789ab", version)
    made += [make(store, number) for number in range(3, 5)]
    assert set(later(store, NEVER).folders) == {made[0], made[2]}
    assert later(store, NEVER).folders == ()


def test_an_adapter_stays_while_stored_images_name_it(store: LanceStore) -> None:
    made = [make(store, number) for number in range(1, 4)]
    adapters = [place.rpartition("/")[2].partition("-")[0] for place in made]
    tagged = write_rows(store, PAINTED, adapter=adapters[0])
    store.tag(PAINTED, "keep-this", tagged)
    write_rows(store, PAINTED, adapter=adapters[1])
    assert later(store, NEVER).folders == ()
    write_rows(store, PAINTED, adapter=adapters[2])
    assert later(store, NEVER).folders == (made[1],)


def test_releases_stay_until_fewer_are_asked_for(local: LanceStore) -> None:
    made = [make(local, number, "dataset") for number in range(1, 4)]
    assert later(local, NEVER).folders == ()
    assert later(local, Plan(releases=1)).folders == (made[0],)


def test_tags_go_with_the_last_folder_of_their_checkpoint_and_no_other_tag_does(store: LanceStore) -> None:
    for number in range(1, 4):
        make(store, number, reads={READ: write_rows(store, READ, caption=f"n{number}")})
    store.tag(READ, "mine", 2)
    store.tag(READ, "mine-0123456789ab", 2)
    before = store.tags(READ)
    removed = later(store, PLAN)
    (gone,) = removed.tags
    assert gone.startswith(f"{READ}:{NAME}-1000")
    assert store.tags(READ) == {name: v for name, v in before.items() if f"{READ}:{name}" != gone}
    assert {"mine", "mine-0123456789ab"} < set(store.tags(READ))


def test_what_a_killed_writer_left_goes_and_what_a_living_one_fills_stays(local: LanceStore) -> None:
    make(local, 1)
    base = local.checkpoint_folders.local / "checkpoints" / NAME
    left = base / f"{SCRATCH}killed"
    left.mkdir()
    (left / "half.bin").write_bytes(b"x" * 1000)
    with local.checkpoint_folders.scratch(NAME) as filling:
        for folder in (left, filling):
            os.utime(folder, (1, 1))
        removed = later(local, PLAN)
        assert (removed.leftovers, removed.bytes_freed) == (1, 1000)
        assert filling.is_dir() and not left.exists()


def test_tags_of_a_checkpoint_that_is_being_made_stay(local: LanceStore) -> None:
    make(local, 1)
    version = write_rows(local, READ, caption="a")

    def write(folder: Path) -> dict[str, Any]:
        (folder / "weights.bin").write_bytes(b"x")
        assert later(local, NEVER).tags == ()
        return {}

    local.write_checkpoint(NAME, request_digest(7)[::-1], write, input_digest="", reads={READ: version})
    assert version in local.tags(READ).values()


def test_a_checkpoint_that_is_made_again_while_it_is_removed_stays(
    local: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make(local, 1)
    make(local, 2)
    rename = Path.rename

    def asked_for_meanwhile(self: Path, target: Path) -> Path:
        if self == local.checkpoint_folders.local / old:
            monkeypatch.setattr(Path, "rename", rename)
            os.utime(self, (2e10, 2e10))  # as `write_checkpoint` does where an equal folder is there
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", asked_for_meanwhile)
    assert later(local, NEVER).folders == ()
    assert places(local) >= {old}


def test_an_old_checkpoint_that_is_made_again_is_young(local: LanceStore) -> None:
    old = make(local, 1)
    make(local, 2)
    folder = local.checkpoint_folders.local / old
    assert folder.stat().st_mtime < 1000
    assert local.checkpoint_folders.find(old) == folder
    assert later(local, NEVER, days=1).folders == ()


def test_a_writer_whose_upload_is_removed_before_its_commit_uploads_again(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path / "cache")
    commit = store.replace_partition

    def removed_meanwhile(*given: Any, **named: Any) -> Any:
        session = LanceFileSession(store.root, storage_options=store.storage_options)
        for file in session.list(f"checkpoints/{NAME}"):
            session.delete_file(unquote(file))
        return commit(*given, **named)

    monkeypatch.setattr(store, "replace_partition", removed_meanwhile)
    make(store, 1)
    found = LanceStore(store.root, store.storage_options, cache=tmp_path / "elsewhere").checkpoint(NAME)
    assert found is not None and (found.path / "weights.bin").exists()


def test_copies_of_what_the_object_store_no_longer_has_go(endpoint: str, tmp_path: Path) -> None:
    store = LanceStore(new_bucket(endpoint), options(endpoint), cache=tmp_path / "cache")
    made = [make(store, number) for number in range(1, 4)]
    later(store, PLAN)
    copies = {f"checkpoints/{NAME}/{f.name}" for f in (tmp_path / "cache/checkpoints" / NAME).iterdir()}
    assert copies == {*made[1:]}

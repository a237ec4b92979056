"""Batches of pose files: cut once, recorded in the store, and stale only through their own files."""

import os
from pathlib import Path

import pytest
from pyarrow import fs

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.pipeline.pose_batches import cut_new_files, plan_batches, recorded_batches
from posedreamer_assets.poses.folder import Folder
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.storage_faults.object_store import environment, new_bucket, running_server


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(str(tmp_path / "storage"))


def fill(folder: Path, count: int, start: int = 0) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"clip{i:03d}.bvh" for i in range(start, start + count)]
    for path in paths:
        path.write_text(f"clip {path.name}")
    return paths


def profile(folder: Path | str, **settings: object) -> Profile:
    sizes = {"poses.batches": 2, "poses.align_batches": 1, "poses.files_per_batch": 4, "poses.source": str(folder)}
    return load_profile("pocket", {**sizes, **settings})


def files_of(store: LanceStore) -> dict[str, tuple[str, ...]]:
    return {key: batch.paths for key, batch in recorded_batches(store).items()}


def digests(profile: Profile, store: LanceStore) -> dict[str, str]:
    snapshot = Snapshot(profile, store)
    stage = snapshot.graph["pose_library"]
    return {key: snapshot.input_digest(stage, key) for key in files_of(store) if not key.startswith("hard-")}


def test_planned_batches_of_a_group_share_no_file_while_there_are_enough(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 20)
    planned = plan_batches(profile(tmp_path / "mocap"), store)
    assert sorted(planned) == ["align-mocap-0000", "hard-0000", "mocap-0000", "mocap-0001"]
    files = files_of(store)
    used = [*files["mocap-0000"], *files["mocap-0001"], *files["align-mocap-0000"]]
    assert len(used) == len(set(used)) == 12


def test_every_further_round_has_files_for_its_pool(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 30)
    rounds = {"curriculum.rounds": [{"batches": 2}, {"batches": 1}], "poses.batch_size": 10, "curriculum.pool_size": 25}
    keys = plan_batches(profile(tmp_path / "mocap", **rounds), store)
    assert keys[-3:] == ["hard-0000", "hard-0001", "hard2-0000"]
    files = files_of(store)
    assert [len(files[key]) for key in keys[-3:]] == [12, 12, 12], "files for three batches of poses each"
    assert not set(files["hard-0000"]) & set(files["hard-0001"])
    more = {**rounds, "curriculum.rounds": [{"batches": 2}, {"batches": 1}, {"batches": 1}]}
    assert plan_batches(profile(tmp_path / "mocap", **more), store) == ["hard3-0000"]


def test_a_batch_is_never_cut_again(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 20)
    plan_batches(profile(tmp_path / "mocap"), store)
    before = files_of(store)
    fill(tmp_path / "mocap", 20, start=20)
    assert plan_batches(profile(tmp_path / "mocap"), store) == []
    assert plan_batches(profile(tmp_path / "mocap", **{"poses.batches": 3}), store) == ["mocap-0002"]
    after = files_of(store)
    assert {key: after[key] for key in before} == before
    assert not set(after["mocap-0002"]) & {*before["mocap-0000"], *before["mocap-0001"]}


def test_one_file_serves_many_batches_by_parts(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 1)
    plan_batches(profile(tmp_path / "mocap", **{"poses.batches": 3}), store)
    parts = {key: batch.part for key, batch in recorded_batches(store).items() if key.startswith("mocap-")}
    assert parts == {"mocap-0000": 0, "mocap-0001": 1, "mocap-0002": 2}
    assert len(set(digests(profile(tmp_path / "mocap"), store).values())) == 4


def test_a_changed_file_changes_the_digest_of_its_batches_alone(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 12)
    settings = profile(tmp_path / "mocap")
    plan_batches(settings, store)
    before, files = digests(settings, store), files_of(store)
    changed = files["mocap-0001"][0]
    (tmp_path / "mocap" / changed).write_text("another clip")
    after = digests(settings, store)
    assert {key for key in before if after[key] != before[key]} == {"mocap-0001"}


def test_touching_moving_and_adding_files_change_no_digest(tmp_path: Path, store: LanceStore) -> None:
    paths = fill(tmp_path / "mocap", 12)
    plan_batches(profile(tmp_path / "mocap"), store)
    before = digests(profile(tmp_path / "mocap"), store)
    os.utime(paths[0], (1, 1))
    fill(tmp_path / "mocap", 3, start=30)
    assert digests(profile(tmp_path / "mocap"), store) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "mocap").rename(tmp_path / "other" / "mocap")
    assert plan_batches(profile(tmp_path / "other" / "mocap"), store) == []
    assert digests(profile(tmp_path / "other" / "mocap"), store) == before


def test_a_file_that_is_gone_and_a_new_licence_change_the_digest(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 8)
    settings = profile(tmp_path / "mocap")
    plan_batches(settings, store)
    before = digests(settings, store)
    (tmp_path / "mocap" / files_of(store)["mocap-0000"][0]).unlink()
    gone = digests(settings, store)
    assert {key for key in before if gone[key] != before[key]} == {"mocap-0000"}
    (tmp_path / "mocap" / "LICENSE").write_text("CC-BY-4.0")
    assert not set(digests(settings, store).values()) & set(gone.values())


def test_another_folder_of_the_same_name_is_cut_anew(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 8)
    plan_batches(profile(tmp_path / "mocap"), store)
    (tmp_path / "b").mkdir()
    fill(tmp_path / "b" / "mocap", 8, start=50)
    assert len(plan_batches(profile(tmp_path / "b" / "mocap"), store)) == 4
    assert all("clip05" in path for paths in files_of(store).values() for path in paths)


def test_an_empty_folder_is_an_error(tmp_path: Path, store: LanceStore) -> None:
    (tmp_path / "mocap").mkdir()
    with pytest.raises(PoseFileError, match="no pose files"):
        plan_batches(profile(tmp_path / "mocap"), store)


def test_new_files_are_cut_once_in_full_batches_and_the_rest_when_flushed(tmp_path: Path, store: LanceStore) -> None:
    fill(tmp_path / "mocap", 10)

    def cut(*, flush: bool) -> list[str]:
        folder = Folder(str(tmp_path / "mocap"))
        return cut_new_files(store, folder, "mocap", folder.pose_paths(), files_per_batch=4, flush=flush)

    assert cut(flush=False) == ["mocap-0000", "mocap-0001"]
    assert cut(flush=False) == []
    assert cut(flush=True) == ["mocap-0002"]
    assert cut(flush=True) == []
    used = [path for paths in files_of(store).values() for path in paths]
    assert sorted(used) == sorted(f"clip{i:03d}.bvh" for i in range(10))


def test_a_folder_in_an_object_store_is_cut_read_and_digested_like_a_local_one(
    tmp_path: Path, store: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server() as endpoint:
        for name, value in environment(endpoint).items():
            monkeypatch.setenv(name, value)
        uri = f"{new_bucket(endpoint)}/mocap"
        system, base = fs.FileSystem.from_uri(uri)

        def upload(name: str, text: str) -> None:
            with system.open_output_stream(f"{base}/{name}") as stream:
                stream.write(text.encode())

        for i in range(4):
            upload(f"sub/clip{i}.bvh", f"clip {i}")
        upload("LICENSE", "CC-BY-4.0")
        upload(".hidden.bvh", "no")
        settings = profile(uri, **{"poses.files_per_batch": 2})
        assert {"mocap-0000", "mocap-0001"} < set(plan_batches(settings, store))
        before, files = digests(settings, store), files_of(store)
        assert sorted(files["mocap-0000"] + files["mocap-0001"]) == [f"sub/clip{i}.bvh" for i in range(4)]
        found = Snapshot(settings, store).pose_files("mocap-0000")
        assert found is not None
        copy = found.folder.local_copy(found.paths)
        assert (copy / "LICENSE").read_text() == "CC-BY-4.0"
        assert {(copy / path).read_text() for path in found.paths} == {f"clip {path[8]}" for path in found.paths}
        upload(files["mocap-0001"][0], "another clip")
        after = digests(settings, store)
        assert {key for key in before if before[key] != after[key]} == {
            key for key in before if files["mocap-0001"][0] in files[key]
        }

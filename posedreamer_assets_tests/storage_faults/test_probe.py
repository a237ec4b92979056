"""An object store that ignores conditional puts is refused before it loses a commit."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posedreamer_assets.cli.doctor import look_at_storage
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.defs.local.register_planned import register_planned
from posedreamer_assets.errors import StorageError
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.runtime.small import small_profile
from posedreamer_assets_tests.storage_faults.object_store import (
    FaultyProxy,
    environment,
    new_bucket,
    options,
    running_server,
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_server() as endpoint:
        yield endpoint


def _store(root: str, endpoint: str, cache: Path) -> LanceStore:
    return LanceStore(root, options(endpoint), cache=cache)


def test_a_store_that_enforces_them_passes_and_keeps_nothing_of_the_trial(endpoint: str, tmp_path: Path) -> None:
    store = _store(new_bucket(endpoint), endpoint, tmp_path)
    store.probe()
    assert store.checkpoint_folders._session().list("") == []


def test_a_store_that_ignores_them_is_refused(endpoint: str, tmp_path: Path) -> None:
    proxy = FaultyProxy(endpoint, 0.0, 0)
    proxy.dropped_headers = ("if-none-match",)
    root = new_bucket(endpoint)
    with proxy.running() as careless:
        store = _store(root, careless, tmp_path)
        with pytest.raises(StorageError, match=f"{root}: this object store ignores conditional puts") as error:
            store.probe()
    assert "\n" not in str(error.value)
    assert _store(root, endpoint, tmp_path).checkpoint_folders._session().list("") == []


def test_a_bucket_that_is_not_there_is_an_error_in_one_line(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/root could not be written.*NoSuchBucket"):
        _store("s3://no-such-bucket/root", endpoint, tmp_path).probe()


def test_folders_need_no_trial(tmp_path: Path) -> None:
    LanceStore(tmp_path / "store").probe()
    assert list(tmp_path.iterdir()) == []


# Homes


def _remote_home(folder: Path, root: str, endpoint: str, patch: pytest.MonkeyPatch) -> Home:
    for name, value in environment(endpoint).items():
        patch.setenv(name, value)
    home = Home(folder)
    home.keep_in(root)
    return home


def test_a_careless_store_is_refused_before_anything_is_written_to_it(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FaultyProxy(endpoint, 0.0, 0)
    proxy.dropped_headers = ("if-none-match",)
    root = new_bucket(endpoint)
    with proxy.running() as careless:
        home = _remote_home(tmp_path / "home", root, careless, monkeypatch)
        for start in (lambda: run_main_job(home, small_profile()), lambda: register_planned(home)):
            with pytest.raises(StorageError, match=f"{root}: this object store ignores conditional puts"):
                start()
        found = look_at_storage(home)
    assert not found.ok and "ignores conditional puts" in found.detail
    assert _store(root, endpoint, tmp_path).checkpoint_folders._session().list("") == []


def test_a_store_is_tried_once(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = _remote_home(tmp_path / "home", new_bucket(endpoint), endpoint, monkeypatch)
    tried: list[str] = []
    probe = LanceStore.probe
    monkeypatch.setattr(LanceStore, "probe", lambda store: (tried.append(store.root), probe(store)))
    home.try_storage()
    home.try_storage()
    assert tried == [home.storage_root]
    found = look_at_storage(home)
    assert found.ok and "keeps what concurrent writers commit" in found.detail
    other = new_bucket(endpoint)
    home.keep_in(other)
    home.try_storage()
    assert tried[-1] == other

"""Publishing to a hub, whose client is exchanged for one that keeps what it is given in a folder."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.config import load_profile
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.export.rows import IDS, World, write_store


class FakeHub:
    """Repositories as folders; a tag is a copy of what was there."""

    def __init__(self, root: Path) -> None:
        self.root, self.tags, self.private, self.commits = root, dict[str, str](), dict[str, bool](), list[str]()

    def create_repo(self, repo: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
        assert repo_type == "dataset" and exist_ok
        self.private.setdefault(repo, private)
        (self.root / repo).mkdir(parents=True, exist_ok=True)

    def list_repo_refs(self, repo: str, *, repo_type: str) -> SimpleNamespace:
        return SimpleNamespace(tags=[SimpleNamespace(name=name) for name in self.tags])

    def upload_file(self, *, path_or_fileobj: bytes, path_in_repo: str, repo_id: str, **more: str) -> None:
        (self.root / repo_id / path_in_repo).write_bytes(path_or_fileobj)

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, delete_patterns: list[str], **more: str
    ) -> SimpleNamespace:
        for pattern in delete_patterns:
            for file in (self.root / repo_id).glob(pattern):
                file.unlink()
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        self.commits.append(f"{len(self.commits):040x}")
        return SimpleNamespace(oid=self.commits[-1])

    def create_tag(self, repo: str, *, tag: str, revision: str, repo_type: str) -> None:
        self.tags[tag] = revision


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, truth: World) -> Home:
    place = Home(tmp_path_factory.mktemp("home"))
    place.prepare(load_profile("pocket"))
    write_store(LanceStore(place.storage), truth)
    return place


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: fake)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    return fake


@pytest.fixture
def publish(home: Home) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(cli, ["publish", "--home", str(home.path), "--repo", *words])


def test_files_card_and_the_licence_of_every_row_arrive_and_are_tagged(
    hub: FakeHub, publish: Callable[..., Result], truth: World
) -> None:
    done = publish("me/people", "--tag", "v1", "--private")
    assert done.exit_code == 0, done.output
    assert f"{len(IDS)} people" in done.output and "tagged v1" in done.output
    place = hub.root / "me/people"
    rows = pq.read_table(io.BytesIO((place / "provenance.parquet").read_bytes())).to_pylist()
    assert sorted(row["sample_id"] for row in rows) == sorted(IDS)
    assert {(row["generator"], row["image_licence"]) for row in rows} == {("pocket:shipped:0123", "Apache-2.0")}
    licences = dict(
        zip(truth.table.column("sample_id").to_pylist(), truth.table.column("licence").to_pylist(), strict=True)
    )
    assert {row["sample_id"]: row["pose_licence"] for row in rows} == licences
    exported = sum(pq.read_metadata(file).num_rows for file in (place / "data").glob("*.parquet"))
    assert exported == len(IDS) and (place / "README.md").read_text().startswith("---\n")
    assert hub.private == {"me/people": True} and hub.tags == {"v1": hub.commits[0]}


def test_a_tag_is_set_once_and_shards_that_are_gone_leave_the_hub(hub: FakeHub, publish: Callable[..., Result]) -> None:
    assert publish("me/people", "--tag", "v1").exit_code == 0
    old = hub.root / "me/people/data/train-gone.parquet"
    old.touch()
    again = publish("me/people", "--tag", "v1")
    assert again.exit_code == 1 and "has a revision 'v1' already: choose another --tag" in again.output and old.exists()
    assert publish("me/people").exit_code == 0
    assert not old.exists() and len(hub.commits) == 2


def test_what_the_hub_refuses_ends_in_one_line(
    hub: FakeHub, publish: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*names: object, **more: object) -> None:
        raise ConnectionError("no route\nat all")

    for error, words in ((offline, "the hub cannot be reached (ConnectionError)"),):
        monkeypatch.setattr(hub, "create_repo", error)
        found = publish("me/people")
        assert found.exit_code == 1 and words in found.output and len(found.output.strip().splitlines()) == 1
    assert "expected OWNER/NAME" in publish("people").output
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "`hf auth login`, or set HF_TOKEN" in publish("me/people").output
    assert "OWNER/NAME" in CliRunner().invoke(cli, ["publish", "--help"]).output

"""`posedreamer export` from a store, end to end."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.config import load_profile
from posedreamer_assets.export.run import Request, export_dataset
from posedreamer_assets.export.shards import Options, damaged_files
from posedreamer_assets.export.source import StoreReader
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.export.readers import StockBody, read_folder
from posedreamer_assets_tests.export.rows import IDS, World


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, truth: World) -> Home:
    """A home whose second partition was written first."""
    place = Home(tmp_path_factory.mktemp("home"))
    place.prepare(load_profile("pocket"))
    store = LanceStore(place.storage)
    table = truth.table.drop_columns(["row_digest"])
    for start in (4, 0):
        store.replace_partition("dataset", f"procedural-{start // 4:04d}", table.slice(start, 4), input_digest="x")
    return place


def test_rows_of_a_store_come_in_the_order_asked_for(home: Home) -> None:
    reader = StoreReader(LanceStore(home.storage), rows_at_a_time=3)
    assert reader.index().column("sample_id").to_pylist() == IDS
    asked = [IDS[i] for i in (1, 2, 3, 5, 6)]
    assert [n for b in reader.batches(asked) for n in b.column("sample_id").to_pylist()] == asked


def test_a_reader_keeps_to_its_version(tmp_path: Path, truth: World) -> None:
    store = LanceStore(tmp_path)
    table = truth.table.drop_columns(["row_digest"]).slice(0, 4)
    store.replace_partition("dataset", "procedural-0000", table, input_digest="x")
    reader = StoreReader(store)
    store.replace_partition("dataset", "procedural-0000", table.slice(0, 1), input_digest="y")
    assert reader.index().num_rows == 4
    assert sum(batch.num_rows for batch in reader.batches(IDS[:4])) == 4


def test_the_command_exports_goes_on_and_verifies(home: Home, tmp_path: Path, stock_body: StockBody) -> None:
    run = CliRunner()
    command = ["export", "--home", str(home.path), "--format", "folder", "-o", str(tmp_path / "out")]
    first = run.invoke(cli, [*command, "--shard-size", "2"])
    assert "8 samples, 5 shards written, 0 complete" in first.output, first.output
    assert len(list(read_folder(tmp_path / "out", stock_body))) == len(IDS)
    assert "0 shards written, 5 complete" in run.invoke(cli, [*command, "--shard-size", "2"]).output
    assert run.invoke(cli, [*command, "--verify"]).exit_code == 0
    next((tmp_path / "out" / "images").rglob("*.png")).write_bytes(b"")
    failed = run.invoke(cli, [*command, "--verify"])
    assert failed.exit_code == 1
    assert "changed  images/procedural-" in failed.output
    assert "1 shards written, 4 complete" in run.invoke(cli, [*command, "--shard-size", "2"]).output
    assert run.invoke(cli, [*command, "--verify"]).exit_code == 0


def test_the_command_names_what_is_wrong(home: Home, tmp_path: Path) -> None:
    base = ["export", "--home", str(home.path), "-o", str(tmp_path)]
    for arguments, words in (
        (["--format", "hdf5"], "unknown format 'hdf5'"),
        (["--format", "hmr2", "--smpl", "x.npz"], "go together"),
        (["--format", "hmr2", "--split", "dev"], "no rows of split 'dev'"),
    ):
        done = CliRunner().invoke(cli, [*base, *arguments])
        assert done.exit_code == 1
        assert words in done.output


def test_pickles_are_written_on_request_alone(home: Home, tmp_path: Path) -> None:
    profile, store = load_profile("pocket"), LanceStore(home.storage)
    for pickles in (False, True):
        folder = tmp_path / str(pickles)
        export_dataset(store, profile, Request("hmr2", folder), Options(pickles=pickles))
        assert not damaged_files(folder)
        held = any(b".data.pyd" in path.read_bytes() for path in folder.glob("*.tar"))
        assert held is pickles

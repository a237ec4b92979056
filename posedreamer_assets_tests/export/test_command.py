"""`posedreamer export` from a store, end to end."""

from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.records import damaged_files
from posedreamer_assets.export.run import Request, export_dataset
from posedreamer_assets.export.shards import Options
from posedreamer_assets.export.source import StoreReader
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.export.readers import StockBody, read_folder
from posedreamer_assets_tests.export.rows import IDS, World, write_store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, truth: World) -> Home:
    """A home whose second partition was written first."""
    place = Home(tmp_path_factory.mktemp("home"))
    place.prepare(load_profile("pocket"))
    store = LanceStore(place.storage)
    write_store(store, truth)
    return place


def test_rows_of_a_store_come_in_the_order_asked_for(home: Home) -> None:
    reader = StoreReader(LanceStore(home.storage), images_at_a_time=3)
    assert reader.index().column("sample_id").to_pylist() == IDS
    asked = [IDS[i] for i in (1, 2, 3, 5, 6)]
    assert [n for b in reader.batches(asked) for n in b.people.column("sample_id").to_pylist()] == asked


def test_a_reader_joins_each_person_with_its_image(home: Home, truth: World) -> None:
    reader = StoreReader(LanceStore(home.storage), images_at_a_time=3)
    found = {name: image for batch in reader.batches(IDS) for name, image in batch.images.items()}
    assert found == dict(zip(IDS, truth.images.column("image").to_pylist(), strict=True))
    assert reader.index().column("generator").to_pylist() == ["pocket:shipped:0123"] * len(IDS)


def test_a_reader_keeps_to_its_version(tmp_path: Path, truth: World) -> None:
    store = LanceStore(tmp_path)
    write_store(store, truth)
    reader = StoreReader(store)
    for table in ("dataset", "raw_generations"):
        store.delete_partition(table, "procedural-0000")
    assert reader.index().num_rows == len(IDS)
    assert sum(batch.people.num_rows for batch in reader.batches(IDS)) == len(IDS)


def test_images_that_were_made_again_are_refused_unless_a_tag_keeps_them(tmp_path: Path, truth: World) -> None:
    store, profile = LanceStore(tmp_path / "store"), load_profile("pocket")
    write_store(store, truth)
    for table in ("dataset", "raw_generations"):
        store.tag(table, "v1", store.version(table) or 0)
    own = truth.images.drop_columns(["row_digest"]).slice(0, 4)
    again = own.set_column(own.column_names.index("seed"), "seed", pa.array([9] * 4, pa.int64()))
    store.replace_partition("raw_generations", "procedural-0000", again, input_digest="again")
    with pytest.raises(ExportError, match="the image was made again since the dataset was"):
        export_dataset(store, profile, Request("folder", tmp_path / "out"), Options())
    assert not (tmp_path / "out").exists()
    assert export_dataset(store, profile, Request("folder", tmp_path / "out", "v1"), Options()).samples == len(IDS)


def test_the_card_tells_what_the_rows_say_and_not_the_profile(tmp_path: Path, truth: World) -> None:
    """A profile that was changed after the rows were made."""
    store, profile = LanceStore(tmp_path / "store"), load_profile("pocket", {"curation.min_oks": 0.99})
    write_store(store, truth)
    export_dataset(store, profile, Request("coco", tmp_path / "out"), Options())
    card = (tmp_path / "out" / "README.md").read_text()
    assert "at least 0.99" not in card
    assert f"the lowest OKS among them is {truth.table.column('oks').to_numpy().min():.3f}" in card
    assert "| generator | pocket:shipped:0123 8 |" in card
    assert "| name | posedreamer-free-body |" in card
    assert "SMPLX_NEUTRAL" not in card


def test_mean_hands_of_a_body_without_them_are_refused(home: Home, tmp_path: Path) -> None:
    request = Request("humandata", tmp_path / "out", mean_hands=True)
    with pytest.raises(ExportError, match="its mean hands are zero"):
        export_dataset(LanceStore(home.storage), load_profile("pocket"), request, Options())
    assert not (tmp_path / "out").exists()


def test_the_command_exports_goes_on_and_verifies(home: Home, tmp_path: Path, stock_body: StockBody) -> None:
    run = CliRunner()
    command = ["export", "--home", str(home.path), "--format", "folder", "-o", str(tmp_path / "out")]
    first = run.invoke(cli, [*command, "--shard-size", "2"])
    shards = len(list((tmp_path / "out" / ".shards").glob("*.json")))
    assert f"8 samples, {shards} shards written, 0 complete" in first.output, first.output
    assert len(list(read_folder(tmp_path / "out", stock_body))) == len(IDS)
    assert f"0 shards written, {shards} complete" in run.invoke(cli, [*command, "--shard-size", "2"]).output
    assert run.invoke(cli, [*command, "--verify"]).exit_code == 0
    next((tmp_path / "out" / "images").rglob("*.png")).write_bytes(b"")
    failed = run.invoke(cli, [*command, "--verify"])
    assert failed.exit_code == 1
    assert "changed  images/procedural-" in failed.output
    assert f"1 shards written, {shards - 1} complete" in run.invoke(cli, [*command, "--shard-size", "2"]).output
    assert run.invoke(cli, [*command, "--verify"]).exit_code == 0


def test_the_command_names_what_is_wrong(home: Home, tmp_path: Path) -> None:
    base = ["export", "--home", str(home.path), "-o", str(tmp_path)]
    for arguments, words in (
        (["--format", "hdf5"], "unknown format 'hdf5'"),
        (["--format", "hmr2", "--smpl", "x.npz"], "go together"),
        (["--format", "coco", "--split", "dev"], "no rows of split 'dev'"),
    ):
        done = CliRunner().invoke(cli, [*base, *arguments])
        assert done.exit_code == 1
        assert words in done.output


@pytest.mark.parametrize("form", ["hmr2", "humandata"])
def test_the_form_that_the_loaders_read_is_the_default(form: str, home: Home, tmp_path: Path) -> None:
    """And the card says aloud that it holds pickles, or that their own readers find nothing without."""
    profile, store = load_profile("pocket"), LanceStore(home.storage)
    for pickles, options in (
        (True, Options(keypoints_only=True)),
        (False, Options(keypoints_only=True, pickles=False)),
    ):
        folder = tmp_path / str(pickles)
        export_dataset(store, profile, Request(form, folder), options)
        assert not damaged_files(folder)
        if form == "hmr2":
            held = any(b".data.pyd" in path.read_bytes() for path in folder.glob("*.tar"))
        else:
            held = any(b"smplx.npy" in path.read_bytes() for path in folder.rglob("*.npz"))
        assert held is pickles
        card = (folder / "README.md").read_text()
        assert ("hold pickles" in card or "are pickles" in card) is pickles

"""The engine: resumed, checked, listed; the same whatever interrupts it."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.card import describe, statistics
from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.shards import CHECKSUMS, Options, damaged_files, export, finish
from posedreamer_assets.export.subject import Subject
from posedreamer_assets_tests.export.rows import IDS, SPLITS, TableReader, World

SMALL = Options(shard_size=2)


def contents(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def finished(table: pa.Table, subject: Subject, name: str, folder: Path, options: Options = SMALL):
    form = FORMATS[name]
    result = export(TableReader(table), subject, form, folder, options)
    finish(folder, form, result, options, describe(form, result, {"profile": "test"}))
    return result


@pytest.mark.parametrize("name", FORMATS)
def test_equal_rows_give_equal_files(name: str, tmp_path: Path, truth: World, subject: Subject) -> None:
    for folder in ("one", "two"):
        finished(truth.table, subject, name, tmp_path / folder)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("name", FORMATS)
def test_an_interrupted_export_goes_on_and_ends_the_same(
    name: str, tmp_path: Path, truth: World, subject: Subject
) -> None:
    finished(truth.table, subject, name, tmp_path / "whole")
    torn = tmp_path / "torn"
    with pytest.raises(OSError, match="cable"):
        export(TableReader(truth.table, fail_after=5), subject, FORMATS[name], torn, SMALL)
    assert not (torn / CHECKSUMS).exists()
    assert finished(truth.table, subject, name, torn).complete > 0
    assert contents(torn) == contents(tmp_path / "whole")


def test_what_is_complete_is_not_read_again(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth.table, subject, "hmr2", tmp_path)
    reader = TableReader(truth.table)
    assert export(reader, subject, FORMATS["hmr2"], tmp_path, SMALL).written == 0
    assert reader.read == 0


def test_a_missing_or_truncated_file_is_written_again(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth.table, subject, "folder", tmp_path)
    before = contents(tmp_path)
    [first, *_] = (tmp_path / "images").rglob("*.png")
    first.unlink()
    [label, *_] = (tmp_path / "labels").rglob("*.json")
    label.write_bytes(label.read_bytes()[:10])
    assert len(damaged_files(tmp_path)) == 2
    assert finished(truth.table, subject, "folder", tmp_path).written in (1, 2)
    assert contents(tmp_path) == before
    assert not damaged_files(tmp_path)


def test_a_changed_byte_is_found(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth.table, subject, "parquet", tmp_path)
    path = tmp_path / "data" / "train-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert damaged_files(tmp_path) == {"data/train-00001.parquet": "changed"}
    assert finished(truth.table, subject, "parquet", tmp_path).written == 1
    assert not damaged_files(tmp_path)


def test_an_export_that_is_under_way_is_not_a_finished_one(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth.table, subject, "hmr2", tmp_path)
    with pytest.raises(OSError, match="cable"):
        export(TableReader(truth.table, fail_after=0), subject, FORMATS["hmr2"], tmp_path, Options(shard_size=3))
    with pytest.raises(ExportError, match="no finished export"):
        damaged_files(tmp_path)


def test_two_exports_do_not_meet(tmp_path: Path, truth: World, subject: Subject) -> None:
    class Twice(TableReader):
        def batches(self, ids):
            with pytest.raises(ExportError, match="another process"):
                export(TableReader(truth.table), subject, FORMATS["hmr2"], tmp_path, SMALL)
            return super().batches(ids)

    export(Twice(truth.table), subject, FORMATS["hmr2"], tmp_path, SMALL)


def test_a_new_row_rewrites_only_shards_that_it_moves(tmp_path: Path, truth: World, subject: Subject) -> None:
    """The last training sample is new: shards before it stay."""
    last = max(i for i, split in enumerate(SPLITS) if split == "train")
    fewer = truth.table.filter(pa.array([i != last for i in range(len(IDS))]))
    finished(fewer, subject, "hmr2", tmp_path / "grown")
    again = finished(truth.table, subject, "hmr2", tmp_path / "grown")
    assert again.complete >= 2
    finished(truth.table, subject, "hmr2", tmp_path / "fresh")
    assert contents(tmp_path / "grown") == contents(tmp_path / "fresh")


def test_files_of_rows_that_are_gone_are_removed(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth.table, subject, "humandata", tmp_path)
    finished(truth.table.slice(0, 3), subject, "humandata", tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.npz")) == ["test-00000.npz", "train-00000.npz"]


def test_images_of_rows_that_are_gone_are_removed(tmp_path: Path, truth: World, subject: Subject) -> None:
    """Also where the shard that held them goes on with other rows."""
    finished(truth.table, subject, "coco", tmp_path)
    finished(truth.table.slice(0, 3), subject, "coco", tmp_path)
    left = sorted(str(p.relative_to(tmp_path / "images").with_suffix("")) for p in (tmp_path / "images").rglob("*.*g"))
    assert left == IDS[:3]


def test_chosen_splits_alone_are_written(tmp_path: Path, truth: World, subject: Subject) -> None:
    result = finished(truth.table, subject, "hmr2", tmp_path, Options(splits=("val", "test")))
    assert result.samples == 3
    assert sorted(p.name for p in tmp_path.glob("*.tar")) == ["test-00000.tar", "val-00000.tar"]
    with pytest.raises(ExportError, match="no rows of split 'dev'"):
        finished(truth.table, subject, "hmr2", tmp_path, Options(splits=("dev",)))


def test_other_folders_are_left_alone(tmp_path: Path, truth: World, subject: Subject) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ExportError, match="no export"):
        finished(truth.table, subject, "hmr2", tmp_path)
    finished(truth.table, subject, "hmr2", tmp_path / "out")
    with pytest.raises(ExportError, match="in format 'hmr2'"):
        finished(truth.table, subject, "coco", tmp_path / "out")
    with pytest.raises(ExportError, match="no finished export"):
        damaged_files(tmp_path)


def test_a_reader_that_gives_other_rows_is_found_out(tmp_path: Path, truth: World, subject: Subject) -> None:
    class Shuffled(TableReader):
        def batches(self, ids):
            return super().batches(list(ids)[::-1])

    class Short(TableReader):
        def batches(self, ids):
            return super().batches(list(ids)[:-1])

    for reader, words in ((Shuffled, "got sample"), (Short, "no sample")):
        with pytest.raises(ExportError, match=words):
            export(reader(truth.table), subject, FORMATS["hmr2"], tmp_path / reader.__name__)


def test_checksums_are_what_sha256sum_checks(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth.table, subject, "bedlam", tmp_path)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", CHECKSUMS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    listed = {line.partition("  ")[2] for line in (tmp_path / CHECKSUMS).read_text().splitlines()}
    visible = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and ".shards" not in p.parts}
    assert visible - listed == {CHECKSUMS, "export.json"}


def test_the_card_counts_what_was_written(tmp_path: Path, truth: World, subject: Subject) -> None:
    result = finished(truth.table, subject, "parquet", tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert f"{len(IDS)} images of 224 x 256 pixels. Splits: train 5, test 2, val 1." in card
    assert "| CC-BY-4.0 | 4 |" in card
    assert "path: data/val-*.parquet" in card
    median = np.median(truth.table.column("oks").to_numpy())
    assert f"median {median:.3f}" in statistics(result.index)["OKS of the judging detector"]


@pytest.mark.parametrize("name", ["parquet", "humandata", "folder"])
def test_croissant_lists_every_file_with_its_checksum(
    name: str, tmp_path: Path, truth: World, subject: Subject
) -> None:
    result = finished(truth.table, subject, name, tmp_path)
    page = json.loads((tmp_path / "croissant.json").read_text())
    objects = {d["contentUrl"]: d["sha256"] for d in page["distribution"] if d["@type"] == "cr:FileObject"}
    single = {f.path: f.sha256 for f in result.files if not f.path.startswith(("images/", "labels/"))}
    assert objects == single
    assert set(page["license"]) == {"CC0-1.0", "CC-BY-4.0"}


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_reads_the_records(tmp_path: Path, truth: World, subject: Subject) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    finished(truth.table, subject, "parquet", tmp_path)
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = {r["samples/sample_id"].decode(): r for r in dataset.records("samples")}
    assert sorted(records) == IDS
    for i, name in enumerate(IDS):
        assert records[name]["samples/image"].size == (224, 256)
        np.testing.assert_allclose(records[name]["samples/betas"], truth.params.betas[i], atol=1e-6)

"""The engine: resumed, checked, listed; the same whatever interrupts it."""

import dataclasses
import hashlib
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.card import describe, statistics
from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.plan import plan_shards, stable_numbers
from posedreamer_assets.export.records import CHECKSUMS, damaged_files
from posedreamer_assets.export.shards import Format, LabelFiles, Options, export, finish
from posedreamer_assets.export.subject import Subject
from posedreamer_assets_tests.export.rows import IDS, TableReader, World

SMALL = Options(shard_size=2, keypoints_only=True)


def contents(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def finished(truth: World, subject: Subject, name: str, folder: Path, options: Options = SMALL):
    form = FORMATS[name]
    result = export(TableReader(truth), subject, form, folder, options)
    finish(folder, form, result, describe(form, result, {"dataset": 3, "raw_generations": 5}))
    return result


def first(truth: World, count: int) -> World:
    """The first rows alone."""
    return dataclasses.replace(truth, table=truth.table.slice(0, count))


@pytest.mark.parametrize("name", FORMATS)
def test_equal_rows_give_equal_files(name: str, tmp_path: Path, truth: World, subject: Subject) -> None:
    for folder in ("one", "two"):
        finished(truth, subject, name, tmp_path / folder)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("name", FORMATS)
def test_an_interrupted_export_goes_on_and_ends_the_same(
    name: str, tmp_path: Path, truth: World, subject: Subject
) -> None:
    finished(truth, subject, name, tmp_path / "whole")
    torn = tmp_path / "torn"
    with pytest.raises(OSError, match="cable"):
        export(TableReader(truth, fail_after=5), subject, FORMATS[name], torn, SMALL)
    assert not (torn / CHECKSUMS).exists()
    assert finished(truth, subject, name, torn).complete > 0
    assert contents(torn) == contents(tmp_path / "whole")


def test_what_is_complete_is_not_read_again(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "hmr2", tmp_path)
    reader = TableReader(truth)
    assert export(reader, subject, FORMATS["hmr2"], tmp_path, SMALL).written == 0
    assert reader.read == 0


def test_a_missing_or_truncated_file_is_written_again(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "folder", tmp_path)
    before = contents(tmp_path)
    [first, *_] = (tmp_path / "images").rglob("*.png")
    first.unlink()
    [label, *_] = (tmp_path / "labels").rglob("*.json")
    label.write_bytes(label.read_bytes()[:10])
    assert len(damaged_files(tmp_path)) == 2
    assert finished(truth, subject, "folder", tmp_path).written in (1, 2)
    assert contents(tmp_path) == before
    assert not damaged_files(tmp_path)


def test_a_changed_byte_is_found(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "parquet", tmp_path)
    path = max((tmp_path / "data").glob("train-*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    before = path.stat().st_size
    assert damaged_files(tmp_path) == {f"data/{path.name}": "changed"}
    assert finished(truth, subject, "parquet", tmp_path).written == 1
    assert not damaged_files(tmp_path)
    assert path.stat().st_size == before


def test_damage_of_the_same_size_is_mended_without_being_asked_for(
    tmp_path: Path, truth: World, subject: Subject
) -> None:
    finished(truth, subject, "coco", tmp_path)
    before = contents(tmp_path)
    [image, *_] = (tmp_path / "images").rglob("*.jpg")
    image.write_bytes(bytes(image.stat().st_size))
    assert finished(truth, subject, "coco", tmp_path).written == 1
    assert contents(tmp_path) == before


def test_an_export_that_is_under_way_is_not_a_finished_one(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "hmr2", tmp_path)
    with pytest.raises(OSError, match="cable"):
        other = Options(shard_size=3, keypoints_only=True)
        export(TableReader(truth, fail_after=0), subject, FORMATS["hmr2"], tmp_path, other)
    with pytest.raises(ExportError, match="no finished export"):
        damaged_files(tmp_path)


def test_two_exports_do_not_meet(tmp_path: Path, truth: World, subject: Subject) -> None:
    class Twice(TableReader):
        def batches(self, image_ids):
            with pytest.raises(ExportError, match="another process"):
                export(TableReader(truth), subject, FORMATS["hmr2"], tmp_path, SMALL)
            return super().batches(image_ids)

    export(Twice(truth), subject, FORMATS["hmr2"], tmp_path, SMALL)


def test_a_new_row_rewrites_its_own_shard(tmp_path: Path, truth: World, subject: Subject) -> None:
    """Whichever it is; and what was grown is what a fresh export gives."""
    options = Options(shard_size=4, keypoints_only=True)
    finished(truth, subject, "coco", tmp_path / "fresh", options)
    for missing in range(len(IDS)):
        fewer = dataclasses.replace(truth, table=truth.table.filter(pa.array([i != missing for i in range(len(IDS))])))
        grown = tmp_path / f"grown-{missing}"
        finished(fewer, subject, "coco", grown, options)
        # A shard may be parted in two by its fifth image: then both halves are new.
        assert finished(truth, subject, "coco", grown, options).written <= 2
        assert contents(grown) == contents(tmp_path / "fresh")


def index_of(images: list[str]) -> pa.Table:
    columns = {"image_id": images, "sample_id": images, "row_digest": images}
    return pa.table({**columns, "split": ["train"] * len(images)})


def test_a_change_of_few_images_touches_few_shards() -> None:
    """132 shards' worth of rows; numbers of images, and so annotations, stay too."""
    ids = [f"procedural-{i // 256:04d}/{i % 256:06d}" for i in range(13_200)]
    whole = {p.name: p for p in plan_shards(index_of(ids), 100, {})}
    assert sorted(name for p in whole.values() for name in p.people) == ids
    assert max(len(p.people) for p in whole.values()) <= 100
    assert len(whole) < 3 * 132
    rest = {
        p.name: p for p in plan_shards(index_of([n for i, n in enumerate(ids) if i not in (7, 4000, 13_000)]), 100, {})
    }
    changed = [name for name, p in rest.items() if name not in whole or whole[name].digest != p.digest]
    assert len(changed) <= 3
    assert all(whole[p.name].numbers[n] == p.numbers[n] for p in rest.values() if p.name in whole for n in p.people)


def test_numbers_are_unique_where_hashes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedreamer_assets.export.plan._LARGEST_NUMBER", 50)
    names = [f"image {i}" for i in range(40)]
    numbers = stable_numbers(names)
    assert len(set(numbers.values())) == 40
    assert set(numbers.values()) <= set(range(1, 50))


def test_files_of_rows_that_are_gone_are_removed(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "humandata", tmp_path)
    finished(first(truth, 3), subject, "humandata", tmp_path)
    left = sorted(p.name for p in (tmp_path / "preprocessed_datasets").iterdir())
    assert left == ["test-all.npz", "train-all.npz"]


def test_images_of_rows_that_are_gone_are_removed(tmp_path: Path, truth: World, subject: Subject) -> None:
    """Also where the shard that held them goes on with other rows."""
    finished(truth, subject, "coco", tmp_path)
    finished(first(truth, 3), subject, "coco", tmp_path)
    left = sorted(str(p.relative_to(tmp_path / "images").with_suffix("")) for p in (tmp_path / "images").rglob("*.*g"))
    assert left == IDS[:3]


def test_chosen_splits_alone_are_written(tmp_path: Path, truth: World, subject: Subject) -> None:
    chosen = dataclasses.replace(SMALL, splits=("val", "test"))
    result = finished(truth, subject, "hmr2", tmp_path, chosen)
    assert result.samples == 3
    assert sorted(p.name for p in tmp_path.glob("*.tar")) == ["test-all.tar", "val-all.tar"]


def test_a_narrower_split_does_not_delete_the_others(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "coco", tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ExportError, match="holds split test, val too, which this would remove"):
        finished(truth, subject, "coco", tmp_path, dataclasses.replace(SMALL, splits=("train",)))
    assert contents(tmp_path) == before
    everything = dataclasses.replace(SMALL, splits=("train", "test", "val"))
    assert finished(truth, subject, "coco", tmp_path, everything).written == 0


def test_a_wider_split_keeps_what_is_there(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "coco", tmp_path, dataclasses.replace(SMALL, splits=("train",)))
    written = finished(truth, subject, "coco", tmp_path)
    assert written.written == 2  # test and val


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("hmr2", Options(), "no SMPL body"),
        ("coco", Options(splits=("dev",)), "no rows of split 'dev'"),
    ],
)
def test_a_refused_export_leaves_nothing(
    name: str, options: Options, words: str, tmp_path: Path, truth: World, subject: Subject
) -> None:
    for folder in (tmp_path / "new" / "er", tmp_path / "empty"):
        with pytest.raises(ExportError, match=words):
            finished(truth, subject, name, folder, options)
    assert not list(tmp_path.iterdir())
    finished(truth, subject, "coco", tmp_path / "whole")
    before = contents(tmp_path)
    with pytest.raises(ExportError, match=r"holds split|no SMPL"):
        finished(truth, subject, name, tmp_path / "whole", options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a/../../b", "two\nlines", ".hidden", ""])
def test_ids_that_leave_the_folder_are_refused(name: str, tmp_path: Path, truth: World, subject: Subject) -> None:
    place = truth.table.column_names.index("image_id")
    ids = pa.array([name, *IDS[1:]], pa.string())
    evil = dataclasses.replace(truth, table=truth.table.set_column(place, truth.table.schema.field(place), ids))
    evil = dataclasses.replace(
        evil, images=truth.images.set_column(truth.images.column_names.index("image_id"), "image_id", ids)
    )
    with pytest.raises(ExportError, match="cannot be the name of a file"):
        finished(evil, subject, "coco", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_records_that_name_files_elsewhere_are_refused(tmp_path: Path, truth: World, subject: Subject) -> None:
    """Who is handed an export by somebody else must not lose files by going on with it."""
    precious = tmp_path / "thesis.tex"
    precious.write_text("dear")
    finished(truth, subject, "bedlam", tmp_path / "out")
    path = next((tmp_path / "out" / ".shards").glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"former": ["../thesis.tex"]}))
    with pytest.raises(ExportError, match="cannot be the name of a file"):
        finished(truth, subject, "bedlam", tmp_path / "out")
    assert precious.read_text() == "dear"
    (tmp_path / "out" / CHECKSUMS).write_text("00  ../thesis.tex\n")
    with pytest.raises(ExportError, match="cannot be the name of a file"):
        damaged_files(tmp_path / "out")


def test_other_folders_are_left_alone(tmp_path: Path, truth: World, subject: Subject) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ExportError, match="no export"):
        finished(truth, subject, "hmr2", tmp_path)
    finished(truth, subject, "hmr2", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "thesis.tex"]
    with pytest.raises(ExportError, match="in format 'hmr2'"):
        finished(truth, subject, "coco", tmp_path / "out")
    with pytest.raises(ExportError, match="no finished export"):
        damaged_files(tmp_path)


def test_a_reader_that_gives_other_rows_is_found_out(tmp_path: Path, truth: World, subject: Subject) -> None:
    class Shuffled(TableReader):
        def batches(self, image_ids):
            return super().batches(list(image_ids)[::-1])

    class Short(TableReader):
        def batches(self, image_ids):
            return super().batches(list(image_ids)[:-1])

    for reader, words in ((Shuffled, "got sample"), (Short, "no sample")):
        with pytest.raises(ExportError, match=words):
            export(reader(truth), subject, FORMATS["coco"], tmp_path / reader.__name__)


def test_checksums_are_what_sha256sum_checks(tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, "bedlam", tmp_path)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", CHECKSUMS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    listed = {line.partition("  ")[2] for line in (tmp_path / CHECKSUMS).read_text().splitlines()}
    visible = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and ".shards" not in p.parts}
    assert visible - listed == {CHECKSUMS, "export.json"}


def test_the_card_counts_what_was_written(tmp_path: Path, truth: World, subject: Subject) -> None:
    result = finished(truth, subject, "parquet", tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert (
        f"{len(IDS)} people in {len(IDS)} images of 224 x 256 pixels. Splits: train 5, test 2, val 1; all frames"
        in card
    )
    assert "| poses | CC-BY-4.0 | 4 |" in card
    assert "| images | Apache-2.0 | 8 |" in card
    assert "| captions | Apache-2.0 | 8 |" in card
    assert "path: data/val-*.parquet" in card
    median = np.median(truth.table.column("oks").to_numpy())
    assert f"median {median:.3f}" in statistics(result.index)["OKS of the judging detector"]


EVIL = "<script>alert(1)</script> | [a](javascript:b)\n# c `d`"


def test_names_and_licences_of_the_table_are_escaped(tmp_path: Path, truth: World, subject: Subject) -> None:
    """A clip, a licence and a generator may be called anything; card and metadata are shown in browsers."""
    table = truth.table
    for name in ("family", "licence", "source", "caption"):
        table = table.set_column(table.column_names.index(name), table.schema.field(name), pa.array([EVIL] * len(IDS)))
    place = truth.images.column_names.index("generator")
    images = truth.images.set_column(place, "generator", pa.array([EVIL] * len(IDS)))
    for form in ("parquet", "folder"):
        finished(dataclasses.replace(truth, table=table, images=images), subject, form, tmp_path / form)
        card = (tmp_path / form / "README.md").read_text()
        front, text = card.split("---\n", 2)[1:]
        assert "<script" not in text
        assert "](javascript" not in text
        assert [line for line in text.splitlines() if line.startswith("# ")] == ["# PoseDreamer dataset"]
        assert yaml.safe_load(front)["license"] == "other"
        page = (tmp_path / form / "croissant.json").read_text()
        assert "<script" not in page
        assert any(EVIL in name for name in json.loads(page)["license"])
        rows = [line for line in text.splitlines() if "&lt;script&gt;" in line and line.startswith("|")]
        assert rows
        assert {re.sub(r"\\.", "", line).count("|") for line in rows} <= {3, 4}  # no column more


@pytest.mark.parametrize("name", FORMATS)
def test_every_label_file_names_the_body(name: str, tmp_path: Path, truth: World, subject: Subject) -> None:
    finished(truth, subject, name, tmp_path)
    identity = subject.identity
    assert (identity.name, identity.vertices) == ("posedreamer-free-body", 13718)
    for path in (
        p for p in tmp_path.rglob("*") if p.is_file() and p.suffix in (".npz", ".tar", ".json", ".parquet", ".md")
    ):
        if ".shards" in path.parts:
            continue
        data = path.read_bytes()
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=name == "humandata") as arrays:
                held = arrays["misc"].item() if name == "humandata" else arrays
                data = " ".join(str(held[f"body_{k}"]) for k in vars(identity)).encode()
        assert identity.sha256.encode() in data
        assert identity.name.encode() in data
        assert str(identity.vertices).encode() in data or path.suffix == ".tar"  # a pickled number
        assert identity.licence.encode() in data
        assert b"SMPLX_NEUTRAL" not in data


@pytest.mark.parametrize("name", ["parquet", "humandata", "folder"])
def test_croissant_lists_every_file_with_its_checksum(
    name: str, tmp_path: Path, truth: World, subject: Subject
) -> None:
    result = finished(truth, subject, name, tmp_path)
    page = json.loads((tmp_path / "croissant.json").read_text())
    objects = {d["contentUrl"]: d["sha256"] for d in page["distribution"] if d["@type"] == "cr:FileObject"}
    single = {f.path: f.sha256 for f in result.files if not f.path.endswith((".png", ".jpg")) and name != "folder"}
    assert objects == single
    licences = {"poses: CC0-1.0", "poses: CC-BY-4.0", "images: Apache-2.0", "captions: Apache-2.0"}
    assert {*licences, f"body: {subject.identity.licence}"} == set(page["license"])


def test_a_format_that_nobody_else_knows_of_is_described(tmp_path: Path, truth: World, subject: Subject) -> None:
    def write(batches, shard) -> None:
        for samples in batches:
            shard.put_images(samples)
            for image, people in samples.people.items():
                shard.put(f"words/{image}.words", str(len(people)).encode())

    labels = LabelFiles("words/**/*.words", about="how many people there are", per_image=True)
    form = Format("words", "words", 2, write, pixels="none", labels=labels)
    result = export(TableReader(truth), subject, form, tmp_path, SMALL)
    finish(tmp_path, form, result, describe(form, result, {"dataset": 3, "raw_generations": 5}))
    page = json.loads((tmp_path / "croissant.json").read_text())
    found = {d["@id"]: d for d in page["distribution"]}
    assert found["labels"]["includes"] == ["words/**/*.words"] and found["labels"]["description"] == labels.about
    assert not any(d["@type"] == "cr:FileObject" for d in found.values())
    suffixes = {Path(file.path).suffix for file in result.files} - {".words"}
    assert [r["@id"] for r in page["recordSet"]] == [f"pictures{suffix}" for suffix in sorted(suffixes)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_mlcroissant_finds_no_errors_and_reads_each_record_set(
    name: str, tmp_path: Path, truth: World, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    # It keeps what it took out of a tar under the tar's name, whatever dataset that was of.
    from etils import epath

    monkeypatch.setattr("mlcroissant._src.operation_graph.operations.extract.EXTRACT_PATH", epath.Path(tmp_path / "c"))
    finished(truth, subject, name, tmp_path)
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    sets = {s.id: list(dataset.records(s.id)) for s in dataset.metadata.record_sets}
    assert all(sets.values())
    pictures = [record[f"{s}/image"] for s, found in sets.items() if s.startswith("pictures") for record in found]
    if name != "parquet":
        assert len(pictures) == len(IDS)
        assert {picture.size for picture in pictures} == {(224, 256)}


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_reads_the_records(tmp_path: Path, truth: World, subject: Subject) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    finished(truth, subject, "parquet", tmp_path)
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    records = {r["samples/sample_id"].decode(): r for r in dataset.records("samples")}
    assert sorted(records) == IDS
    for i, name in enumerate(IDS):
        assert records[name]["samples/image"].size == (224, 256)
        np.testing.assert_allclose(records[name]["samples/betas"], truth.params.betas[i], atol=1e-6)

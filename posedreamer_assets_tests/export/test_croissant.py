"""Croissant's description of an export, read by its own library."""

import json
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.export.card import describe
from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.shards import Format, LabelFiles, export, finish
from posedreamer_assets.export.subject import Subject
from posedreamer_assets_tests.export.rows import IDS, TableReader, World
from posedreamer_assets_tests.export.test_shards import SMALL, finished


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

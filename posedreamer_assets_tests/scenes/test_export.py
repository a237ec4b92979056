"""Exports of scenes: read back by pycocotools and held against the tables; what is complete is not written again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from PIL import Image
from pycocotools.coco import COCO

from posedreamer_assets.cli.export_command import export_command
from posedreamer_assets.errors import ConfigError, ExportError
from posedreamer_assets.export import scenes
from posedreamer_assets.export.scenes import export_scenes
from posedreamer_assets.pipeline.studies import scene_stages
from posedreamer_assets.scenes.rle import decode_rle
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import decode
from posedreamer_assets_tests.planted_faults.faults import with_column
from posedreamer_assets_tests.scenes.conftest import KEYS, Study

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def read(folder: Path, key: str) -> Any:
    return COCO(str(folder / "annotations" / f"person_keypoints_{key}.json"))


@pytest.mark.parametrize(("source", "stage", "key"), [("ds", "ds", "scenes-0000"), ("dm", "dm", "photos-0000")])
def test_coco_files_say_what_the_tables_say(study: Study, tmp_path: Path, source: str, stage: str, key: str) -> None:
    done = export_scenes(study.store, study.profile, source, "coco", tmp_path)
    images = {row["sample_id"]: row for row in study.rows(f"{stage}/scene_images").to_pylist()}
    people = study.rows(f"{stage}/scene_people").to_pylist()
    assert (done.images, done.people, done.written) == (len(images), len(people), 1)
    coco = read(tmp_path, key)
    photos = {row["sample_id"]: row for row in study.rows("photos/annotated_photos").to_pylist()}
    by_image = {entry["file_name"].removesuffix(".png"): entry for entry in coco.imgs.values()}
    assert set(by_image) == set(images)
    for name, row in images.items():
        about = photos.get(row["photo_id"], {"split": None, "licence": "Apache-2.0 (made by this project)"})
        assert all(by_image[name][column] == about[column] for column in ("split", "licence"))
        shown = np.asarray(Image.open(tmp_path / "images" / f"{name}.png"))
        assert np.array_equal(shown, decode(row["image"]))
        own = [person for person in people if person["image_id"] == name]
        found = [a for a in coco.loadAnns(coco.getAnnIds(by_image[name]["id"])) if not a["iscrowd"]]
        assert len(found) == len(own)
        for person, annotation in zip(own, found, strict=True):
            check_person(coco, decode(row["instances"]), person, annotation)


def check_person(coco: Any, instances: np.ndarray, person: dict[str, Any], annotation: dict[str, Any]) -> None:
    points = np.array(annotation["keypoints"]).reshape(17, 3)
    stored = np.array(person["keypoints_2d"]).reshape(17, 2)
    there = points[:, 2] > 0
    assert points[there, :2] == pytest.approx(stored[there] - 0.5, abs=0.006)
    assert (points[:, 2] == 2).tolist() == [bool(v) for v in np.array(person["keypoints_visible"]) & there]
    assert annotation["num_keypoints"] == there.sum()
    assert annotation["occluded_by"] == person["occluded_by"] and annotation["origin"] == person["origin"]
    if not annotation["segmentation"]:
        return
    mask = coco.annToMask(annotation).astype(bool)
    assert annotation["area"] == mask.sum()
    if person["origin"] == "synthetic":
        assert np.array_equal(mask, instances == person["person"] + 1)
        assert mask.sum() == person["pixels_visible"]
    else:
        assert not (mask & (instances > 0)).any()


def test_styled_images_have_the_labels_of_their_mixtures(study: Study, tmp_path: Path) -> None:
    export_scenes(study.store, study.profile, "dm", "coco", tmp_path / "dm")
    export_scenes(study.store, study.profile, "style", "coco", tmp_path / "style")
    plain, styled = (read(tmp_path / name, "photos-0000") for name in ("dm", "style"))
    assert plain.anns == styled.anns and plain.imgs == styled.imgs
    names = [entry["file_name"] for entry in plain.imgs.values()]
    pictures = [[(tmp_path / of / "images" / name).read_bytes() for name in names] for of in ("dm", "style")]
    assert pictures[0] != pictures[1]


def test_people_who_are_not_annotated_are_a_crowd(study: Study, tmp_path: Path) -> None:
    photos = {row["sample_id"]: row for row in study.rows("photos/annotated_photos").to_pylist()}
    export_scenes(study.store, study.profile, "dm", "coco", tmp_path)
    coco = read(tmp_path, "photos-0000")
    crowds = {a["image_id"]: a for a in coco.anns.values() if a["iscrowd"]}
    for row in study.rows("dm/scene_images").to_pylist():
        (entry,) = [e for e in coco.imgs.values() if e["file_name"] == f"{row['sample_id']}.png"]
        ignored = (decode(photos[row["photo_id"]]["ignore_mask"]) > 0) & (decode(row["instances"]) == 0)
        assert (entry["id"] in crowds) == bool(ignored.any())
        if ignored.any():
            assert np.array_equal(coco.annToMask(crowds[entry["id"]]).astype(bool), ignored)


def test_a_plain_folder_has_the_rows(study: Study, tmp_path: Path) -> None:
    export_scenes(study.store, study.profile, "ds", "folder", tmp_path)
    for row in study.rows("ds/scene_images").to_pylist():
        label = json.loads((tmp_path / "labels" / f"{row['sample_id']}.json").read_text())
        assert (tmp_path / "images" / f"{row['sample_id']}.png").read_bytes() == row["image"]
        for person in label["people"]:
            assert np.array_equal(decode_rle(person["mask"]), decode(row["instances"]) == person["person"] + 1)
        assert label["body"]["name"] and label["ignored"] is None and label["split"] is None


def test_what_is_complete_is_not_written_again_and_what_is_damaged_is(study: Study, tmp_path: Path) -> None:
    export_scenes(study.store, study.profile, "ds", "coco", tmp_path)
    place = tmp_path / "annotations" / "person_keypoints_scenes-0000.json"
    whole, written = place.read_bytes(), place.stat().st_mtime_ns
    again = export_scenes(study.store, study.profile, "ds", "coco", tmp_path)
    assert (again.written, again.complete) == (0, 1) and place.stat().st_mtime_ns == written
    place.write_bytes(whole[:-100])
    assert export_scenes(study.store, study.profile, "ds", "coco", tmp_path).written == 1
    assert place.read_bytes() == whole


def test_a_person_without_a_mask_has_the_area_that_cocos_tools_assume() -> None:
    person = dict.fromkeys(SCHEMAS["scene_people"].names)
    person |= {"bbox": [1.0, 2.0, 10.0, 20.0], "keypoints_2d": [0.0] * 34, "keypoints_visible": [False] * 17}
    person |= {
        "mpii_2d": [0.0] * 32,
        "mpii_in_frame": [False] * 16,
        "mpii_visible": [False] * 16,
        "width": 9,
        "height": 9,
    }
    found = scenes._annotation(person, None)
    assert found["area"] == pytest.approx(0.53 * 200) and found["segmentation"] == []


def copied(study: Study, folder: Path, without: tuple[str, str] | None = None) -> LanceStore:
    """The study's tables in another store, without the partition of one table."""
    store = LanceStore(str(folder))
    for stage in scene_stages((), ()):
        rows, key = study.rows(stage.key), KEYS[stage.groups[0]]
        if (stage.table, key) != without:
            store.replace_partition(str(stage.table), key, rows, input_digest="made")
    return store


@pytest.mark.parametrize("table", ["scene_people", "annotated_photos", "photo_people"])
def test_what_a_stopped_run_left_incomplete_is_not_written(study: Study, tmp_path: Path, table: str) -> None:
    store = copied(study, tmp_path / "store", (table, "photos-0000"))
    with pytest.raises(ExportError, match=f"no photo partition is in all of .*{table}"):
        export_scenes(store, study.profile, "dm", "coco", tmp_path / "out")
    assert export_scenes(store, study.profile, "ds", "coco", tmp_path / "out").written == 1


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("annotated_photos", "licence", "another"), ("photo_people", "person_mask", None), ("scene_images", "variant", 1)],
)
def test_whatever_is_written_is_written_again_when_it_changes(
    study: Study, tmp_path: Path, table: str, column: str, value: object
) -> None:
    store, out = copied(study, tmp_path / "store"), tmp_path / "out"
    assert export_scenes(store, study.profile, "style", "folder", out).written == 1
    assert export_scenes(store, study.profile, "style", "folder", out).written == 0
    rows = store.read(table, ["photos-0000"])
    rows = with_column(rows, column, [value] * rows.num_rows)
    store.replace_partition(table, "photos-0000", rows, input_digest="made again")
    assert export_scenes(store, study.profile, "style", "folder", out).written == 1


def test_an_image_whose_people_are_not_there_is_named(study: Study, tmp_path: Path) -> None:
    store = copied(study, tmp_path / "store")
    rows = study.rows("ds/scene_people")
    name = rows.column("image_id")[0].as_py()
    kept = rows.filter(pc.field("image_id") != name)
    store.replace_partition("scene_people", "scenes-0000", kept, input_digest="made again")
    with pytest.raises(ExportError, match=f"{name}: scene_people has nobody of it"):
        export_scenes(store, study.profile, "ds", "coco", tmp_path / "out")


def test_a_few_images_are_held_at_a_time(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    export_scenes(study.store, study.profile, "dm", "coco", whole)
    monkeypatch.setattr(scenes, "_AT_ONCE", 2)
    partition = scenes.Partition(study.store, "photos-0000", "dm")
    assert [scene.image["sample_id"] for scene in partition.scenes()] == partition.images and len(partition.images) > 2
    export_scenes(study.store, study.profile, "dm", "coco", parts)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(parts) for path in parts.rglob("*") if path.is_file())
    assert all((whole / name).read_bytes() == (parts / name).read_bytes() for name in files)


@pytest.mark.parametrize(
    "option",
    [
        *(("--split", "test"), ("--shard-size", "3"), ("--version", "1"), ("--keypoints-only",), ("--mean-hands",)),
        *(("--smpl", "a.npz"), ("--smpl-transfer", "b.npz"), ("--verify",)),
    ],
)
def test_options_of_the_dataset_are_refused_with_scenes(option: tuple[str, ...], tmp_path: Path) -> None:
    found = CliRunner().invoke(
        export_command, ["--format", "coco", "--of", "ds", "-o", str(tmp_path), "--home", str(tmp_path), *option]
    )
    assert isinstance(found.exception, ConfigError) and f"takes no {option[0]}:" in str(found.exception)


def test_unknown_sources_and_formats_are_refused(study: Study, tmp_path: Path) -> None:
    for source, form in (("ds", "hmr2"), ("real", "coco")):
        with pytest.raises(ExportError, match=r"expected one of ds, dm, style as coco or folder"):
            export_scenes(study.store, study.profile, source, form, tmp_path)

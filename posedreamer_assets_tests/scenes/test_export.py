"""Exports of scenes: read back by pycocotools and held against the tables; what is complete is not written again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.scenes import export_scenes
from posedreamer_assets.scenes.rle import decode_rle
from posedreamer_assets.tables.images import decode
from posedreamer_assets_tests.scenes.conftest import Study

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
    by_image = {entry["file_name"].removesuffix(".png"): entry for entry in coco.imgs.values()}
    assert set(by_image) == set(images)
    for name, row in images.items():
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
        assert label["body"]["name"] and label["ignored"] is None


def test_what_is_complete_is_not_written_again_and_what_is_damaged_is(study: Study, tmp_path: Path) -> None:
    export_scenes(study.store, study.profile, "ds", "coco", tmp_path)
    place = tmp_path / "annotations" / "person_keypoints_scenes-0000.json"
    whole, written = place.read_bytes(), place.stat().st_mtime_ns
    again = export_scenes(study.store, study.profile, "ds", "coco", tmp_path)
    assert (again.written, again.complete) == (0, 1) and place.stat().st_mtime_ns == written
    place.write_bytes(whole[:-100])
    assert export_scenes(study.store, study.profile, "ds", "coco", tmp_path).written == 1
    assert place.read_bytes() == whole


def test_unknown_sources_and_formats_are_refused(study: Study, tmp_path: Path) -> None:
    for source, form in (("ds", "hmr2"), ("real", "coco")):
        with pytest.raises(ExportError, match=r"expected one of ds, dm, style as coco or folder"):
            export_scenes(study.store, study.profile, source, form, tmp_path)

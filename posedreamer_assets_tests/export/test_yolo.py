"""YOLO pose labels, read back as the format's description says."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from posedreamer_assets.body.model import load_body
from posedreamer_assets.export.subject import Subject
from posedreamer_assets.export.yolo import texts
from posedreamer_assets_tests.export.rows import IDS, World
from posedreamer_assets_tests.export.test_shards import finished

# COCO's keypoint -> SMPL-X's joint, for those that are joints of both.
JOINTS = {5: 16, 6: 17, 7: 18, 8: 19, 9: 20, 10: 21, 11: 1, 12: 2, 13: 4, 14: 5, 15: 7, 16: 8}


def read(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
    """Box (4) and keypoints (17, 3) in pixels of each image's one person, and the split, by image id."""
    description = yaml.safe_load((folder / "data.yaml").read_text())
    assert description["names"] == {0: "person"}
    points, dimensions = description["kpt_shape"]
    found = {}
    for split in ("train", "val", "test"):
        top = folder / description[split]
        for image in sorted(path for path in top.rglob("*") if path.is_file()):
            label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
            (line,) = label.read_text().splitlines()
            numbers = np.array(line.split(), float)
            assert len(numbers) == 5 + points * dimensions
            assert numbers[0] == 0
            with Image.open(image) as picture:
                size = np.array(picture.size)
            keypoints = numbers[5:].reshape(points, dimensions)
            assert (numbers[1:5] >= 0).all() and (numbers[1:5] <= 1).all()
            assert (keypoints[:, :2] >= 0).all() and (keypoints[:, :2] <= 1).all()
            keypoints[:, :2] *= size
            found[str(image.relative_to(top).with_suffix(""))] = (numbers[1:5] * [*size, *size], keypoints, split)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, truth: World, subject: Subject) -> Path:
    place = tmp_path_factory.mktemp("yolo")
    finished(truth, subject, "yolo", place)
    return place


def test_people_are_where_the_camera_sees_them(folder: Path, truth: World) -> None:
    found, pixels = read(folder), truth.cameras.project(load_body().joints(truth.params))
    assert sorted(found) == sorted(IDS)
    seen = 0
    for i, name in enumerate(IDS):
        box, keypoints, split = found[name]
        row = truth.table.slice(i, 1).to_pylist()[0]
        assert split == row["split"]
        x, y, width, height = row["bbox"]
        assert box == pytest.approx([x + width / 2, y + height / 2, width, height], abs=0.01)
        for point, joint in JOINTS.items():
            inside = (pixels[i, joint] >= 0).all() and (pixels[i, joint] < (row["width"], row["height"])).all()
            visible = truth.maps.joints_visible[i, joint]
            assert keypoints[point, 2] == (0 if not inside else 2 if visible else 1)
            expected = pixels[i, joint] if inside else (0, 0)
            assert keypoints[point, :2] == pytest.approx(expected, abs=0.01)
            seen += inside
    assert seen > 10 * len(IDS)


def test_a_mirror_changes_sides(folder: Path) -> None:
    flip = yaml.safe_load((folder / "data.yaml").read_text())["flip_idx"]
    assert flip == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


@pytest.mark.parametrize(
    ("splits", "train", "val"),
    [
        (["test", "train", "val"], "train", "val"),
        (["test", "train"], "train", "test"),
        (["train"], "train", "train"),
        (["val"], "val", "val"),
    ],
)
def test_a_split_that_is_not_there_is_stood_in_for(splits: list[str], train: str, val: str, subject: Subject) -> None:
    text = texts(splits, subject)["data.yaml"]
    page = yaml.safe_load(text)
    assert (page["train"], page["val"]) == (f"images/{train}", f"images/{val}")
    assert [f"no rows are of split {name}" in text for name in ("train", "val")] == [
        n not in splits for n in ("train", "val")
    ]
    assert subject.identity.sha256 in text


def test_the_description_is_among_the_checksums(folder: Path) -> None:
    assert "data.yaml" in {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}

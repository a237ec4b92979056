"""MPII's file of annotations, written by SciPy with its nesting, and read back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from posedreamer_assets.body.joints import COCO17
from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import PhotoError
from posedreamer_assets.scenes.mpii_photos import mpii_photos
from posedreamer_assets.scenes.photo_files import require_named
from posedreamer_assets.scenes.photos import people_from_json, people_to_json
from posedreamer_assets.scenes.points import MPII16

ANKLE, WRIST, HEAD_TOP = MPII16.index("right_ankle"), MPII16.index("left_wrist"), MPII16.index("head_top")
HEAD = {"x1": 10.0, "y1": 5.0, "x2": 22.0, "y2": 21.0}


def structures(rows: list[dict[str, Any]]) -> np.ndarray:
    """A row of MATLAB's structures; all have all fields, empty ones where a row has none."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    found = np.zeros((1, len(rows)), dtype=[(name, object) for name in names])
    for place, row in enumerate(rows):
        for name in names:
            found[name][0, place] = row.get(name, np.zeros((0, 0)))
    return found


def points(*of: dict[str, Any]) -> dict[str, Any]:
    return {"annopoints": structures([{"point": structures(list(of))}])}


@pytest.fixture
def release(tmp_path: Path) -> tuple[str, str]:
    """Three images: one person alone; two, one of them without joints; nobody."""
    for name in ("one.jpg", "two.jpg", "none.jpg"):
        Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(tmp_path / name)
    alone = {
        **HEAD,
        **points(
            {"x": 30.0, "y": 100.0, "id": ANKLE, "is_visible": "0"},
            {"x": 60.5, "y": 50.0, "id": WRIST, "is_visible": "1"},
            {"x": 16.0, "y": 4.0, "id": HEAD_TOP},
        ),
    }
    seen = points({"x": 80.0, "y": 80.0, "id": ANKLE, "is_visible": 1})
    images = [
        {"image": structures([{"name": "one.jpg"}]), "annorect": structures([alone])},
        {"image": structures([{"name": "none.jpg"}])},
        {"image": structures([{"name": "two.jpg"}]), "annorect": structures([{**HEAD, **seen}, HEAD])},
    ]
    path = tmp_path / "mpii.mat"
    savemat(path, {"RELEASE": structures([{"annolist": structures(images), "img_train": np.array([1, 0, 1])}])})
    return str(tmp_path), str(path)


def test_people_with_joints_are_read_however_the_file_nests_them(release: tuple[str, str]) -> None:
    one, two = mpii_photos(*release, 0, 9)
    assert (one.name, two.name) == ("one.jpg", "two.jpg") and (one.width, one.height) == (160, 120)
    assert len(one.people) == len(two.people) == 1
    assert one.people.mpii_labelled[0].nonzero()[0].tolist() == sorted((ANKLE, HEAD_TOP, WRIST))
    assert one.people.mpii[0, WRIST].tolist() == [60.0, 49.5], "MATLAB counts from the centre of pixel 1"
    assert one.people.mpii_seen[0, [ANKLE, WRIST, HEAD_TOP]].tolist() == [False, True, True]
    assert one.people.head_px[0] == pytest.approx(20.0)
    wrist = COCO17.index("left_wrist")
    assert one.people.keypoints[0, wrist].tolist() == [60.0, 49.5] and one.people.labelled[0, wrist]
    assert not one.people.labelled[0, COCO17.index("nose")]
    assert one.people.boxes[0].tolist() == pytest.approx([9.5, 3.5, 50.5, 96.0])


def test_pixels_of_people_without_joints_are_to_be_ignored(release: tuple[str, str]) -> None:
    one, two = mpii_photos(*release, 0, 9)
    assert not one.ignore.any()
    assert two.ignore[10, 15] and two.ignore[80, 15] and not two.ignore[10, 60] and not two.ignore[119, 15]


def test_stretches_and_tables_hold_the_same_people(release: tuple[str, str]) -> None:
    (second,) = mpii_photos(*release, 1, 1)
    assert second.name == "two.jpg" and mpii_photos(*release, 2, 1) == []
    again = people_from_json(people_to_json(second.people))
    assert np.array_equal(again.mpii, second.people.mpii) and np.array_equal(again.mpii_seen, second.people.mpii_seen)


def test_files_that_are_none_are_told(release: tuple[str, str], tmp_path: Path) -> None:
    folder, path = release
    (tmp_path / "other.mat").write_bytes(b"nothing like it")
    savemat(tmp_path / "else.mat", {"RELEASE": 3})
    for name in ("other.mat", "else.mat", "missing.mat"):
        with pytest.raises(PhotoError, match="not MPII's file"):
            mpii_photos(folder, str(tmp_path / name), 0, 1)
    (tmp_path / "two.jpg").unlink()
    with pytest.raises(PhotoError, match=r"two\.jpg cannot be read"):
        mpii_photos(folder, path, 1, 1)


def test_mpii_needs_a_folder_and_its_file() -> None:
    with pytest.raises(PhotoError, match=r"kind mpii needs photographs: --set photos\.path=FOLDER"):
        require_named(load_profile("pocket", {"photos.kind": "mpii"}).photos)

"""MPII's groups of people, written by SciPy with the nesting of groups_v12.mat, and judged as its benchmark does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import ConfigError, PhotoError
from posedreamer_assets.pipeline.annotated_photos import split_of
from posedreamer_assets.scenes.mpii_groups import drawn_images, stand_together
from posedreamer_assets.scenes.mpii_photos import mpii_photos
from posedreamer_assets.scenes.photos import people_from_json, people_to_json
from posedreamer_assets.seeds import unit_hash
from posedreamer_assets_tests.scenes.test_mpii_photos import HEAD, points, structures

# By image, x of people's ankles (None: a rectangle without joints), groups of rectangles, and who stands apart; as MATLAB counts.
IMAGES: dict[str, tuple[list[float | None], list[list[int]], list[int]]] = {
    "crowd.jpg": ([20, 40, 60, None, 300], [[1, 2], [3, 4], [5]], [5]),
    "alone.jpg": ([50], [[1]], [1]),
    "pair.jpg": ([30, 60], [[2, 1]], []),
    "nobody.jpg": ([], [], []),
    "far.jpg": ([30, 280], [[1], [2]], [1, 2]),
}


def cell(rows: list[Any]) -> np.ndarray:
    """A MATLAB cell of one row; an empty matrix where there is nothing."""
    found = np.zeros((1, len(rows)), dtype=object)
    for place, row in enumerate(rows):
        found[0, place] = row
    return found if rows else np.zeros((0, 0))


def person(x: float | None) -> dict[str, Any]:
    """An ankle and a knee, 100 pixels apart."""
    joints = [{"x": x, "y": 120.0, "id": 0, "is_visible": 1}, {"x": x, "y": 20.0, "id": 1, "is_visible": 1}]
    return {**HEAD, **({} if x is None else points(*joints))}


Files = dict[str, str]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    annolist, alone, groups = [], [], []
    for name, (people, together, apart) in IMAGES.items():
        Image.fromarray(np.full((130, 320, 3), 90, np.uint8)).save(tmp_path / name)
        rectangles = {"annorect": structures([person(x) for x in people])} if people else {}
        annolist.append({"image": structures([{"name": name}]), **rectangles})
        alone.append(np.array(apart, float).reshape(-1, 1))
        groups.append(cell([np.array([group], float) for group in together]))
    release = {"annolist": structures(annolist), "single_person": cell(alone).T}
    savemat(tmp_path / "mpii.mat", {"RELEASE": structures([release])})
    savemat(tmp_path / "groups_v12.mat", {"groups": cell(groups).T})
    return {
        "folder": str(tmp_path),
        "annotations": str(tmp_path / "mpii.mat"),
        "groups": str(tmp_path / "groups_v12.mat"),
    }


def groups_of(files: Files, **more: Any) -> dict[str, list[int]]:
    return {
        photo.name: photo.people.group.tolist()  # type: ignore[union-attr]
        for photo in mpii_photos(first=0, count=9, **files, **more)  # type: ignore[arg-type]
    }


def test_groups_are_those_of_the_file_without_those_of_people_who_stand_apart(files: Files) -> None:
    found = groups_of(files)
    assert found == {"crowd.jpg": [0, 0, 1, -1], "alone.jpg": [-1], "pair.jpg": [0, 0], "far.jpg": [-1, -1]}
    (photo, *_) = mpii_photos(first=0, count=1, **files)  # type: ignore[arg-type]
    again = people_from_json(people_to_json(photo.people)).group
    assert again is not None and again.tolist() == found["crowd.jpg"]


def test_without_the_file_people_who_stand_together_are_groups(files: Files) -> None:
    files.pop("groups")
    assert groups_of(files) == {
        "crowd.jpg": [0, 0, 0, -1],
        "alone.jpg": [-1],
        "pair.jpg": [0, 0],
        "far.jpg": [-1, -1],
    }


def test_people_stand_together_who_are_no_farther_apart_than_they_are_long() -> None:
    """A chain connects; the oracle joins pairs until nothing changes."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        middles, sizes = rng.uniform(0, 400, (9, 2)), rng.uniform(40, 120, 9)
        found, names = stand_together(middles, sizes), list(range(9))
        for _ in range(9):
            for a in range(9):
                for b in range(9):
                    if np.hypot(*(middles[a] - middles[b])) <= (sizes[a] + sizes[b]) / 2:
                        names[b] = names[a] = min(names[a], names[b])
        for a in range(9):
            assert (found[a] == -1) == (names.count(names[a]) == 1)
            assert [found[a] == found[b] and found[a] >= 0 for b in range(9) if b != a] == [
                names[a] == names[b] for b in range(9) if b != a
            ]
        assert sorted(set(found.tolist()) - {-1}) == list(range(found.max() + 1))
    assert stand_together(np.zeros((0, 2)), np.zeros(0)).tolist() == []


def test_photographs_of_the_groups_that_are_tested_on_come_first(files: Files) -> None:
    for asked, held_out in ((1, ["pair.jpg"]), (2, ["crowd.jpg", "pair.jpg"]), (3, ["crowd.jpg", "pair.jpg"])):
        photos = mpii_photos(first=0, count=9, test_groups=asked, **files)  # type: ignore[arg-type]
        assert [photo.name for photo in photos if photo.held_out] == held_out
        others = [name for name in ("crowd.jpg", "alone.jpg", "pair.jpg", "far.jpg") if name not in held_out]
        assert [photo.name for photo in photos] == held_out + others
    with pytest.raises(PhotoError, match=r"asks for 4 groups of people, photos\.annotations has 3 "):
        mpii_photos(first=0, count=9, test_groups=4, **files)  # type: ignore[arg-type]


def test_images_are_drawn_by_a_hash_of_their_names_until_there_are_as_many_groups() -> None:
    names, groups = [f"{number}.jpg" for number in range(400)], [number % 4 for number in range(400)]
    drawn = drawn_images(names, groups, 343)
    by_hash = sorted((k for k in range(400) if groups[k]), key=lambda k: unit_hash(names[k]))
    chosen = [k for k in by_hash if drawn[k]]
    assert chosen == by_hash[: len(chosen)] and not any(drawn[k] for k in range(400) if not groups[k])
    assert 343 <= sum(groups[k] for k in chosen) < 343 + groups[chosen[-1]]
    order = np.random.default_rng(0).permutation(400)
    again = drawn_images([names[k] for k in order], [groups[k] for k in order], 343)
    assert [again[list(order).index(k)] for k in range(400)] == drawn


def test_what_is_held_out_is_the_test_split_and_nothing_else_is() -> None:
    mpii = {"photos.kind": "mpii", "photos.path": "images", "photos.annotations": "mpii.mat", "photos.test_share": 1.0}
    drawn = load_profile("pocket", {**mpii, "photos.test_groups": 5})
    assert split_of(b"one", drawn, held_out=True) == "test" and split_of(b"one", drawn) == "train"
    assert split_of(b"one", load_profile("pocket", mpii)) == "test"
    assert load_profile("learning_to_train").photos.test_groups == 343


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"groups": np.ones((5, 1))}, "is no file of MPII's groups"),
        ({"RELEASE": 3}, "is no file of MPII's groups.*needed: groups_v12.mat"),
        ({"groups": cell([cell([np.array([[0.0]])])] * 5).T}, "numbers of rectangles from 1 on"),
        ({"groups": cell([cell([np.array([[1.0]])])] * 4).T}, "groups of 4 images, photos.annotations has 5"),
        (
            {"groups": cell([cell([np.array([[6.0]])])] * 5).T},
            "image 1 has a group with rectangle 6, of which .* has 5",
        ),
    ],
)
def test_files_of_something_else_and_of_another_release_are_told(files: Files, content: Any, message: str) -> None:
    savemat(files["groups"], content)
    with pytest.raises(PhotoError, match=message):
        groups_of(files)


def test_files_that_are_missing_mixed_up_or_without_who_stands_apart_are_told(files: Files, tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"photos\.groups: .* is no file of MPII's groups"):
        groups_of({**files, "groups": str(tmp_path / "missing.mat")})
    with pytest.raises(PhotoError, match=r"photos\.annotations: .* is not MPII's file"):
        groups_of({**files, "annotations": files["groups"], "groups": files["annotations"]})
    image = structures([{"image": structures([{"name": "alone.jpg"}]), "annorect": structures([person(50)])}] * 5)
    savemat(files["annotations"], {"RELEASE": structures([{"annolist": image}])})
    with pytest.raises(PhotoError, match="does not say who stands apart"):
        groups_of(files)


def test_groups_are_for_mpii_alone() -> None:
    with pytest.raises(ConfigError, match=r"photos\.groups is for photos\.kind mpii; found stand_in"):
        load_profile("pocket", {"photos.groups": "groups_v12.mat"})
    with pytest.raises(ConfigError, match=r"photos\.test_groups is 0"):
        load_profile("pocket", {"photos.test_groups": 0})

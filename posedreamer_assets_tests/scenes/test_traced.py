"""Stand-ins that Mitsuba traces: its camera in closed form, people of the rasteriser's outlines, and nothing else changed."""

import importlib.util
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cameras.crowds import ground_camera
from posedreamer_assets.cli import doctor
from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import RenderError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.refusals import refuse_unmakeable, require_renderer
from posedreamer_assets.render.shading import Light
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.scenes import traced
from posedreamer_assets.scenes.composite import over
from posedreamer_assets.scenes.picture import Surfaces
from posedreamer_assets.scenes.stand_in import stand_in_photo
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.scenes.conftest import KEYS, STUDY

LIGHT = Light(np.array([0.3, -0.8, -0.5]), 2.5, 0.4)
GROUND = np.array([0.3, 0.4, 0.2])
# As a picture cut out of a larger one has it: the axis is not in its middle.
CAMERA = replace(
    ground_camera(pitch_rad=0.2, height_m=1.5, focal_px=90.0, width=96, height=64),
    principal_px=np.array([[40.0, 29.0]], np.float32),
)
HERE = importlib.util.find_spec("mitsuba") is not None
needs_mitsuba = pytest.mark.skipif(not HERE, reason="Mitsuba is not installed (the extra `traced`)")


def boards(centres: np.ndarray, size_m: float) -> tuple[Surfaces, np.ndarray]:
    """A square that faces the camera's side of the world at each centre."""
    corners = size_m / 2 * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    vertices = (centres[:, None] + corners).astype(np.float32)
    normals = np.broadcast_to(np.array([0, 0, 1], np.float32), vertices.shape).copy()
    return Surfaces(vertices, normals, np.full_like(vertices, 0.6)), np.array([[0, 1, 2], [0, 2, 3]], np.int32)


# Without Mitsuba


def test_what_is_not_installed_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced.importlib.util, "find_spec", lambda name: None)
    stage = graph(2, (STUDY,))["photos/annotated_photos"]
    asked = load_profile("pocket", {"photos.stand_in": "traced"})
    with pytest.raises(RenderError, match=r"^photos\.stand_in traced needs Mitsuba: pip install 'mitsuba>=3\.9,<4'.*$"):
        refuse_unmakeable(asked, stage)
    finding = doctor._guarded("Mitsuba", doctor.look_at_mitsuba)
    assert not finding.ok and "pip install" in finding.detail
    require_renderer(load_profile("pocket"), [stage])
    photographs = {"photos.kind": "coco", "photos.path": "photographs", "photos.annotations": "people.json"}
    require_renderer(load_profile("pocket", {"photos.stand_in": "traced", **photographs}), [stage])


def test_who_draws_stand_ins_makes_them_again_and_nothing_else(tmp_path: Path) -> None:
    def digests(**settings: object) -> list[str]:
        snapshot = Snapshot(load_profile("pocket", {f"{STUDY}.enabled": True, **settings}), LanceStore(str(tmp_path)))
        names = ("photos/annotated_photos", "ds/scene_layouts", "ds/scene_images")
        keys = (KEYS["photo"], KEYS["scene"], KEYS["scene"])
        return [snapshot.input_digest(snapshot.graph[name], key) for name, key in zip(names, keys, strict=True)]

    plain, asked = digests(), digests(**{"photos.stand_in": "traced"})
    assert plain[0] != asked[0] and plain[1:] == asked[1:]


def test_shadows_are_what_the_ground_lacks_and_outlines_mix_people_with_shaded_ground(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a picture that is made up: a person in the middle column, half of it in the column beside, a shadow to the right."""
    lit = GROUND * (2.5 * 0.8 / np.sqrt(0.98) / np.pi + 0.4)
    camera = ground_camera(pitch_rad=1.5, height_m=3.0, focal_px=20.0, width=8, height=6)
    person, share, left = np.array([0.7, 0.1, 0.3]), np.zeros((6, 8)), np.ones((6, 8))
    share[:, 3], share[:, 4], left[:, 4:] = 1.0, 0.5, 0.25
    seen = share[..., None] * person + (1 - share[..., None]) * left[..., None] * lit
    monkeypatch.setattr(traced, "_trace", lambda *arguments: seen)
    people, faces = boards(np.array([[0.0, 1.0, -4.0]]), 1.0)
    light = traced.traced_light(people, faces, camera, LIGHT, GROUND, share)
    assert light[:, :3] == pytest.approx(0, abs=1e-6)
    assert light[:, 3] == pytest.approx(np.tile([*person, 1.0], (6, 1)), abs=1e-6)
    assert light[:, 4] == pytest.approx(np.tile([*(0.5 * person), 1 - 0.5 * 0.25], (6, 1)), abs=1e-6)
    assert light[:, 5:] == pytest.approx(np.tile([0, 0, 0, 0.75], (6, 3, 1)), abs=1e-6)
    white = over(light, np.full((6, 8, 3), 255, np.uint8))
    assert (white[:, :3] == 255).all() and (white[:, 5:] == round(255 * 0.25 ** (1 / 2.2))).all()


# With Mitsuba


@needs_mitsuba
def test_known_points_are_where_the_camera_says() -> None:
    pixels = np.array([[[12.0, 9.0], [80.0, 12.0], [50.0, 30.0], [15.0, 50.0], [85.0, 45.0]]])
    points = CAMERA.unproject(pixels, np.array([[3.0, 4.0, 3.5, 2.5, 3.0]]))[0]
    for pixel, point in zip(pixels[0], points, strict=True):
        people, faces = boards(point[None], 0.2)
        people.colours[:] = [1.0, 0.0, 0.0]
        dark = Light(LIGHT.direction, 0.0, 1.0)
        seen = traced._trace(people, faces, CAMERA, dark, np.array([0.0, 0.0, 0.0]), 16, 0)
        red = np.maximum(seen[..., 0] - seen[..., 2], 0)
        rows, columns = np.mgrid[:64, :96] + 0.5
        middle = [(red * grid).sum() / red.sum() for grid in (columns, rows)]
        assert middle == pytest.approx(pixel, abs=0.25)


@needs_mitsuba
def test_a_ground_without_shadows_leaves_the_picture_as_it_is() -> None:
    people, faces = boards(np.array([[0.0, 1.0, 4.0]]), 0.2)  # behind the camera
    share = np.zeros((64, 96), np.float32)
    light = traced.traced_light(people, faces, CAMERA, LIGHT, GROUND, share, samples=256)
    assert np.abs(light[..., :3]).max() == 0
    assert (
        np.abs(light[..., 3]).mean() < 0.02 and np.abs(light[:10, :, 3]).max() < 1e-3
    )  # the first rows show no ground


@needs_mitsuba
def test_a_traced_stand_in_has_the_labels_of_the_drawn_one_and_a_picture_like_it(body: BodyModel) -> None:
    drawn, made, again = (stand_in_photo(body, "photos-0000/000001", 3, 96, traced=k > 0) for k in range(3))
    assert made.data == again.data and made.data != drawn.data
    assert np.array_equal(drawn.people.keypoints, made.people.keypoints)
    assert np.array_equal(drawn.people.boxes, made.people.boxes) and np.array_equal(drawn.ignore, made.ignore)
    pictures = [np.asarray(Image.open(BytesIO(photo.data)), float) for photo in (drawn, made)]
    masks = [mask for mask in made.people.masks if mask is not None]
    assert masks
    for mask in masks:
        first, second = (picture[mask].mean(axis=0) for picture in pictures)
        assert second == pytest.approx(first, abs=25)
    elsewhere = ~np.logical_or.reduce([*masks, made.ignore])
    assert np.abs(pictures[0] - pictures[1])[elsewhere].mean() < 8

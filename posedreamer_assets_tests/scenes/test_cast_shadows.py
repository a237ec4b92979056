"""Shadows of people on people against rays: two people, one behind the other as the light sees them."""

from collections.abc import Sequence

import numpy as np
import pytest

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cameras.crowds import ground_camera
from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.render.shading import Light, lit
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.scenes.cast_shadows import light_reaching
from posedreamer_assets.scenes.draw import Crowd, draw_crowd, faces_of
from posedreamer_assets.scenes.layout import seen_from
from posedreamer_assets.scenes.people import draw_cast, dressed
from posedreamer_assets.scenes.picture import Surfaces, crowd_of
from posedreamer_assets_tests.scenes.conftest import STUDY, Study

CAMERA = ground_camera(pitch_rad=0.2, height_m=1.6, focal_px=300.0, width=320, height=240)
DOWN = np.deg2rad(25)
# From the left of the picture, and a little from the camera's side.
SUN = Light(np.array([np.cos(DOWN) * np.cos(0.5), -np.sin(DOWN), -np.cos(DOWN) * np.sin(0.5)]), 2.5, 0.35)
TO_SUN = -SUN.direction


@pytest.fixture(scope="module")
def pair(body: BodyModel) -> Surfaces:
    """White people in poses and clothes of their own; the second stands where the shadow of the first falls."""
    cast = draw_cast(body, ["scenes-0000/000000", "scenes-0000/000000/01"], 5, "in a park", families=("stand",))
    moved = cast.params.transl.copy()
    moved[:, [0, 2]] += [[-0.7, -4.5], [0.35, -5.1]]
    solids = dressed(body, cast.params.replace(transl=moved), cast.looks, cast.seeds)
    vertices, normals = (np.stack([getattr(one, name) for one in solids]) for name in ("vertices", "normals"))
    return Surfaces(vertices, normals, np.full(vertices.shape, 0.6))


def drawn(body: BodyModel, people: Surfaces, reached: np.ndarray | None) -> Crowd:
    ids = list(range(1, len(people.vertices) + 1))
    return draw_crowd(
        body, people.vertices, people.normals, people.colours, ids, CAMERA, seen_from(SUN, CAMERA), reached
    )


def only(people: Surfaces, rows: Sequence[int]) -> Surfaces:
    return Surfaces(*(getattr(people, name)[list(rows)] for name in ("vertices", "normals", "colours")))


def light_on(body: BodyModel, people: Surfaces, size: tuple[int, int] = (640, 480)) -> np.ndarray:
    faces = faces_of(body, len(people.vertices))
    return light_reaching(people.vertices, people.normals, faces, SUN.direction, size)


def is_hidden(people: Surfaces, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether a ray from each point to the sun meets a triangle: all against all (Moeller and Trumbore)."""
    corners = people.vertices.reshape(-1, 3).astype(float)[faces]
    first, one, other = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(TO_SUN, other)
    size = np.einsum("fa,fa->f", one, across)
    first, one, other, across, size = (part[np.abs(size) > 1e-12] for part in (first, one, other, across, size))
    found = []
    for point in points:
        away = point - first
        u, up = np.einsum("fa,fa->f", away, across) / size, np.cross(away, one)
        v, t = (up @ TO_SUN) / size, np.einsum("fa,fa->f", other, up) / size
        found.append(((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)).any())
    return np.array(found, bool)


def test_who_stands_in_a_shadow_is_darker_and_all_maps_are_the_same(body: BodyModel, pair: Surfaces) -> None:
    plain, shaded = (crowd_of(body, pair, [1, 2], CAMERA, SUN, shadows=on) for on in (False, True))
    for name in ("share", "instances", "parts", "depth_mm"):
        assert np.array_equal(getattr(plain, name), getattr(shaded, name)), name
    assert plain.amodal_pixels == shaded.amodal_pixels
    assert (shaded.colour <= plain.colour).all(), "no shadow makes lighter"
    behind = plain.instances == 2
    alone = crowd_of(body, only(pair, [1]), [2], CAMERA, SUN, shadows=True)
    there = behind & (alone.instances == 2)
    darker = (alone.colour.astype(int) - shaded.colour)[there].max(axis=-1)
    assert (darker > 30).mean() > 0.25 and (darker < -8).mean() < 0.02, "the first person takes light from the second"
    before = plain.instances == 1
    first = crowd_of(body, only(pair, [0]), [1], CAMERA, SUN, shadows=True)
    changed = np.abs(first.colour.astype(int) - shaded.colour)[before & (first.instances == 1)].max(axis=-1)
    assert (changed > 8).mean() < 0.02, "the second takes none from the first"


def test_pixels_are_dark_where_a_ray_to_the_sun_is_stopped(body: BodyModel, pair: Surfaces) -> None:
    faces, reached = faces_of(body, 2), light_on(body, pair)
    plain, shaded, dark = (drawn(body, pair, of) for of in (None, reached, np.zeros_like(reached)))
    # How much of the light that could be taken was, where it is enough to be seen.
    most = plain.colour[..., 0].astype(float) - dark.colour[..., 0]
    asked = np.argwhere((most > 20) & (plain.share == 1))
    asked = asked[np.random.default_rng(0).choice(len(asked), 120, replace=False)]
    rows, columns = asked.T
    taken = (plain.colour[rows, columns, 0] - shaded.colour[rows, columns, 0].astype(float)) / most[rows, columns]
    depth = plain.depth_mm[rows, columns] / 1000.0
    flat = (asked[:, ::-1] + 0.5 - CAMERA.principal_px[0]) / CAMERA.focal_px[0]
    points = (np.column_stack([flat, np.ones(len(flat))]) * depth[:, None] - CAMERA.translation[0]) @ CAMERA.rotation[0]
    nearest = np.array([np.square(pair.vertices - p).sum(axis=-1).argmin() for p in points.astype(np.float32)])
    normals = pair.normals.reshape(-1, 3)[nearest].astype(float)
    side = np.cross(normals, TO_SUN)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    off = points + 0.012 * normals
    middle = is_hidden(pair, faces, off)
    steps = (side, -side, np.cross(normals, side), -np.cross(normals, side))
    off_edges = np.all([is_hidden(pair, faces, off + 0.03 * step) == middle for step in steps], axis=0)
    assert 0.2 < middle.mean() < 0.8 and off_edges.mean() > 0.5
    assert ((taken > 0.5) == middle)[off_edges].mean() >= 0.97
    clear = off_edges & ~middle
    assert (taken[clear] == 0).mean() > 0.9, "and light is whole where nothing stops it: no speckles"


def test_what_faces_away_and_what_nothing_hides_is_as_it_was(body: BodyModel, pair: Surfaces) -> None:
    reached = light_on(body, pair)
    away = pair.normals @ TO_SUN <= 0
    assert (reached[away] == 1).all() and reached.min() == 0 and 0.2 < (reached == 1).mean() < 0.95
    points = np.array([[0.0, 0.0, 4.0]] * 3)
    normals = np.array([[0.0, 0.6, -0.8]] * 3)
    light = Light(np.array([0.0, -0.6, 0.8]), 2.0, 0.3)
    whole, half, none = lit(points, normals, np.full((3, 3), 0.5), light, np.array([1.0, 0.5, 0.0], np.float32))
    assert np.array_equal(whole, lit(points, normals, np.full((3, 3), 0.5), light)[0])
    assert none == pytest.approx((0.5 * light.ambient) ** (1 / 2.2), rel=1e-5) and (none < half).all()


@pytest.mark.parametrize("gap_m", [0.05, 0.8])
@pytest.mark.parametrize("direction", [(0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.3, -0.4, -0.8)])
def test_a_plate_takes_the_light_from_what_is_right_behind_it(
    direction: tuple[float, float, float], gap_m: float
) -> None:
    """A square of 0.5 m before one of 1 m: a quarter of the larger is dark, whatever the light's direction is."""
    along = np.array(direction) / np.linalg.norm(direction)
    a = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    a /= np.linalg.norm(a)
    b = np.cross(along, a)
    step = np.linspace(-0.5, 0.5, 41)
    grid = step[:, None, None] * a + step[None, :, None] * b
    large = grid.reshape(-1, 3) + gap_m * along
    vertices = np.stack([0.5 * grid.reshape(-1, 3), large]).astype(np.float32)
    k = np.arange(41 * 40).reshape(40, 41)[:, :40].reshape(-1, 1)
    faces = np.concatenate([k + np.array(of) for of in ((0, 1, 41), (1, 42, 41))])
    turned = np.cross(*(vertices[0][faces[0][1:]] - vertices[0][faces[0][0]])) @ along < 0
    faces = faces if turned else faces[:, ::-1]
    both = np.concatenate([faces, faces + 41 * 41]).astype(np.int32)
    reached = light_reaching(
        vertices, np.broadcast_to(-along, vertices.shape).astype(np.float32), both, along, (256, 192)
    )
    inside = np.maximum(*np.abs(np.meshgrid(step, step))).reshape(-1)
    assert (reached[0] == 1).all()
    assert (reached[1][inside < 0.22] == 0).all() and (reached[1][inside > 0.28] == 1).all()
    edge = reached[1][np.isclose(inside, 0.25)]
    assert 0.2 < edge.mean() < 0.8, "soft at the edge"


def test_pictures_without_shadows_on_people_are_those_of_before(study: Study) -> None:
    def digest(key: str, partition: str, **settings: object) -> str:
        profile = load_profile("pocket", {f"{STUDY}.enabled": True, **settings})
        return Snapshot(profile, study.store).input_digest(graph_of(profile)[key], partition)

    off, cycles = {"crowds.shadows_on_people": False}, {"crowds.renderer": "cycles"}
    for key, partition in (("ds/scene_images", "scenes-0000"), ("dm/scene_images", "photos-0000")):
        assert digest(key, partition) != digest(key, partition, **off)
    assert digest("ds/scene_images", "scenes-0000", **cycles) == digest(
        "ds/scene_images", "scenes-0000", **cycles, **off
    )
    for key in ("ds/scene_layouts", "photos/annotated_photos"):
        assert digest(key, "scenes-0000") == digest(key, "scenes-0000", **off)

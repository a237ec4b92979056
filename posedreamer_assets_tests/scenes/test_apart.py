"""Bodies that run into each other: spheres of known distance, and a test of triangles where python-fcl is installed by hand."""

import numpy as np
import pytest

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.scenes.apart import Solid, depth_m, touching
from posedreamer_assets.scenes.layout import ids_of
from posedreamer_assets.scenes.people import draw_cast, dressed

EDGE_M = 0.05  # about the distance between neighbouring vertices of the spheres
RIGHT = np.array([1.0, 0.0, 0.0])


def sphere(radius_m: float, count: int = 2000) -> Solid:
    """Points spread evenly over a sphere about the origin (a golden spiral)."""
    k = np.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    normals = np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)
    return Solid(radius_m * normals, normals)


@pytest.mark.parametrize("distance_m", [0.7, 0.9, 1.2, 1.5])
def test_two_spheres_are_as_deep_in_each_other_as_their_radii_say(distance_m: float) -> None:
    a, b = sphere(0.6), sphere(0.4)
    assert depth_m(a, b, distance_m * RIGHT, margin_m=1.0) == pytest.approx(1.0 - distance_m, abs=EDGE_M)


def test_the_sign_says_whether_they_touch() -> None:
    a, b = sphere(0.5), sphere(0.5)
    assert touching(a, b, 0.95 * RIGHT)
    assert not touching(a, b, 1.05 * RIGHT)
    assert touching(a, b, 1.05 * RIGHT, clearance_m=0.15)


def test_a_body_wholly_inside_another_touches_it() -> None:
    assert touching(sphere(0.1), sphere(1.0), 0.2 * RIGHT)
    assert touching(sphere(1.0), sphere(0.1), 0.2 * RIGHT)


def test_only_the_shift_between_two_bodies_counts() -> None:
    a, b = sphere(0.5), sphere(0.5)
    far = np.array([3.0, -2.0, 7.0])
    moved = Solid(b.vertices + far, b.normals)
    assert depth_m(a, moved, 0.8 * RIGHT + far) == pytest.approx(depth_m(a, b, 0.8 * RIGHT), abs=1e-9)


def test_a_person_touches_itself_but_not_itself_three_metres_aside(body: BodyModel) -> None:
    cast = draw_cast(body, ids_of("scenes-0000/000000", 1), 0, "in a park")
    (person,) = dressed(body, cast.params, cast.looks, cast.seeds)
    assert touching(person, person, np.array([0.05, 0.0, 0.0]))
    assert not touching(person, person, np.array([3.0, 0.0, 0.0]))


@pytest.mark.slow
def test_people_touch_where_a_test_of_their_triangles_says_so(body: BodyModel) -> None:
    fcl = pytest.importorskip("fcl", reason="python-fcl, which the project does not ask for, is not installed")
    cast = draw_cast(body, ids_of("scenes-0000/000000", 8), 3, "in a park")
    people = dressed(body, cast.params, cast.looks, cast.seeds)
    rng = np.random.default_rng(0)
    meshes = []
    for person in people:
        mesh = fcl.BVHModel()
        mesh.beginModel(len(person.vertices), len(body.faces))
        mesh.addSubModel(person.vertices.astype(float), body.faces)
        mesh.endModel()
        meshes.append(mesh)
    hits = []
    for _ in range(40):
        a, b = rng.choice(len(people), 2, replace=False)
        shift = np.array([rng.uniform(-0.9, 0.9), 0.0, rng.uniform(-0.6, 0.6)])
        first, second = fcl.CollisionObject(meshes[a], fcl.Transform(shift)), fcl.CollisionObject(meshes[b])
        hit = fcl.collide(first, second, fcl.CollisionRequest(), fcl.CollisionResult()) > 0
        assert touching(people[a], people[b], shift) == hit
        hits.append(hit)
    assert 5 < sum(hits) < 35

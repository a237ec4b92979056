"""Who stands where: counts and angles as they are drawn, nobody in another, the same in any order, and no room."""

import numpy as np
import pytest
from scipy.stats import chisquare, kstest, poisson

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.crowds import sample_ground_view
from posedreamer_assets.config import CrowdsConfig
from posedreamer_assets.scenes.apart import touching
from posedreamer_assets.scenes.layout import (
    Layout,
    ids_of,
    lay_out,
    light_from_vector,
    light_to_vector,
    people_of,
    sample_light,
    stand,
)
from posedreamer_assets.scenes.people import Cast, draw_cast, dressed
from posedreamer_assets.seeds import sample_rng

CROWDED = CrowdsConfig(people_mean=6.0, size=128)


@pytest.fixture(scope="module")
def layouts(body: BodyModel) -> list[Layout]:
    return [lay_out(body, f"scenes-0000/{i:06d}", 0, CROWDED) for i in range(6)]


def test_people_are_poisson() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([people_of(rng, 9.0) for _ in range(20_000)], minlength=30)
    expected = 20_000 * poisson.pmf(np.arange(len(counts)), 9.0)
    expected[1] += expected[0]  # nobody becomes somebody
    kept = expected > 5
    kept[0] = False
    found, wanted = counts[kept], expected[kept]
    assert counts[0] == 0
    assert chisquare(found, wanted * found.sum() / wanted.sum()).pvalue > 1e-3


def test_pitch_is_uniform_in_its_range(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is drawn, so that many scenes take little time."""
    from posedreamer_assets.scenes import layout

    monkeypatch.setattr(layout, "draw_cast", lambda *args, **more: Cast(BodyParams.zeros(0), [], [], []))
    cfg = CrowdsConfig(pitch_min_deg=5.0, pitch_max_deg=35.0)
    cameras = [lay_out(body, f"scenes-0000/{i:06d}", 0, cfg).camera for i in range(600)]
    pitch = [float(camera.pitch_deg[0]) for camera in cameras]
    assert kstest(pitch, "uniform", (5.0, 30.0)).pvalue > 1e-3
    down = [float(np.degrees(np.arcsin(-camera.rotation[0][2, 1]))) for camera in cameras]
    assert np.allclose(pitch, down, atol=1e-3)


def test_nobody_reaches_into_another(body: BodyModel, layouts: list[Layout]) -> None:
    for layout in layouts:
        solids = dressed(body, layout.params, layout.looks, layout.seeds)
        pairs = [(a, b) for a in range(len(solids)) for b in range(a)]
        assert not any(touching(solids[a], solids[b], np.zeros(3)) for a, b in pairs)
        assert len(layout.people) == layout.drawn - len(layout.left_out)


def test_feet_are_on_the_ground_and_places_in_the_frame(body: BodyModel, layouts: list[Layout]) -> None:
    for layout in layouts:
        vertices = body.forward(layout.params).vertices
        low = vertices[..., 1].min(axis=1)
        assert (np.abs(low) < 0.01)[[family not in ("jump", "run", "freestyle") for family in layout.families]].all()
        ground = layout.params.transl.astype(float)
        ground[:, 1] = 0.0
        pixels = layout.camera.project(ground[None])[0]
        assert ((pixels > -20) & (pixels < 128 + 20)).all()  # the pelvis of a body stands a little off its place


def test_every_place_and_a_point_above_it_project_into_the_frame() -> None:
    rng = np.random.default_rng(1)
    for pitch in (0.0, 20.0, 45.0):
        view = sample_ground_view(rng, pitch_rad=np.deg2rad(pitch), size=200, distance_m=(5, 9), focal=(1.0, 1.4))
        for _ in range(50):
            there = view.place(rng)
            assert there is not None and there[1] == 0
            points = np.stack([there, there + np.array([0, 1.2, 0])])
            assert ((view.camera.project(points[None])[0] >= 0) & (view.camera.project(points[None])[0] < 200)).all()
            assert view.near_m <= -there[2] <= view.far_m


def test_a_scene_is_the_same_alone_and_after_others(body: BodyModel, layouts: list[Layout]) -> None:
    again = lay_out(body, "scenes-0000/000004", 0, CROWDED)
    assert again.people == layouts[4].people
    assert np.array_equal(again.params.transl, layouts[4].params.transl)
    assert np.array_equal(again.params.body_pose, layouts[4].params.body_pose)
    assert np.array_equal(again.camera.translation, layouts[4].camera.translation)
    other = lay_out(body, "scenes-0000/000004", 1, CROWDED)
    assert not np.array_equal(other.camera.translation, again.camera.translation)


def test_without_room_people_are_left_out_and_the_search_ends(body: BodyModel) -> None:
    cast = draw_cast(body, ids_of("scenes-0000/000000", 3), 0, "in a park")
    view = sample_ground_view(np.random.default_rng(0), pitch_rad=0.3, size=64, distance_m=(5, 9), focal=(1.0, 1.2))
    light = sample_light(np.random.default_rng(0))
    crowded = stand(body, cast, view.camera, light, lambda: np.array([0.0, 0.0, -6.0]), 7)
    assert (crowded.people, crowded.left_out, crowded.tries) == ([0], [1, 2], 1 + 7 + 7)
    nowhere = stand(body, cast, view.camera, light, lambda: None, 7)
    assert (nowhere.people, nowhere.left_out) == ([], [0, 1, 2])


def test_a_light_survives_its_column() -> None:
    light = sample_light(sample_rng(0, "x", "light"))
    again = light_from_vector(light_to_vector(light))
    assert np.allclose(again.direction, light.direction) and again.intensity == light.intensity
    assert light.direction[1] < 0 and np.linalg.norm(light.direction) == pytest.approx(1)

"""Who stands where in a scene: people are drawn, and each is put in another place until it touches nobody."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.crowds import sample_ground_view
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import CrowdsConfig
from posedreamer_assets.render.appearance import Appearance
from posedreamer_assets.render.shading import Light
from posedreamer_assets.scenes.apart import Solid, touching
from posedreamer_assets.scenes.people import Cast, draw_cast, dressed, sample_scene
from posedreamer_assets.seeds import sample_rng
from posedreamer_assets.tables.keys import person_id

MOST_PEOPLE = 99  # persons have two digits, and instance maps 8 bits
CLEARANCE_M = 0.002  # more than rounding moves a vertex
_DISTANCE_M = (5.0, 9.0)
_FOCAL = (0.95, 1.4)


@dataclass(frozen=True)
class Layout:
    """The people of a scene, where they stand, and what sees and lights them.

    Attributes:
        people: number of each placed person among those that were drawn, from 0.
        params: of the placed, world frame, ground at y = 0.
        families: of the placed.
        looks: of the placed.
        seeds: of the placed.
        camera: one.
        light: its direction is in the world's frame.
        drawn: people that were asked for.
        tries: places that were tried for all of them.
        left_out: numbers of those for whom there was no room.
    """

    people: list[int]
    params: BodyParams
    families: list[str]
    looks: list[Appearance]
    seeds: list[int]
    camera: Cameras
    light: Light
    drawn: int
    tries: int
    left_out: list[int]


def lay_out(body: BodyModel, image_id: str, run_seed: int, cfg: CrowdsConfig, families: Sequence[str] = ()) -> Layout:
    """A scene of its own: its people, camera and light depend on the run's seed and the image's id alone.

    `families` are those that poses are drawn from, or all.
    """
    rng = sample_rng(run_seed, image_id, "layout")
    drawn = people_of(rng, cfg.people_mean)
    pitch = np.deg2rad(rng.uniform(cfg.pitch_min_deg, cfg.pitch_max_deg))
    view = sample_ground_view(rng, pitch_rad=pitch, size=cfg.size, distance_m=_DISTANCE_M, focal=_FOCAL)
    light = sample_light(rng)
    cast = draw_cast(body, ids_of(image_id, drawn), run_seed, sample_scene(rng), families=families)
    return stand(body, cast, view.camera, light, lambda: view.place(rng), cfg.max_tries)


def people_of(rng: np.random.Generator, mean: float) -> int:
    """How many people are drawn: Poisson, at least 1."""
    return int(np.clip(rng.poisson(mean), 1, MOST_PEOPLE))


def ids_of(image_id: str, count: int) -> list[str]:
    """The sample ids of the first people of an image."""
    return [person_id(image_id, k) for k in range(count)]


def sample_light(rng: np.random.Generator) -> Light:
    """A sun or lamp that stands anywhere but behind what it shines on; direction in the world's frame."""
    azimuth, height = np.deg2rad(rng.uniform(-100, 100)), np.deg2rad(rng.uniform(25, 75))
    direction = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)])
    return Light(direction, intensity=float(rng.uniform(1.8, 3.2)), ambient=float(rng.uniform(0.3, 0.45)))


def stand(
    body: BodyModel,
    cast: Cast,
    camera: Cameras,
    light: Light,
    place: Callable[[], Float[np.ndarray, "3"] | None],
    max_tries: int,
) -> Layout:
    """Put people one after another where they touch nobody who stands already.

    Args:
        body: of the cast.
        cast: the people, about x = z = 0.
        camera: what sees them.
        light: what lights them.
        place: gives a place on the ground, another one at every call; None where there is none.
        max_tries: places that are tried for one person before that person is left out.
    """
    solids = dressed(body, cast.params, cast.looks, cast.seeds)
    standing: list[int] = []
    places: dict[int, np.ndarray] = {}
    tries = 0
    for number in range(len(cast)):
        for _ in range(max_tries):
            tries += 1
            there = place()
            if there is None:
                break
            # Rounded as it will be stored.
            there = there.astype(np.float32).astype(float)
            if _has_room(solids, number, there, places):
                standing.append(number)
                places[number] = there
                break
    params = cast.params.take(np.array(standing, int))
    moved = np.array([places[k] for k in standing], np.float32).reshape(-1, 3)
    return Layout(
        standing,
        params.replace(transl=params.transl + moved),
        [cast.families[k] for k in standing],
        [cast.looks[k] for k in standing],
        [cast.seeds[k] for k in standing],
        camera,
        light,
        len(cast),
        tries,
        [k for k in range(len(cast)) if k not in places],
    )


def _has_room(
    solids: Sequence[Solid], number: int, there: Float[np.ndarray, "3"], places: dict[int, np.ndarray]
) -> bool:
    return not any(
        touching(solids[number], solids[other], there - place, CLEARANCE_M) for other, place in places.items()
    )


def light_to_vector(light: Light) -> list[float]:
    """Direction, strength and ambient light, as tables hold them."""
    return [*(float(v) for v in light.direction), light.intensity, light.ambient]


def light_from_vector(values: Sequence[float] | np.ndarray) -> Light:
    """The inverse of `light_to_vector`."""
    return Light(np.asarray(values[:3], float), float(values[3]), float(values[4]))


def seen_from(light: Light, camera: Cameras) -> Light:
    """The light with its direction in the frame of the camera."""
    return replace(light, direction=camera.rotation[0] @ light.direction)

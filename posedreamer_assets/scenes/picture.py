"""A picture of placed people before or over something, with the maps that its labels are read from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.render.appearance import Appearance
from posedreamer_assets.render.shading import Light
from posedreamer_assets.scenes.cast_shadows import light_reaching
from posedreamer_assets.scenes.draw import Crowd, draw_crowd, faces_of, scale_of, shadow_on_ground
from posedreamer_assets.scenes.layout import seen_from
from posedreamer_assets.scenes.people import colours_of, dressed

_FINE_PX = 512  # larger side of pictures whose own size is fine enough for shadows on people


@dataclass(frozen=True)
class Surfaces:
    """Dressed people as a renderer takes them.

    Attributes:
        vertices: world frame, metres.
        normals: of unit length, world frame.
        colours: before light falls on them, linear, in [0, 1].
    """

    vertices: Float[np.ndarray, "n v 3"]
    normals: Float[np.ndarray, "n v 3"]
    colours: Float[np.ndarray, "n v 3"]


def surfaces_of(body: BodyModel, params: BodyParams, looks: Sequence[Appearance], seeds: Sequence[int]) -> Surfaces:
    """People in their clothes; see `picture_of` for the arguments."""
    solids = dressed(body, params, looks, seeds)
    return Surfaces(
        np.stack([solid.vertices for solid in solids]),
        np.stack([solid.normals for solid in solids]),
        np.stack([colours_of(body, look, seed) for look, seed in zip(looks, seeds, strict=True)]),
    )


def picture_of(
    body: BodyModel,
    params: BodyParams,
    looks: Sequence[Appearance],
    seeds: Sequence[int],
    ids: Sequence[int],
    camera: Cameras,
    light: Light,
    behind: UInt8[np.ndarray, "h w 3"],
    *,
    shadows: bool = True,
    on_people: bool = False,
) -> tuple[UInt8[np.ndarray, "h w 3"], Crowd]:
    """People over a picture.

    Args:
        body: of the people.
        params: world frame.
        looks: what they wear.
        seeds: of cloth and shades.
        ids: what each is called in the map of people.
        camera: one.
        light: direction in the world's frame.
        behind: what is behind them.
        shadows: whether they darken the ground; without, pixels that show nobody stay as they are.
        on_people: whether they darken each other and themselves; maps are the same with and without.
    """
    people = surfaces_of(body, params, looks, seeds)
    if shadows:
        lost = shadow_on_ground(body, people.vertices, camera, light)
        behind = np.rint(behind * (1 - lost[..., None])).astype(np.uint8)
    crowd = crowd_of(body, people, ids, camera, light, shadows=on_people)
    return crowd.over(behind), crowd


def crowd_of(
    body: BodyModel, people: Surfaces, ids: Sequence[int], camera: Cameras, light: Light, *, shadows: bool = False
) -> Crowd:
    """People alone, with the maps that their labels are read from; see `picture_of` for the arguments."""
    reached = None
    if shadows:
        # Buffers of the picture's size, and of that at which a small one is drawn, are there already.
        scale = scale_of(camera) if max(camera.width, camera.height) < _FINE_PX else 1
        size = (scale * camera.width, scale * camera.height)
        faces = faces_of(body, len(people.vertices))
        reached = light_reaching(people.vertices, people.normals, faces, light.direction, size)
    lights = seen_from(light, camera)
    return draw_crowd(body, people.vertices, people.normals, people.colours, list(ids), camera, lights, reached)

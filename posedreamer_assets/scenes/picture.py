"""A picture of placed people before or over something, with the maps that its labels are read from."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.render.appearance import Appearance
from posedreamer_assets.render.shading import Light
from posedreamer_assets.scenes.draw import Crowd, draw_crowd, shadow_on_ground
from posedreamer_assets.scenes.layout import seen_from
from posedreamer_assets.scenes.people import colours_of, dressed


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
    """
    solids = dressed(body, params, looks, seeds)
    vertices, normals = np.stack([s.vertices for s in solids]), np.stack([s.normals for s in solids])
    colours = np.stack([colours_of(body, look, seed) for look, seed in zip(looks, seeds, strict=True)])
    if shadows:
        lost = shadow_on_ground(body, vertices, camera, light)
        behind = np.rint(behind * (1 - lost[..., None])).astype(np.uint8)
    crowd = draw_crowd(body, vertices, normals, colours, list(ids), camera, seen_from(light, camera))
    return crowd.over(behind), crowd

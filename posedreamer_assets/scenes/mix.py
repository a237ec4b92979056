"""Synthetic people over a photograph: they stand on the ground of its camera, which `photo_camera.py` guesses."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cameras.pinhole import Cameras, in_frame
from posedreamer_assets.config import MixedConfig
from posedreamer_assets.scenes.layout import Layout, ids_of, people_of, sample_light, stand
from posedreamer_assets.scenes.people import draw_cast, sample_scene
from posedreamer_assets.scenes.photo_camera import distances_m, photo_view
from posedreamer_assets.scenes.photos import PhotoPeople
from posedreamer_assets.seeds import sample_rng

_WIDE_M, _TALL_M = 0.5, 1.75  # half of the room, and the height, that a synthetic person may take
_MOST_TRIES = 20
_HIDDEN_SHARE = (
    0.25  # of the smaller box, of a person of the photograph or of somebody behind, that both may have in common
)


def lay_over_photo(
    body: BodyModel,
    image_id: str,
    run_seed: int,
    people: PhotoPeople,
    size: tuple[int, int],
    cfg: MixedConfig,
    families: Sequence[str] = (),
) -> Layout:
    """Synthetic people for a photograph; they depend on the run's seed, the image's id and the annotations alone."""
    rng = sample_rng(run_seed, image_id, "layout")
    drawn = people_of(rng, cfg.people_mean)
    view = photo_view(people, *size)
    light = sample_light(rng)
    cast = draw_cast(body, ids_of(image_id, drawn), run_seed, sample_scene(rng), families=families)
    known = distances_m(people, float(view.camera.focal_px[0]))

    def place() -> Float[np.ndarray, "3"] | None:
        # Feet may be below the frame, as those of people in photographs are.
        there = view.place(rng, (1.0,))
        for _ in range(_MOST_TRIES):
            if there is None or not _behind(there, view.camera, people, known):
                return there
            there = view.place(rng, (1.0,))
        return None

    return stand(body, cast, view.camera, light, place, cfg.max_tries)


def _behind(there: Float[np.ndarray, "3"], camera: Cameras, people: PhotoPeople, known: Float[np.ndarray, "n"]) -> bool:
    """Whether somebody who stands there would be painted over a person who is nearer to the camera."""
    corners = there + np.array([[-_WIDE_M, 0.0, 0.0], [_WIDE_M, _TALL_M, 0.0]])
    (left, low), (right, high) = camera.project(corners[None])[0]
    x, y, w, h = people.boxes.T
    across = np.minimum(right, x + w) - np.maximum(left, x)
    down = np.minimum(low, y + h) - np.maximum(high, y)
    over = np.maximum(across, 0) * np.maximum(down, 0) / np.maximum(w * h, 1)
    smaller = np.maximum(across, 0) * np.maximum(down, 0) / max((right - left) * (low - high), 1)
    depth_m = float((camera.rotation[0] @ there + camera.translation[0])[2])
    return bool(((np.maximum(over, smaller) > _HIDDEN_SHARE) & (depth_m > known)).any())


def under(points_px: Float[np.ndarray, "*n 2"], people: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "*n"]:
    """Who a map of people shows at each point; 0 for nobody and for points outside of it."""
    height, width = people.shape
    column, row = np.moveaxis(np.clip(np.nan_to_num(points_px).astype(int), 0, (width - 1, height - 1)), -1, 0)
    return np.where(in_frame(points_px, width, height), people[row, column], np.uint8(0))

"""What stands where no photographs are given: a rendered domain that is held apart from the scenes, called *stand-in*.

Nothing that is said of it says anything about photographs. It shares renderer and body with the scenes; all else that the
method does not control differs: pose families of its own, children among adults, few people near a camera that hardly looks down,
flat light, noisy cloth, fractal backgrounds, blur, sensor noise and JPEG.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cameras.crowds import sample_ground_view
from posedreamer_assets.cameras.pinhole import in_frame
from posedreamer_assets.poses.procedural import FAMILIES
from posedreamer_assets.render.shading import Light
from posedreamer_assets.scenes.composite import ground_colour, over
from posedreamer_assets.scenes.draw import Crowd
from posedreamer_assets.scenes.labels import Labels, label_people
from posedreamer_assets.scenes.layout import Layout, ids_of, sample_light, stand
from posedreamer_assets.scenes.people import draw_cast, sample_scene
from posedreamer_assets.scenes.photos import Photo, PhotoPeople
from posedreamer_assets.scenes.picture import crowd_of, picture_of, surfaces_of
from posedreamer_assets.seeds import sample_rng
from posedreamer_assets.tables.images import encode_jpeg

STAND_IN = "stand_in"
LICENCE = "Apache-2.0 (made by this project)"
FAMILIES_OF_ITS_OWN: tuple[str, ...] = tuple(name for k, name in enumerate(FAMILIES) if k % 3 == 0)
_MAX_TRIES = 60
_LEAST_PIXELS = 60  # of a person who is annotated
_PITCH_STD_DEG = 7.0
_AGES = (8.0, 65.0)


def other_families() -> tuple[str, ...]:
    """Pose families that the stand-in does not have."""
    return tuple(name for name in FAMILIES if name not in FAMILIES_OF_ITS_OWN)


def stand_in_photo(body: BodyModel, image_id: str, run_seed: int, size: int, *, traced: bool = False) -> Photo:
    """A stand-in for an annotated photograph; depends on the run's seed and the id alone.

    Args:
        body: of the people.
        image_id: of the photograph.
        run_seed: of the run.
        size: of the square picture, pixels.
        traced: whether Mitsuba traces the picture; who is annotated where is the same.

    Raises:
        RenderError: no OpenGL on this machine, or no Mitsuba.
    """
    rng = sample_rng(run_seed, image_id, STAND_IN)
    pitch = np.deg2rad(abs(rng.normal(0, _PITCH_STD_DEG)))
    view = sample_ground_view(rng, pitch_rad=pitch, size=size, distance_m=(3.2, 6.0), focal=(1.0, 1.5))
    sun = sample_light(rng)
    light = Light(sun.direction, intensity=0.6 * sun.intensity, ambient=1.5 * sun.ambient)
    ids = [f"{STAND_IN}/{name}" for name in ids_of(image_id, int(rng.integers(2, 6)))]
    cast = draw_cast(body, ids, run_seed, sample_scene(rng), families=FAMILIES_OF_ITS_OWN, ages=_AGES)
    layout = stand(body, cast, view.camera, light, lambda: view.place(rng), _MAX_TRIES)
    names = list(range(1, len(layout.people) + 1))
    behind = fractal_background(rng, size)
    if traced:
        drawn, crowd = _traced(body, layout, names, behind)
    else:
        # Without shadows on people: the shipped baseline has learnt from such.
        drawn, crowd = picture_of(body, layout.params, layout.looks, layout.seeds, names, view.camera, light, behind)
    labels = label_people(body, layout.params, names, view.camera, crowd.instances, crowd.parts)
    data = _as_taken(drawn, crowd.instances, rng)
    shown = np.flatnonzero((labels.pixels >= _LEAST_PIXELS) & labels.mpii_inside.any(axis=1)).tolist()
    ignored = np.isin(crowd.instances, [names[k] for k in range(len(names)) if k not in shown])
    masks = [crowd.instances == names[k] for k in shown]
    return Photo(f"{STAND_IN} {image_id}", data, size, size, LICENCE, _annotated(labels, shown, size, masks), ignored)


def fractal_background(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "h w 3"]:
    """Noise of all sizes in a few colours, darker below."""
    picture = np.zeros((size, size, 3))
    base = rng.uniform(60, 190, 3)
    for octave in range(1, 7):
        cells = 2**octave
        coarse = rng.normal(0, 1, (cells, cells, 3)) * [1, 0.8, 0.8] + rng.normal(0, 1, (cells, cells, 1))
        for k in range(3):
            layer = Image.fromarray(coarse[..., k].astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
            picture[..., k] += np.asarray(layer) * 34 / octave
    fall = np.linspace(1.1, 0.8, size)[:, None, None]
    return np.clip((picture + base) * fall, 0, 255).astype(np.uint8)


def _traced(
    body: BodyModel, layout: Layout, names: list[int], behind: UInt8[np.ndarray, "h w 3"]
) -> tuple[UInt8[np.ndarray, "h w 3"], Crowd]:
    from posedreamer_assets.scenes.traced import traced_light

    people = surfaces_of(body, layout.params, layout.looks, layout.seeds)
    crowd = crowd_of(body, people, names, layout.camera, layout.light)
    ground = ground_colour(behind, layout.light)
    light = traced_light(people, body.faces, layout.camera, layout.light, ground, crowd.share, seed=layout.seeds[0])
    return over(light, behind), crowd


def _as_taken(drawn: UInt8[np.ndarray, "h w 3"], people: UInt8[np.ndarray, "h w"], rng: np.random.Generator) -> bytes:
    """As a camera would store it: grain on cloth, blur, sensor noise, JPEG."""
    grain = rng.normal(0, 7, (*drawn.shape[:2], 1)) * (people > 0)[..., None]
    shown = Image.fromarray(np.clip(drawn + grain, 0, 255).astype(np.uint8))
    soft = np.asarray(shown.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.1)))), float)
    noisy = np.clip(soft + rng.normal(0, rng.uniform(2, 6), soft.shape), 0, 255).astype(np.uint8)
    return encode_jpeg(noisy, int(rng.integers(55, 91)))


def _annotated(labels: Labels, shown: list[int], size: int, masks: list[np.ndarray]) -> PhotoPeople:
    keypoints = labels.keypoints[shown].astype(float)
    labelled = in_frame(keypoints, size, size)
    inside = labels.mpii_inside[shown]
    return PhotoPeople(
        np.where(labelled[..., None], keypoints, 0.0),
        labelled,
        labels.keypoints_seen[shown],
        np.where(inside[..., None], labels.mpii[shown].astype(float), 0.0),
        inside,
        labels.mpii_seen[shown],
        labels.boxes[shown].astype(float),
        labels.head_px[shown].astype(float),
        list(masks),
    )

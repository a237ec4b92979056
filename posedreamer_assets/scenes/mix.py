"""Synthetic people over a photograph: its camera is guessed from the people in it, and they stand on its ground.

The camera looks level, which most do: a person of usual height whose head is at row v and whose feet are at row w of a
camera with its horizon at row c stands h = H (w - c) / (w - v) below it. The focal length is that of a usual lens.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from posedreamer_assets.body.joints import COCO17
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cameras.crowds import GroundView, ground_camera
from posedreamer_assets.cameras.pinhole import Cameras, in_frame
from posedreamer_assets.config import MixedConfig
from posedreamer_assets.scenes.layout import Layout, ids_of, people_of, sample_light, stand
from posedreamer_assets.scenes.people import draw_cast, sample_scene
from posedreamer_assets.scenes.photos import PhotoPeople
from posedreamer_assets.seeds import sample_rng

_FOCAL = 1.1  # of the larger side: 49 degrees across, between a telephone and a normal lens
_EYES_M = 1.6  # above the ground, of somebody who stands
_FACE, _ANKLES = ("nose", "left_eye", "right_eye"), ("left_ankle", "right_ankle")
_USUAL_M = 1.5  # height of a camera that nothing is known of
_HEIGHTS_M, _DISTANCES_M = (0.6, 3.5), (2.0, 14.0)
_LOW_SHARE = 0.45  # people whose face and ankles are less apart, as a share of the box, do not stand
# Lengths between COCO's keypoints that are the same in everybody and every pose; seen aslant they are shorter.
_LENGTHS_M = {
    ("left_ear", "right_ear"): 0.15, ("left_shoulder", "right_shoulder"): 0.36,
    ("left_shoulder", "left_hip"): 0.5, ("right_shoulder", "right_hip"): 0.5,
    ("left_hip", "left_knee"): 0.42, ("right_hip", "right_knee"): 0.42,
    ("left_knee", "left_ankle"): 0.4, ("right_knee", "right_ankle"): 0.4,
}  # fmt: skip
_WIDE_M, _TALL_M = 0.5, 1.75  # half of the room, and the height, that a synthetic person may take
_MOST_TRIES = 20
_HIDDEN_SHARE = (
    0.25  # of the smaller box, of a person of the photograph or of somebody behind, that both may have in common
)


def photo_view(people: PhotoPeople, width: int, height: int) -> GroundView:
    """The camera of a photograph and the stretch of ground that its people stand on, as far as they tell."""
    focal = _FOCAL * max(width, height)
    face, low = _rows(people, _FACE), _rows(people, _ANKLES)
    tall = low - face
    standing = np.isfinite(tall) & (tall > _LOW_SHARE * people.boxes[:, 3]) & (tall > 0.03 * height)
    camera_m = _USUAL_M
    if standing.any():
        heights = _EYES_M * (low - height / 2)[standing] / tall[standing]
        camera_m = float(np.clip(np.median(heights), *_HEIGHTS_M))
    camera = ground_camera(pitch_rad=0.0, height_m=camera_m, focal_px=focal, width=width, height=height)
    known = distances_m(people, focal)
    known = np.clip(known[np.isfinite(known)], *_DISTANCES_M)
    if not len(known):
        return GroundView(camera, 3.0, 8.0)
    near = max(_DISTANCES_M[0], 0.7 * float(known.min()))
    return GroundView(camera, near, max(1.3 * float(known.max()), near + 2.5))


def distances_m(people: PhotoPeople, focal_px: float) -> Float[np.ndarray, "n"]:
    """How far away each person is at most: where its longest limb would be seen square on. Infinite where none is known."""
    found = np.full(len(people), np.inf)
    for pair, length_m in _LENGTHS_M.items():
        a, b = (COCO17.index(name) for name in pair)
        both = people.labelled[:, a] & people.labelled[:, b]
        seen_px = np.hypot(*(people.keypoints[:, a] - people.keypoints[:, b]).T)
        distance = focal_px * length_m / np.maximum(seen_px, 1e-6)
        found = np.where(both, np.minimum(found, distance), found)
    return found


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
    return bool(((np.maximum(over, smaller) > _HIDDEN_SHARE) & (-there[2] > known)).any())


def under(points_px: Float[np.ndarray, "*n 2"], people: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "*n"]:
    """Who a map of people shows at each point; 0 for nobody and for points outside of it."""
    height, width = people.shape
    column, row = np.moveaxis(np.clip(np.nan_to_num(points_px).astype(int), 0, (width - 1, height - 1)), -1, 0)
    return np.where(in_frame(points_px, width, height), people[row, column], np.uint8(0))


def _rows(people: PhotoPeople, names: tuple[str, ...]) -> Float[np.ndarray, "n"]:
    """Mean row of the labelled ones of some keypoints; NaN where none is."""
    chosen = [COCO17.index(name) for name in names]
    flags = people.labelled[:, chosen]
    total = (people.keypoints[:, chosen, 1] * flags).sum(axis=1)
    return np.where(flags.any(axis=1), total / np.maximum(flags.sum(axis=1), 1), np.nan)

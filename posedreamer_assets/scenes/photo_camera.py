"""The camera of a photograph, guessed from the people in it.

A camera at height h that looks down by p sees the feet of somebody at an angle a below the level and the face, E above the
ground, at an angle b: h = E tan a / (tan a - tan b). Angles follow from rows, the focal length of a usual lens, and p. All who
stand see one h: the likeliest pitch is the one at which they agree best, where cameras look about level from about the height of
eyes, and people differ in height and how upright they stand.
"""

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.joints import COCO17
from posedreamer_assets.cameras.crowds import GroundView, ground_camera
from posedreamer_assets.scenes.photos import PhotoPeople

_FOCAL = 1.1  # of the larger side: 49 degrees across, between a telephone and a normal lens
_EYES_M = 1.6  # above the ground, of somebody who stands
_FACE, _ANKLES = ("nose", "left_eye", "right_eye"), ("left_ankle", "right_ankle")
_USUAL_M, _USUAL_SPREAD = 1.5, 0.35  # height of a camera that nothing is known of; its spread, of the logarithm
_PITCHES_RAD = np.deg2rad(np.arange(0.0, 40.25, 0.5))  # that are tried
_PITCH_SPREAD_RAD = np.deg2rad(8.0)
_PEOPLE_SPREAD = 0.15  # of the logarithm of heights that people tell
_MOST = 9.0  # squared spreads that one person counts at most: who is on a horse or a podium
_HEIGHTS_M, _DISTANCES_M = (0.6, 3.5), (2.0, 14.0)
_LOW_SHARE = 0.45  # people whose face and ankles are less apart, as a share of the box, do not stand
# Lengths between COCO's keypoints that are the same in everybody and every pose; seen aslant they are shorter.
_LENGTHS_M = {
    ("left_ear", "right_ear"): 0.15, ("left_shoulder", "right_shoulder"): 0.36,
    ("left_shoulder", "left_hip"): 0.5, ("right_shoulder", "right_hip"): 0.5,
    ("left_hip", "left_knee"): 0.42, ("right_hip", "right_knee"): 0.42,
    ("left_knee", "left_ankle"): 0.4, ("right_knee", "right_ankle"): 0.4,
}  # fmt: skip


def photo_view(people: PhotoPeople, width: int, height: int) -> GroundView:
    """The camera of a photograph and the stretch of ground that its people stand on, as far as they tell."""
    focal = _FOCAL * max(width, height)
    face, low = _rows(people, _FACE), _rows(people, _ANKLES)
    tall = low - face
    standing = np.isfinite(tall) & (tall > _LOW_SHARE * people.boxes[:, 3]) & (tall > 0.03 * height)
    pitch, camera_m = _likeliest((face - height / 2)[standing] / focal, (low - height / 2)[standing] / focal)
    camera = ground_camera(pitch_rad=pitch, height_m=camera_m, focal_px=focal, width=width, height=height)
    known = distances_m(people, focal)
    known = np.clip(known[np.isfinite(known)], *_DISTANCES_M)
    if not len(known):
        return GroundView(camera, 3.0, 8.0)
    near = max(_DISTANCES_M[0], 0.7 * float(known.min()))
    return GroundView(camera, near, max(1.3 * float(known.max()), near + 2.5))


def _likeliest(faces: Float[np.ndarray, "n"], feet: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """Pitch in radians and height in metres of a camera.

    Args:
        faces: rows of people who stand, below the middle of the image and divided by the focal length.
        feet: likewise.
    """
    pitch = _PITCHES_RAD[:, None]
    a, b = np.tan(pitch + np.arctan(feet)), np.tan(pitch + np.arctan(faces))
    told = np.log(
        np.clip(_EYES_M * a / np.maximum(a - b, 1e-6), 0.05, 20.0)
    )  # of feet above the horizon nothing is left
    usual, sure, each = np.log(_USUAL_M), _USUAL_SPREAD**-2, _PEOPLE_SPREAD**-2
    found = (told.sum(axis=1) * each + usual * sure) / (len(feet) * each + sure)
    apart = np.minimum(each * (told - found[:, None]) ** 2, _MOST).sum(axis=1)
    cost = apart + sure * (found - usual) ** 2 + (_PITCHES_RAD / _PITCH_SPREAD_RAD) ** 2
    best = int(cost.argmin())
    return float(_PITCHES_RAD[best]), float(np.clip(np.exp(found[best]), *_HEIGHTS_M))


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


def _rows(people: PhotoPeople, names: tuple[str, ...]) -> Float[np.ndarray, "n"]:
    """Mean row of the labelled ones of some keypoints; NaN where none is."""
    chosen = [COCO17.index(name) for name in names]
    flags = people.labelled[:, chosen]
    total = (people.keypoints[:, chosen, 1] * flags).sum(axis=1)
    return np.where(flags.any(axis=1), total / np.maximum(flags.sum(axis=1), 1), np.nan)

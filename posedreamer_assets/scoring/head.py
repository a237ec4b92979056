"""How far the painted head is turned from the label's, from five face keypoints in the image.

Approximation: one rigid face (nose, eyes and ears of the mean body) under scaled orthographic projection is fitted to
the 2D points of the label and to those of the detector, and the two rotations are compared. Perspective, face shape
and the detector's noise all enter; at 128 pixels a face is a dozen pixels wide, and one pixel is then about ten
degrees. So this finds heads that look the other way, and thresholds below 30 degrees are not meaningful at that size.

Given yaw and pitch, the best roll, scale and position are the complex least squares fit z = a w + b of points
z = x + iy, so that only two angles are searched. Near-flat point sets fit two rotations about equally well (the depth
reversal of orthographic views); the detection gets the benefit of the doubt: among the rotations that fit it nearly as
well as the best one, the nearest to the label's counts.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.progress import advance

FACE = slice(0, 5)  # nose, left eye, right eye, left ear, right ear in COCO's order
FACE_POINTS_M = np.array(
    [
        [0.0, 0.0111, 0.1194],
        [0.0308, 0.0544, 0.0943],
        [-0.0308, 0.0544, 0.0943],
        [0.0883, 0.0443, -0.0160],
        [-0.0883, 0.0443, -0.0160],
    ]
)
"""Of the mean free body, relative to the head joint: x to its left, y up, z forward, metres."""
MIN_POINTS = 3
MIN_CONFIDENCE = 0.3
TOLERANCE = 0.01  # of the points' spread, squared: how much worse a rotation may fit and still count


def head_errors_deg(
    detected: Float[np.ndarray, "n 17 3"],
    label: Float[np.ndarray, "n 17 2"],
    in_frame: Bool[np.ndarray, "n 17"] | None = None,
    min_confidence: float = MIN_CONFIDENCE,
) -> Float[np.ndarray, " n"]:
    """Angle between the detected and the label's head rotation, degrees in 0..180.

    Args:
        detected: x, y in pixels and confidence.
        label: projected keypoints, pixels; all five of the face are used, hidden ones too.
        in_frame: keypoints of the label inside of the image; others are not asked of the detector.
        min_confidence: below it a detected keypoint is not used.

    Returns:
        float32; NaN where fewer than three face keypoints are confident, or where the label's are not finite.
    """
    usable = detected[:, FACE, 2] >= min_confidence
    if in_frame is not None:
        usable &= in_frame[:, FACE]
    out = np.full(len(detected), np.nan, np.float32)
    for i in np.flatnonzero((usable.sum(1) >= MIN_POINTS) & np.isfinite(label[:, FACE]).all((1, 2))):
        out[i] = _angle_between(detected[i, FACE, :2], usable[i], label[i, FACE])
    advance(len(detected))
    return out


def head_rotations(points: Float[np.ndarray, "n 5 2"]) -> Float[np.ndarray, "n 3 3"]:
    """Head to camera rotations (camera: x right, y down, z forward) that fit five face points best.

    `diag(1, -1, -1)` is a head upright that looks straight into the camera.
    """
    return np.stack([_best_rotation(p.astype(np.float64)) for p in points])


def _angle_between(found: np.ndarray, usable: np.ndarray, label: np.ndarray) -> float:
    target = _best_rotation(label.astype(np.float64))
    points = found.astype(np.float64)
    angles_deg, turned = _whole_sphere()
    residual, roll = _fit(points, usable, turned)
    near = np.flatnonzero(residual <= residual.min() + TOLERANCE)
    error = _angles_deg(_rolled(turned[near], roll[near]), target)
    nearest = int(error.argmin())
    refined = _refined(points, usable, *angles_deg[near[nearest]])
    return float(min(error[nearest], _angles_deg(refined[None], target)[0]))


def _best_rotation(points: np.ndarray) -> np.ndarray:
    every = np.ones(5, bool)
    angles_deg, turned = _whole_sphere()
    residual, _ = _fit(points, every, turned)
    return _refined(points, every, *angles_deg[int(residual.argmin())])


def _refined(points: np.ndarray, usable: np.ndarray, yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """The best rotation near the given angles, by two ever finer grids."""
    rotation = np.eye(3)
    for step in (1.5, 0.3):
        angles_deg, turned = _grid(yaw_deg, pitch_deg, 4 * step, 4 * step, step)
        residual, roll = _fit(points, usable, turned)
        best = int(residual.argmin())
        yaw_deg, pitch_deg = angles_deg[best]
        rotation = _rolled(turned[best : best + 1], roll[best : best + 1])[0]
    return rotation


@lru_cache(maxsize=1)
def _whole_sphere() -> tuple[np.ndarray, np.ndarray]:
    return _grid(0.0, 0.0, 180.0, 84.0, 6.0)


def _grid(
    yaw_deg: float, pitch_deg: float, yaw_range: float, pitch_range: float, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Yaws and pitches (g, 2) about a centre, degrees, and head to camera rotations (g, 3, 3) without roll."""
    yaws = np.radians(yaw_deg + np.arange(-yaw_range, yaw_range + step / 2, step))
    pitches = np.radians(pitch_deg + np.arange(-pitch_range, pitch_range + step / 2, step))
    yaw, pitch = (a.ravel() for a in np.meshgrid(yaws, pitches, indexing="ij"))
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    zero = np.zeros_like(cy)
    # diag(1, -1, -1) Rx(pitch) Ry(yaw): turn, nod, then look into the camera.
    rows = [[cy, zero, sy], [-sp * sy, -cp, sp * cy], [cp * sy, -sp, -cp * cy]]
    turned = np.stack([np.stack(row, -1) for row in rows], -2)
    return np.degrees(np.stack([yaw, pitch], -1)), turned


def _fit(points: np.ndarray, usable: np.ndarray, turned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residual (share of the points' squared spread) and roll (radians) of each rotation.

    With centred z and w, a = <w, z> / <w, w>; the residual is 1 - |<w, z>|^2 / (<w, w> <z, z>), and roll is a's angle.
    """
    face = np.einsum("gij,kj->gik", turned[:, :2], FACE_POINTS_M[usable])
    w = face[:, 0] + 1j * face[:, 1]
    w = w - w.mean(1, keepdims=True)
    z = points[usable, 0] + 1j * points[usable, 1]
    z = z - z.mean()
    inner = (w.conj() * z).sum(1)
    spread = (np.abs(w) ** 2).sum(1) * (np.abs(z) ** 2).sum()
    return 1 - np.abs(inner) ** 2 / np.maximum(spread, 1e-15), np.angle(inner)


def _rolled(turned: np.ndarray, roll_rad: np.ndarray) -> np.ndarray:
    """Rotations followed by a roll about the camera's axis."""
    cos, sin, zero, one = np.cos(roll_rad), np.sin(roll_rad), np.zeros_like(roll_rad), np.ones_like(roll_rad)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
    return np.stack([np.stack(row, -1) for row in rows], -2) @ turned


def _angles_deg(rotations: np.ndarray, target: np.ndarray) -> np.ndarray:
    trace = np.einsum("gij,ij->g", rotations, target)
    return np.degrees(np.arccos(((trace - 1) / 2).clip(-1, 1)))

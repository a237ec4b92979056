"""Flips, turns, scalings and shifts of an image with its SMPL-X label and its intrinsics, as one map; and changes of colour.

An image map is x' = s R x + b, after an optional mirror. A pinhole camera f X / Z + c sees the turned body R X with focal length
s f and principal point s R c + b at the very same pixels: so labels move exactly, and no label is clipped or approximated.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from posedreamer_assets.body.joints import JOINT_MIRROR
from posedreamer_assets.students.labels import BODY_JOINTS, Labels

_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)
OUTSIDE = (114, 114, 114)


@dataclass(frozen=True)
class Augmentation:
    """What is done to one image. The identity by default.

    Attributes:
        mirror: first, left and right change places.
        turn_rad: about the image's centre; positive turns x towards y, clockwise on the screen.
        scale: about the image's centre.
        shift_px: then, x and y.
        gains: of the three channels. gamma: of all.
        quality: of a JPEG that it goes through; 0 for none.
    """

    mirror: bool = False
    turn_rad: float = 0.0
    scale: float = 1.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    quality: int = 0


def sample_augmentation(rng: np.random.Generator, width: int, height: int) -> Augmentation:
    """A random one; drawn in the same order always, so that a copy is the same whatever is used of it."""
    shift = rng.uniform(-0.06, 0.06, 2) * (width, height)
    return Augmentation(
        mirror=bool(rng.random() < 0.5),
        turn_rad=float(np.deg2rad(np.clip(rng.normal(0, 12), -30, 30))),
        scale=float(np.exp(rng.uniform(-0.15, 0.15))),
        shift_px=(float(shift[0]), float(shift[1])),
        gains=tuple(float(value) for value in rng.uniform(0.85, 1.15, 3)),  # pyright: ignore[reportArgumentType]
        gamma=float(np.exp(rng.uniform(-0.25, 0.25))),
        quality=int(rng.integers(50, 96)) if rng.random() < 0.3 else 0,
    )


def affine(aug: Augmentation, width: int, height: int) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, "2"]]:
    """A and b of x' = A x + b for pixels of an image, the mirror included."""
    cosine, sine = np.cos(aug.turn_rad), np.sin(aug.turn_rad)
    turn = aug.scale * np.array([[cosine, -sine], [sine, cosine]])
    centre = np.array([width, height]) / 2
    offset = centre - turn @ centre + aug.shift_px
    if not aug.mirror:
        return turn, offset
    return turn @ np.diag([-1.0, 1.0]), turn @ np.array([width, 0.0]) + offset


def augment_image(image: UInt8[np.ndarray, "h w 3"], aug: Augmentation) -> UInt8[np.ndarray, "h w 3"]:
    """The image after its map and its changes of colour; what comes from outside is grey."""
    height, width = image.shape[:2]
    a, b = affine(aug, width, height)
    moved = Image.fromarray(image)
    if aug.mirror or aug.turn_rad or aug.scale != 1 or any(aug.shift_px):
        inverse = np.linalg.inv(a)
        back = inverse @ -b
        data = (*inverse[0], back[0], *inverse[1], back[1])
        moved = moved.transform(
            (width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=OUTSIDE
        )
    changed = np.asarray(moved)
    if aug.gamma != 1 or any(gain != 1 for gain in aug.gains):
        changed = with_colours(changed.astype(np.float32) / 255, aug.gamma, np.array(aug.gains, np.float32))
    return as_jpeg(changed, aug.quality) if aug.quality else changed


def with_colours(
    shares: Float[np.ndarray, "h w 3"], gamma: float, gains: Float[np.ndarray, "3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """An image under a gamma and, then, gains of its channels.

    Args:
        shares: of full brightness.
        gamma: of all channels.
        gains: of each.
    """
    return np.rint((shares**gamma * gains).clip(0, 1) * 255).astype(np.uint8)


def as_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """What a JPEG of that quality leaves of an image."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.asarray(read)


def augment_labels(labels: Labels, augs: "list[Augmentation]", width: int, height: int) -> Labels:
    """The labels of the images after their maps, one augmentation each."""
    mirrored = _mirror(labels, np.array([aug.mirror for aug in augs]), width)
    angles = np.array([aug.turn_rad for aug in augs], np.float64)
    scales = np.array([aug.scale for aug in augs], np.float64)
    turns = np.zeros((len(augs), 3, 3))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angles)
    turns[:, 1, 0], turns[:, 0, 1], turns[:, 2, 2] = np.sin(angles), -np.sin(angles), 1
    centre = np.array([width, height]) / 2
    shifts = np.array([aug.shift_px for aug in augs])
    from_centre = np.einsum("nab,nb->na", turns[:, :2, :2], mirrored.principal_px - centre)
    rotations = mirrored.rotations.copy()
    rotations[:, 0] = turns @ mirrored.rotations[:, 0]
    return replace(
        mirrored,
        rotations=rotations,
        pelvis_cam_m=np.einsum("nab,nb->na", turns, mirrored.pelvis_cam_m).astype(np.float32),
        focal_px=(mirrored.focal_px * scales).astype(np.float32),
        principal_px=(scales[:, None] * from_centre + centre + shifts).astype(np.float32),
    )


def _mirror(labels: Labels, chosen: np.ndarray, width: int) -> Labels:
    """Labels of mirrored images where chosen: left and right change places, rotations become S R S with S = diag(-1, 1, 1)."""
    swap = np.array(JOINT_MIRROR[:BODY_JOINTS])
    rotations = labels.rotations[:, swap] * _MIRROR[:, None] * _MIRROR
    principal = np.stack([width - labels.principal_px[:, 0], labels.principal_px[:, 1]], 1)
    pick = chosen[:, None]
    return replace(
        labels,
        rotations=np.where(chosen[:, None, None, None], rotations, labels.rotations),
        pelvis_cam_m=np.where(pick, labels.pelvis_cam_m * _MIRROR, labels.pelvis_cam_m),
        principal_px=np.where(pick, principal, labels.principal_px).astype(np.float32),
    )

"""Crops around people: a random similarity moves image, joints and masks together; a seed and a step give the same crops."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.people2d.samples import Picture, Source, person_sizes

MIRRORED: tuple[int, ...] = (5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10)
"""The joint of a mirrored person that each of MPII's 16 is."""

_GREY = (124, 116, 104)  # ImageNet's mean, 0 for the network
_FAR = -1e4  # pixels: joints of nobody


@dataclass(frozen=True)
class Crops:
    """Square crops. Crops with fewer people than the fullest have rows in which nothing is known.

    Attributes:
        images: RGB.
        joints: pixels of the crop.
        known: labelled joints.
        synthetic: who is.
        ignore: pixels that say nothing: people whom nobody annotated, and what lies outside of the picture.
        instances: 0, or the person (its row + 1) that a pixel shows; 0 everywhere where it is not known.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    joints: Float[np.ndarray, "n p 16 2"]
    known: Bool[np.ndarray, "n p 16"]
    synthetic: Bool[np.ndarray, "n p"]
    ignore: Bool[np.ndarray, "n s s"]
    instances: UInt8[np.ndarray, "n s s"]

    def __len__(self) -> int:
        return len(self.images)

    def image_tensor(self) -> Float[Tensor, "n 3 s s"]:
        """Images in 0..1 as networks take them."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2).float().div_(255)


@dataclass(frozen=True)
class Placement:
    """A similarity of the plane: crop = scale * rotation(angle) * mirror * (picture - centre) + middle."""

    centre: Float[np.ndarray, "2"]
    scale: float
    angle_rad: float
    mirror: bool
    middle: Float[np.ndarray, "2"]

    @property
    def linear(self) -> Float[np.ndarray, "2 2"]:
        """Its linear part."""
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        return self.scale * np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if self.mirror else 1.0, 1.0])

    def of(self, points: Float[np.ndarray, "*k 2"]) -> Float[np.ndarray, "*k 2"]:
        """Points of the picture in the crop."""
        return (points - self.centre) @ self.linear.T + self.middle


def random_placement(picture: Picture, person: int, cfg: Pose2dConfig, rng: np.random.Generator) -> Placement:
    """The person near the middle, `cfg.person_share` of the crop long before it is scaled."""
    seen = picture.joints[person][picture.known[person]]
    centre = (seen.min(axis=0) + seen.max(axis=0)) / 2
    fit = cfg.person_share * cfg.size / person_sizes(picture)[person]
    shift = rng.uniform(-cfg.shift_share, cfg.shift_share, 2) * cfg.size
    return Placement(
        centre,
        fit * rng.uniform(cfg.scale_min, cfg.scale_max),
        np.deg2rad(rng.uniform(-cfg.rotate_deg, cfg.rotate_deg)),
        bool(rng.random() < 0.5),
        shift + cfg.size / 2,
    )


def draw_crops(source: Source, rows: Int[np.ndarray, "n"], cfg: Pose2dConfig, rng: np.random.Generator) -> Crops:
    """A crop around each of some people of a source."""
    parts = []
    for picture_row, person in source.people[rows]:
        picture = source.pictures[int(picture_row)]
        parts.append(crop_picture(picture, random_placement(picture, int(person), cfg, rng), cfg.size))
    return joined(parts)


def crop_picture(picture: Picture, place: Placement, size: int) -> Crops:
    """One crop, with those people of the picture of whom a known joint or a pixel lies in it."""
    joints, known = place.of(picture.joints), picture.known
    if place.mirror:
        joints, known = joints[:, list(MIRRORED)], known[:, list(MIRRORED)]
    warp = _Warp(place, size)
    shown = np.zeros((size, size), np.uint8) if picture.instances is None else warp.mask(picture.instances)
    inside = np.any(known & np.all((joints >= 0) & (joints < size), axis=-1), axis=1)
    inside[[k - 1 for k in np.unique(shown) if k]] = True
    kept = np.flatnonzero(inside)
    rows = np.zeros(256, np.uint8)
    rows[kept + 1] = np.arange(1, len(kept) + 1)
    said = np.ones(picture.image.shape[:2], np.uint8)
    if picture.ignore is not None:
        said[picture.ignore] = 0
    return Crops(
        warp.image(picture.image)[None],
        np.where(known[..., None], joints, _FAR)[kept][None],
        known[kept][None],
        picture.synthetic[kept][None],
        warp.mask(said)[None] == 0,
        rows[shown][None],
    )


class _Warp:
    """Pictures and masks seen through a placement; 0 and grey outside of them."""

    def __init__(self, place: Placement, size: int) -> None:
        self.place, self.size = place, size

    def image(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """Bilinear, of means over squares where the picture is far larger than the crop."""
        drawn, by = Image.fromarray(image), max(1, int(1 / self.place.scale))
        if by > 1:
            drawn = drawn.reduce(by)
        return self._through(drawn, by, Image.Resampling.BILINEAR, _GREY)

    def mask(self, mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "s s"]:
        """The nearest pixel's value."""
        return self._through(Image.fromarray(mask), 1, Image.Resampling.NEAREST, 0)

    def _through(self, drawn: Image.Image, by: int, how: Image.Resampling, fill: int | tuple[int, ...]) -> np.ndarray:
        back = np.linalg.inv(self.place.linear)
        moved = self.place.centre - back @ self.place.middle
        (a, b), (d, e) = (back / by).tolist()
        c, f = (moved / by).tolist()
        sides = (self.size, self.size)
        return np.array(drawn.transform(sides, Image.Transform.AFFINE, (a, b, c, d, e, f), how, fillcolor=fill))


def joined(parts: Sequence[Crops]) -> Crops:
    """Crops one after the other, whatever their numbers of people."""
    most = max(1, *(part.joints.shape[1] for part in parts))

    def filled(values: np.ndarray, fill: float | bool) -> np.ndarray:
        wide = np.full((len(values), most, *values.shape[2:]), fill, values.dtype)
        wide[:, : values.shape[1]] = values
        return wide

    return Crops(
        np.concatenate([part.images for part in parts]),
        np.concatenate([filled(part.joints, _FAR) for part in parts]),
        np.concatenate([filled(part.known, False) for part in parts]),
        np.concatenate([filled(part.synthetic, False) for part in parts]),
        np.concatenate([part.ignore for part in parts]),
        np.concatenate([part.instances for part in parts]),
    )

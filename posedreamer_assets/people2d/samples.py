"""What the student is trained on: pictures with people, and which of these people crops are centred on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class Picture:
    """An image with labelled people, real and synthetic ones.

    Attributes:
        image: RGB.
        joints: MPII's 16 of each person in the order of `scenes.points.MPII16`, pixels from the image's corner.
        known: which of them are labelled; coordinates of others mean nothing.
        synthetic: who is.
        head_px: diagonal of the box of each head; NaN where it cannot be told.
        ignore: pixels of people whom nobody annotated; None where there are none.
        instances: 0, or the person (its row + 1) that a pixel shows; None where it is not known.
    """

    image: UInt8[np.ndarray, "h w 3"]
    joints: Float[np.ndarray, "p 16 2"]
    known: Bool[np.ndarray, "p 16"]
    synthetic: Bool[np.ndarray, "p"]
    head_px: Float[np.ndarray, "p"]
    ignore: Bool[np.ndarray, "h w"] | None = None
    instances: UInt8[np.ndarray, "h w"] | None = None


@dataclass(frozen=True)
class Source:
    """People that crops are centred on. A person is drawn, not an image.

    Attributes:
        pictures: may be read lazily: any sequence does.
        people: picture and person (its row there), one row for each.
        groups: the teacher's group of each; None where there is no teacher.
        ids: of each person.
    """

    pictures: Sequence[Picture]
    people: Int[np.ndarray, "n 2"]
    groups: Int[np.ndarray, "n"] | None
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.people)


def person_sizes(picture: Picture) -> Float[np.ndarray, "p"]:
    """How long each person is, pixels: the longer side of the box of its labelled joints, at least five diagonals of its head.

    A person who is cut off or sits is so no larger in a crop than others. 1 where nothing is known.
    """
    sizes = np.ones(len(picture.joints))
    for row, (joints, known) in enumerate(zip(picture.joints, picture.known, strict=True)):
        if known.any():
            sizes[row] = max(1.0, float(np.ptp(joints[known], axis=0).max()))
    heads = np.where(np.isfinite(picture.head_px), picture.head_px, 0.0)
    return np.maximum(sizes, _HEADS * heads)


_HEADS = 5.0  # diagonals of the head's box that an adult is long, about

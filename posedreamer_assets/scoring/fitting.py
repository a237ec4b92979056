"""What of an image a keypoint detector is shown, and the way back of its points."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from posedreamer_assets.errors import DetectorError
from posedreamer_assets.scoring.crops import crop_windows, cut
from posedreamer_assets.scoring.letterbox import Letterbox, letterbox

GREY = 114
"""What fills an input beside an image that does not fit its shape."""
CROPS = ("whole", "label")


@dataclass(frozen=True)
class Fitting:
    """Fits images into a network's input, whole or cut to the labelled person.

    Attributes:
        crop: `whole` or `label`.
        height, width: of the input, pixels.
        frame: grey beside a whole image.
        beyond: grey of a crop beyond the image's frame; the networks that learnt from crops saw black there.
    """

    crop: str
    height: int
    width: int
    frame: int = GREY
    beyond: int = GREY

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise DetectorError(f"crop is {self.crop!r}; expected one of {', '.join(CROPS)}")

    def __call__(
        self, images: UInt8[np.ndarray, "n h w 3"], boxes: Float[np.ndarray, "n 4"] | None
    ) -> tuple[UInt8[np.ndarray, "n height width 3"], list[Letterbox]]:
        """Inputs, and the map from each image to its input.

        Raises:
            DetectorError: no boxes, or not one for each image, where crops are asked for.
        """
        if self.crop == "whole":
            fitted, box = letterbox(images, self.height, self.width, fill=self.frame)
            return fitted, [box] * len(images)
        if boxes is None or len(boxes) != len(images):
            count = "no" if boxes is None else len(boxes)
            raise DetectorError(f"crop: label needs the labelled person's box of each image: {count} of {len(images)}")
        size = (self.height, self.width)
        return cut(images, crop_windows(boxes, images.shape[1:3], size), size, self.beyond)


def named(name: str, digest: str, crop: str) -> tuple[str, str]:
    """Name and digest of a detector; one that sees crops is another than one that sees whole images."""
    return (name, digest) if crop == "whole" else (f"{name}, {crop} crops", f"{digest}-{crop}")

"""Silhouettes of people by an ONNX network that says of each pixel how sure it is that a person is there."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from posedreamer_assets.errors import DetectorError
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.letterbox import letterbox
from posedreamer_assets.scoring.onnx_detector import open_session
from posedreamer_assets.scoring.weights import folder_digest

MIN_SCORE = 0.5


class OnnxSegmenter:
    """Draws the people of images.

    The network takes one picture, (1, h, w, 3) or (1, 3, h, w), float32 in 0..1, and answers with one plane of as many pixels,
    scores in 0..1: as MediaPipe's segmenters of selfies do.

    Raises:
        DetectorError: no such file, a damaged one, or a network with other inputs and outputs.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DetectorError(f"no ONNX file at {path}")
        self._session = open_session(path, ())
        self.name, self.digest = path.name, folder_digest(path)
        shapes = [[one.shape for one in side] for side in (self._session.get_inputs(), self._session.get_outputs())]
        self._planes_first, self._height, self._width = _layout(shapes, path)

    def draw(self, images: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n h w"]:
        """Where any person is seen."""
        drawn = np.zeros(images.shape[:3], bool)
        fitted, place = letterbox(images, self._height, self._width, fill=0)
        for i, picture in enumerate(fitted):
            shown = picture.astype(np.float32) / 255
            shown = shown.transpose(2, 0, 1) if self._planes_first else shown
            (found,) = self._session.run(None, {self._session.get_inputs()[0].name: shown[None]})
            scores = np.asarray(found, np.float32).reshape(self._height, self._width)
            drawn[i] = place.plane_of_image(scores, *images.shape[1:3]) > MIN_SCORE
            advance(1)
        return drawn


def _layout(shapes: list[list[list[object]]], path: Path) -> tuple[bool, int, int]:
    """Whether planes come first, height and width of the input."""
    inputs, outputs = shapes
    for planes_first, channel, of_pixels in ((False, 3, slice(1, 3)), (True, 1, slice(2, 4))):
        if [len(one) for one in (*inputs, *outputs)] != [4, 4]:
            break
        (taken,), (given,) = inputs, outputs
        height, width = taken[of_pixels]
        fits = (taken[channel], given[channel]) == (3, 1) and given[of_pixels] == [height, width]
        if fits and isinstance(height, int) and isinstance(width, int):
            return planes_first, height, width
    raise DetectorError(
        f"{path}: inputs {inputs} and outputs {outputs} are no segmenter's: expected one picture (1, h, w, 3) or (1, 3, h, w), "
        "and one plane of as many pixels"
    )

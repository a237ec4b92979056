"""Draws what `scale` of the hmr2 format means: python -m posedreamer_assets_tests.peers.draw docs/images/hmr2-scale.png"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from posedreamer_assets.export.hmr2 import BOX_PADDING
from posedreamer_assets_tests.export.rows import world
from posedreamer_assets_tests.peers.loaders import at_3_to_4

_ZOOM, _MARGIN = 2, 110
_WORDS = (
    ("#ffffff", "box of the silhouette (bbox)"),
    ("#ffb000", "200 * scale: 1.2 times as large"),
    ("#40c0ff", "widened to 3 : 4"),
    ("#ff4080", "crop of 4D-Humans: a square of the longer side"),
)


def draw(path: Path) -> None:
    """One person, its box, and what the loader makes of it."""
    truth = world()
    sample = int(truth.maps.bbox[:, 3].argmin())  # whole in its image
    x, y, w, h = truth.maps.bbox[sample].astype(float)
    middle, padded = np.array([x + w / 2, y + h / 2]), np.array([w, h]) * BOX_PADDING
    wide = at_3_to_4(padded)
    picture = Image.fromarray(truth.maps.control[sample])
    size = (picture.width * _ZOOM, picture.height * _ZOOM)
    page = Image.new("RGB", (size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN + 70), "#202020")
    page.paste(picture.resize(size), (_MARGIN, _MARGIN))
    pen = ImageDraw.Draw(page)
    for line, (extent, (colour, words)) in enumerate(
        zip((np.array([w, h]), padded, wide, np.array([wide.max()] * 2)), _WORDS, strict=True)
    ):
        low, high = ((middle + sign * extent / 2) * _ZOOM + _MARGIN for sign in (-1, 1))
        pen.rectangle([*low, *high], outline=colour, width=2)
        pen.text((_MARGIN, size[1] + 2 * _MARGIN + 16 * line), words, fill=colour)
    page.save(path, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))

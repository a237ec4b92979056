"""Pictures for people to look at: keypoints and masks drawn over images, and contact sheets."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from posedreamer_assets.body.joints import COCO17, COCO17_SKELETON
from posedreamer_assets.errors import MetricsError

LEFT_RGB = (64, 200, 255)  # the person's own left
RIGHT_RGB = (255, 148, 60)
MIDDLE_RGB = (240, 240, 240)
OUTLINE_RGB = (16, 18, 20)
PAPER_RGB = (250, 250, 248)
INK_RGB = (40, 42, 46)
MUTED_RGB = (110, 114, 120)


def enlarge(image: UInt8[np.ndarray, "h w 3"], factor: int) -> UInt8[np.ndarray, "H W 3"]:
    """The image, `factor` times as large, smoothly; thin lines drawn on it then stay thin."""
    if factor == 1:
        return image
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width * factor, height * factor), Image.Resampling.BICUBIC))


def draw_keypoints(
    image: UInt8[np.ndarray, "h w 3"],
    keypoints: Float[np.ndarray, "17 2"] | Float[np.ndarray, "17 3"],
    visible: Bool[np.ndarray, " 17"] | None = None,
    *,
    factor: int = 2,
    min_confidence: float = 0.2,
) -> UInt8[np.ndarray, "H W 3"]:
    """COCO's skeleton over an image enlarged by `factor`: left limbs blue, right limbs orange.

    Args:
        image: RGB.
        keypoints: x and y in pixels of `image`, and optionally a confidence.
        visible: points to draw; without it, those of at least `min_confidence`, or all where no confidence is given.
    """
    big = Image.fromarray(enlarge(image, factor))
    if visible is None:
        visible = keypoints[:, 2] >= min_confidence if keypoints.shape[1] == 3 else np.ones(17, dtype=bool)
    shown = np.asarray(visible) & np.isfinite(keypoints[:, :2]).all(axis=1)
    points = [(float(x) * factor, float(y) * factor) for x, y in np.nan_to_num(keypoints[:, :2])]
    width = max(2, round(min(big.size) / 100))
    pen = ImageDraw.Draw(big)
    bones = [(a, b) for a, b in COCO17_SKELETON if shown[a] and shown[b]]
    for extra in (2, 0):  # dark outlines first, so that lines read on any background
        for a, b in bones:
            colour = OUTLINE_RGB if extra else _bone_colour(a, b)
            pen.line((points[a], points[b]), fill=colour, width=width + extra)
    for index in np.flatnonzero(shown).tolist():
        (x, y), radius = points[index], width * 1.1
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_side_colour(index), outline=OUTLINE_RGB)
    return np.asarray(big)


def overlay_render(
    image: UInt8[np.ndarray, "h w 3"], render: UInt8[np.ndarray, "h w 3"], *, alpha: float = 0.6
) -> UInt8[np.ndarray, "h w 3"]:
    """A rendered mesh (any map that is black outside the body) blended over an image."""
    return _blend(image, render.astype(np.float32), np.asarray(render.any(axis=2)), alpha)


def contact_sheet(
    rows: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]],
    *,
    columns: Sequence[str] = (),
    captions: Sequence[str] = (),
    cell_px: int = 128,
    gap_px: int = 6,
) -> UInt8[np.ndarray, "H W 3"]:
    """Images in a grid, `columns` titled above and one caption below each row; cells keep their aspect.

    Raises:
        MetricsError: no images, or titles that do not match the grid.
    """
    if not rows or not rows[0]:
        raise MetricsError("a contact sheet needs at least one image")
    across = max(len(row) for row in rows)
    if columns and len(columns) != across:
        raise MetricsError(f"{len(columns)} column titles for {across} columns")
    if captions and len(captions) != len(rows):
        raise MetricsError(f"{len(captions)} captions for {len(rows)} rows")
    font = ImageFont.load_default(size=max(10, round(cell_px / 11)))
    line = round(font.getbbox("Ag")[3]) + 4
    top, below = (line if columns else 0), (line if captions else 0)
    width = gap_px + across * (cell_px + gap_px)
    height = gap_px + top + len(rows) * (cell_px + below + gap_px)
    sheet = Image.new("RGB", (width, height), PAPER_RGB)
    pen = ImageDraw.Draw(sheet)
    for i, title in enumerate(columns):
        pen.text((gap_px + i * (cell_px + gap_px), gap_px // 2), _cut(title, font, cell_px), fill=INK_RGB, font=font)
    for r, row in enumerate(rows):
        y = gap_px + top + r * (cell_px + below + gap_px)
        for c, image in enumerate(row):
            _paste(sheet, image, (gap_px + c * (cell_px + gap_px), y), cell_px)
        if captions:
            text = _cut(captions[r], font, width - 2 * gap_px)
            pen.text((gap_px, y + cell_px + 1), text, fill=MUTED_RGB, font=font)
    return np.asarray(sheet)


def _blend(
    image: UInt8[np.ndarray, "h w 3"],
    top: Float[np.ndarray, "h w 3"],
    inside: Bool[np.ndarray, "h w"],
    alpha: float,
) -> UInt8[np.ndarray, "h w 3"]:
    mixed = image.astype(np.float32) * (1.0 - alpha) + top * alpha
    return np.where(inside[..., None], np.rint(mixed), image).astype(np.uint8)


def _side_colour(index: int) -> tuple[int, int, int]:
    name = COCO17[index]
    return LEFT_RGB if name.startswith("left") else RIGHT_RGB if name.startswith("right") else MIDDLE_RGB


def _bone_colour(a: int, b: int) -> tuple[int, int, int]:
    first, second = _side_colour(a), _side_colour(b)
    if first == second:
        return first
    sides = {first, second} - {MIDDLE_RGB}
    return sides.pop() if len(sides) == 1 else MIDDLE_RGB


def _paste(sheet: Image.Image, image: np.ndarray, corner: tuple[int, int], cell_px: int) -> None:
    height, width = image.shape[:2]
    scale = cell_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    fitted = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    sheet.paste(fitted, (corner[0] + (cell_px - size[0]) // 2, corner[1] + (cell_px - size[1]) // 2))


def _cut(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """The text, shortened with an ellipsis to fit a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"

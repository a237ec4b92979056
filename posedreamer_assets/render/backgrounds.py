"""Backgrounds: procedural scenes that share the camera's horizon, or crops of the user's photographs."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.tables.images import opened

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}

# Scene: colours of sky or wall (top, bottom), of the ground, and what stands at the horizon.
_SCENES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int], str]] = {
    "in a studio": ((205, 205, 210), (235, 235, 238), (190, 190, 194), "nothing"),
    "in a room": ((205, 190, 165), (225, 212, 190), (140, 100, 66), "furniture"),
    "in a park": ((120, 175, 230), (205, 228, 245), (95, 145, 70), "trees"),
    "on a beach": ((105, 170, 235), (190, 222, 240), (222, 200, 150), "sea"),
    "on a street": ((170, 190, 210), (215, 222, 230), (112, 112, 116), "houses"),
    "in a gym": ((120, 130, 145), (160, 168, 180), (66, 84, 128), "bars"),
}


def horizon_row(pitch_deg: float, focal_px: float, height: int) -> float:
    """Row at which a level ground vanishes, pixels from the top; may lie outside the image."""
    return height / 2 - focal_px * float(np.tan(np.deg2rad(pitch_deg)))


def procedural_background(
    scene: str, rng: np.random.Generator, width: int, height: int, horizon: float, roll_deg: float, scale: int = 1
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of a scene without people, with its horizon at the given row and roll.

    It is drawn `scale` times as large and averaged, so that edges are smooth; all sizes given are those of the result.
    """
    top, bottom, ground, standing = _SCENES[scene]
    shift = rng.normal(0, 14, 3)

    def colour(rgb: tuple[int, int, int], spread: float = 0.0) -> tuple[int, int, int]:
        values = np.clip(np.array(rgb) + shift + rng.normal(0, spread, 3), 0, 255)
        return tuple(int(v) for v in values)  # type: ignore[return-value]

    # Drawn larger than needed, so that rolling leaves no corners empty.
    pad = int(0.25 * max(width, height))
    w, h, line = (width + 2 * pad) * scale, (height + 2 * pad) * scale, (horizon + pad) * scale
    ramp = np.linspace(0, 1, h)[:, None, None]
    sky = ((1 - ramp) * np.array(colour(top)) + ramp * np.array(colour(bottom))).astype(np.uint8)
    image = Image.fromarray(np.repeat(sky, w, axis=1))
    draw = ImageDraw.Draw(image)
    _draw_standing(draw, standing, rng, w, line, h, colour)
    if line < h:
        _draw_ground(draw, rng, w, h, line, ground, colour, lines=standing in ("furniture", "bars", "houses"))
    cropped = _turned(image.reduce(scale), roll_deg, pad, width, height)
    soft = np.asarray(cropped.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 2.2) * height / 256))))
    # Rounded downwards as the sum would be: colours are whole numbers already.
    noise = np.floor(rng.normal(0, 2.0 / scale, (height, width, 1))).astype(np.int16)
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def _turned(image: Image.Image, roll_deg: float, pad: int, width: int, height: int) -> Image.Image:
    """The middle of the image, turned about its centre; the same as turning all of it and cutting the edges off."""
    cos, sin = np.cos(np.deg2rad(roll_deg)), np.sin(np.deg2rad(roll_deg))
    centre = np.array([image.width, image.height]) / 2
    matrix = np.array([[cos, sin], [-sin, cos]])
    shift = centre - matrix @ centre + matrix @ np.array([pad, pad])
    rows = (*matrix[0], shift[0], *matrix[1], shift[1])
    return image.transform((width, height), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)


def _draw_standing(draw, kind, rng, w, line, h, colour) -> None:
    count = int(rng.integers(3, 8))
    for _ in range(count):
        x, size = rng.uniform(-0.1, 1.0) * w, rng.uniform(0.08, 0.3) * h
        if kind == "trees":
            draw.rectangle([x + size * 0.42, line - size * 0.8, x + size * 0.55, line], fill=colour((95, 65, 40), 8))
            draw.ellipse([x, line - size * 1.7, x + size, line - size * 0.5], fill=colour((50, 105, 50), 14))
        elif kind == "houses":
            draw.rectangle([x, line - size * 2, x + size * 1.2, line], fill=colour((150, 120, 105), 35))
            for row in range(3):
                y = line - size * (1.8 - 0.55 * row)
                for column in (0.15, 0.5, 0.85):
                    draw.rectangle(
                        [x + size * column, y, x + size * (column + 0.2), y + size * 0.3],
                        fill=colour((70, 85, 105), 12),
                    )
        elif kind == "furniture":
            draw.rectangle([x, line - size * rng.uniform(0.4, 1.6), x + size, line], fill=colour((125, 85, 60), 40))
            draw.rectangle([x, line - size * 2.9, x + size * 0.8, line - size * 2.2], fill=colour((200, 180, 150), 50))
        elif kind == "bars":
            draw.rectangle([x, line - size * 1.8, x + size * 0.12, line], fill=colour((60, 60, 66), 10))
            draw.rectangle([x, line - size * 0.6, x + size * 0.9, line], fill=colour((100, 60, 60), 40))
    if kind == "sea":
        draw.rectangle([0, line - 0.12 * h, w, line], fill=colour((45, 110, 165), 10))


def _draw_ground(draw, rng, w, h, line, ground, colour, lines) -> None:
    draw.rectangle([0, line, w, h], fill=colour(ground, 6))
    if lines:
        vanishing, darker = rng.uniform(0.2, 0.8) * w, colour(tuple(int(0.85 * v) for v in ground))
        for x in np.linspace(-w, 2 * w, 13):
            draw.line([vanishing, line, x, h * 1.3], fill=darker, width=max(1, h // 160))
    else:
        for _ in range(int(rng.integers(6, 16))):
            x, y = rng.uniform(0, w), rng.uniform(line, h)
            size = (4 + 0.2 * max(y - line, 0)) * rng.uniform(0.4, 1.4)
            draw.ellipse([x - size, y - size * 0.3, x + size, y + size * 0.3], fill=colour(ground, 14))


@lru_cache(maxsize=4)
def photo_paths(folder: str, setting: str = "scenes.backgrounds") -> tuple[Path, ...]:
    """Image files of a folder, sorted; `setting` names it, for errors.

    Raises:
        ConfigError: the folder is missing or holds no images.
    """
    paths = tuple(sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES))
    if not paths:
        raise ConfigError(f"{setting}: no images in {folder!r}")
    return paths


def background_of(
    scene: str, camera: Cameras, rng: np.random.Generator, folder: str | None, scale: int
) -> UInt8[np.ndarray, "h w 3"]:
    """What is behind the people of a picture: a procedural place that shares their horizon, or a crop of a photograph.

    Args:
        scene: a phrase of the captions.
        camera: one.
        rng: of the place, or of the crop.
        folder: of photographs; None for a procedural place.
        scale: how many times as large a place is drawn.

    Raises:
        ConfigError: the folder holds no images.
    """
    if folder:
        return photo_background(folder, rng, camera.width, camera.height)
    horizon = horizon_row(float(camera.pitch_deg[0]), float(camera.focal_px[0]), camera.height)
    size, roll = (camera.width, camera.height), float(camera.roll_deg[0])
    return procedural_background(scene, rng, *size, horizon, roll, scale)


def photo_background(folder: str, rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """A random crop of a random photograph, resized to fill the image."""
    paths = photo_paths(folder)
    return photo_crop(paths[int(rng.integers(len(paths)))], rng, width, height)


def photo_crop(source: bytes | Path, rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """A random crop of a photograph's file, resized to fill the image."""
    with opened(source) as photo:
        rgb = photo.convert("RGB")
    scale = max(width / rgb.width, height / rgb.height) * float(rng.uniform(1.0, 1.5))
    large = rgb.resize((max(width, round(rgb.width * scale)), max(height, round(rgb.height * scale))))
    x, y = int(rng.integers(large.width - width + 1)), int(rng.integers(large.height - height + 1))
    return np.array(large.crop((x, y, x + width, y + height)))

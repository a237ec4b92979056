"""Stick figures with known keypoints, as small training shards."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from posedreamer_assets.body.joints import COCO17_SKELETON


def stick_figures(n: int, seed: int, size: int = 128) -> dict[str, np.ndarray]:
    """Arrays of a training shard."""
    rng = np.random.default_rng(seed)
    images, keypoints, silhouettes = [], [], []
    for _ in range(n):
        points = figure(rng) * size / 128
        colour, paper = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
        image, mask = Image.new("RGB", (size, size), paper), Image.new("L", (size, size), 0)
        for canvas, ink in ((ImageDraw.Draw(image), colour), (ImageDraw.Draw(mask), 255)):
            for i, j in COCO17_SKELETON:
                canvas.line([tuple(points[i]), tuple(points[j])], fill=ink, width=size // 20)
            canvas.ellipse([*(points[0] - size / 18), *(points[0] + size / 18)], fill=ink)
        images.append(np.asarray(image))
        keypoints.append(points)
        silhouettes.append(np.asarray(mask))
    points = np.stack(keypoints).astype(np.float32)
    return {
        "images": np.stack(images),
        "controls": np.stack(images),
        "captions": np.array(["a stick figure"] * n),
        "keypoints": points,
        "visible": np.all((points >= 0) & (points < size), axis=-1),
        "silhouettes": np.stack(silhouettes),
    }


def figure(rng: np.random.Generator) -> np.ndarray:
    """COCO's 17 keypoints of a standing figure with swinging limbs, pixels."""
    head = np.array([64 + rng.normal() * 6, 30.0])
    p = np.zeros((17, 2))
    p[:5] = head + np.array([[0, 0], [3, -3], [-3, -3], [6, -1], [-6, -1]])
    p[[5, 6, 11, 12]] = head + np.array([[12, 12], [-12, 12], [8, 44], [-8, 44]])
    for start, middle, end, spread in ((5, 7, 9, 1.5), (6, 8, 10, 1.5), (11, 13, 15, 0.4), (12, 14, 16, 0.4)):
        angle = np.pi / 2 + rng.normal() * spread
        for a, b in ((start, middle), (middle, end)):
            p[b] = p[a] + 18 * np.array([np.cos(angle), np.sin(angle)])
            angle += rng.normal() * 0.4
    return p


def write_shards(folder: Path, rows: int = 48, shards: int = 2, size: int = 128) -> Path:
    """Shards of stick figures in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(shards):
        np.savez(folder / f"figures-{k:04d}.npz", **stick_figures(rows, k, size))  # pyright: ignore[reportArgumentType]
    return folder

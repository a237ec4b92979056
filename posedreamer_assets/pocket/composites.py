"""Images of zero to four people, pasted together from single-person rows, with the boxes of what is seen of each."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter

from posedreamer_assets.pocket.shards import KeypointRows

MAX_PEOPLE = 4
COUNT_SHARES = (0.22, 0.38, 0.2, 0.12, 0.08)  # of images with 0, 1, ... people
MIN_VISIBLE = 0.4  # a person of whom less is seen is not pasted, or not pasted over
MIN_PIXELS = 40


@dataclass(frozen=True)
class Composite:
    """`image` uint8 (h, w, 3); `boxes` float32 (people, 4): x, y, w, h of what is visible of each person, pixels;
    `silhouette` bool (h, w): where any person is seen.
    """

    image: np.ndarray
    boxes: np.ndarray
    silhouette: np.ndarray


def compose(rows: KeypointRows, rng: np.random.Generator) -> Composite:
    """One composite; the number of people is drawn with `COUNT_SHARES`, fewer where they would hide each other."""
    wanted = int(rng.choice(MAX_PEOPLE + 1, p=COUNT_SHARES))
    first = int(rng.integers(len(rows)))
    if wanted == 1 and rng.random() < 0.6:
        return _composite(rows.images[first].copy(), [rows.silhouettes[first]])
    image = empty_background(rows.images[first], rows.silhouettes[first], rng)
    masks: list[np.ndarray] = []
    whole: list[int] = []
    for _ in range(wanted):
        picture, mask = _placed(rows, int(rng.integers(len(rows))), wanted, rng)
        left = [m & ~mask for m in masks]
        if mask.sum() >= MIN_PIXELS and all(m.sum() >= MIN_VISIBLE * a for m, a in zip(left, whole, strict=True)):
            image = np.where(mask[..., None], picture, image)
            masks, whole = [*left, mask], [*whole, int(mask.sum())]
    return _composite(image, masks)


def empty_background(image: np.ndarray, silhouette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture without people: the person painted over, all of it blurred, a stretched crop beside them, or noise.

    A painted-over person leaves traces that no real background has. Other kinds are mixed in, and people are pasted
    over such traces too, so that a trace does not come to mean "nobody".
    """
    kind = rng.random()
    if kind < 0.45:
        return fill_hole(image, silhouette)
    if kind < 0.65:
        sigma = rng.uniform(1.5, 6.0)
        return gaussian_filter(fill_hole(image, silhouette), (sigma, sigma, 0))
    if kind < 0.9:
        return _empty_crop(image, silhouette)
    coarse = rng.integers(0, 256, (int(rng.integers(1, 7)), int(rng.integers(1, 7)), 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(image.shape[1::-1], Image.Resampling.BICUBIC))


def fill_hole(image: np.ndarray, silhouette: np.ndarray) -> np.ndarray:
    """The image with the silhouette filled by what surrounds it.

    Means of the background under Gaussians of growing width: the narrowest that reaches a pixel decides its colour.
    """
    hole = np.asarray(binary_dilation(silhouette, iterations=3), bool)
    known = (~hole).astype(np.float32)
    filled = image.astype(np.float32)
    todo = hole.copy()
    for sigma in (3.0, 9.0, 27.0, 81.0):
        weight = np.asarray(gaussian_filter(known, sigma))
        reached = todo & (weight > 0.05)
        for channel in range(3):
            mean = gaussian_filter(image[..., channel] * known, sigma) / np.maximum(weight, 1e-6)
            filled[..., channel][reached] = mean[reached]
        todo &= ~reached
        if not todo.any():
            break
    return filled.clip(0, 255).astype(np.uint8)


def _empty_crop(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The wider strip left or right of the person, stretched to the whole frame; painted over where both are narrow."""
    taken: np.ndarray = np.any(np.asarray(binary_dilation(mask, iterations=3)), axis=0)  # pyright: ignore[reportAssignmentType]
    left, right = int(taken.argmax()), int(len(taken) - taken[::-1].argmax())
    strip = image[:, :left] if left >= len(taken) - right else image[:, right:]
    if strip.shape[1] < 8 or not taken.any():
        return fill_hole(image, mask)
    return np.asarray(Image.fromarray(strip).resize(image.shape[1::-1], Image.Resampling.BILINEAR))


def _placed(rows: KeypointRows, index: int, people: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A row's image and silhouette, scaled, mirrored and moved, at least half of it inside of the frame."""
    image, mask = rows.images[index], rows.silhouettes[index]
    h, w = mask.shape
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return image, mask
    scale = rng.uniform(0.35, 1.0) if people > 1 else rng.uniform(0.5, 1.1)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    centre = np.array([xs.min() + xs.max() + 1, ys.min() + ys.max() + 1]) / 2
    reach = 0.8 * scale * np.array([np.ptp(xs), np.ptp(ys)]) / 2
    middle = np.array([w, h]) / 2
    target = rng.uniform(np.minimum(reach, middle), np.maximum(2 * middle - reach, middle))
    # Pillow wants the map from output to input: in = centre + flip / scale * (out - target).
    ax, ay = flip / scale, 1 / scale
    matrix = (ax, 0.0, centre[0] - ax * target[0], 0.0, ay, centre[1] - ay * target[1])
    moved = Image.fromarray(image).transform((w, h), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    shape = Image.fromarray(mask.astype(np.uint8)).transform((w, h), Image.Transform.AFFINE, matrix)
    return np.asarray(moved), np.asarray(shape) > 0


def _composite(image: np.ndarray, masks: list[np.ndarray]) -> Composite:
    return Composite(image, _boxes(masks), np.any([np.zeros(image.shape[:2], bool), *masks], axis=0))


def _boxes(masks: list[np.ndarray]) -> np.ndarray:
    boxes = []
    for mask in masks:
        ys, xs = np.nonzero(mask)
        if len(xs):
            boxes.append([xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1])
    return np.asarray(boxes, np.float32).reshape(-1, 4)


def centre_targets(boxes: np.ndarray, height: int, width: int, stride: int = 8) -> np.ndarray:
    """float32 (height, width) cells: 1 at the cell of each box's centre, a Gaussian of the box's size around it."""
    target = np.zeros((height, width), np.float32)
    rows, columns = np.mgrid[:height, :width]
    for x, y, w, h in boxes:
        cx, cy = int((x + w / 2) / stride), int((y + h / 2) / stride)
        sx, sy = max(w / stride / 6, 0.6), max(h / stride / 6, 0.6)
        fall = np.exp(-((columns - cx) ** 2) / (2 * sx**2) - (rows - cy) ** 2 / (2 * sy**2))
        target = np.maximum(target, fall.astype(np.float32))
    return target

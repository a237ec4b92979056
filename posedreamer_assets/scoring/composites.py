"""Images of zero to four people, pasted together from single-person rows, with the centres of their visible boxes."""

from dataclasses import dataclass

import cv2
import numpy as np

from posedreamer_assets.scoring.shards import KeypointRows

MAX_PEOPLE = 4
COUNT_SHARES = (0.22, 0.38, 0.2, 0.12, 0.08)  # of images with 0, 1, ... people
MIN_VISIBLE = 0.4  # a person hidden more than that is not asked for


@dataclass(frozen=True)
class Composite:
    """`image` uint8 (h, w, 3); `boxes` float32 (people, 4): x, y, w, h of what is visible of each person, pixels."""

    image: np.ndarray
    boxes: np.ndarray


def compose(rows: KeypointRows, rng: np.random.Generator) -> Composite:
    """One composite; the number of people is drawn with `COUNT_SHARES`."""
    wanted = int(rng.choice(MAX_PEOPLE + 1, p=COUNT_SHARES))
    first = int(rng.integers(len(rows)))
    if wanted == 1 and rng.random() < 0.6:
        return Composite(rows.images[first].copy(), _boxes([rows.silhouettes[first]]))
    image = empty_background(rows, first, rng)
    masks: list[np.ndarray] = []
    for _ in range(wanted):
        picture, mask = _placed(rows, int(rng.integers(len(rows))), wanted, rng)
        trial = [m & ~mask for m in masks] + [mask]
        whole = [m.sum() for m in masks] + [max(int(mask.sum()), 1)]
        if all(t.sum() >= MIN_VISIBLE * max(a, 1) and t.sum() >= 40 for t, a in zip(trial, whole, strict=True)):
            image = np.where(mask[..., None], picture, image)
            masks = trial
    return Composite(image, _boxes(masks))


def empty_background(rows: KeypointRows, index: int, rng: np.random.Generator) -> np.ndarray:
    """A picture without people: the person painted over by inpainting, blurring or a stretched crop beside them.

    Some traces of the person's outline stay, which a real background does not have; smooth noise is mixed in as well, so
    that a trace alone does not come to mean "nobody".
    """
    image, silhouette = rows.images[index], rows.silhouettes[index]
    grown = cv2.dilate(silhouette.astype(np.uint8), np.ones((5, 5), np.uint8))
    kind = rng.random()
    if kind < 0.5:
        return cv2.inpaint(image, grown, 3, cv2.INPAINT_TELEA)
    if kind < 0.7:
        blurred = cv2.GaussianBlur(cv2.inpaint(image, grown, 3, cv2.INPAINT_TELEA), (0, 0), rng.uniform(2, 8))
        return blurred
    if kind < 0.9:
        return _empty_crop(image, grown)
    coarse = rng.integers(0, 256, (int(rng.integers(1, 7)), int(rng.integers(1, 7)), 3)).astype(np.uint8)
    return cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def _empty_crop(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The widest strip of columns without a person, stretched to the whole frame; inpainting where there is none."""
    taken = mask.any(0)
    left = int(taken.argmax())
    right = int(len(taken) - taken[::-1].argmax())
    strip = image[:, :left] if left >= len(taken) - right else image[:, right:]
    if strip.shape[1] < 8:
        return cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA)
    return cv2.resize(strip, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _placed(rows: KeypointRows, index: int, people: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A row's image and silhouette, scaled, mirrored and moved inside of the frame."""
    image, mask = rows.images[index], rows.silhouettes[index].astype(np.uint8)
    h, w = mask.shape
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return image, mask.astype(bool)
    scale = rng.uniform(0.35, 1.0) if people > 1 else rng.uniform(0.5, 1.1)
    sign = -1.0 if rng.random() < 0.5 else 1.0
    centre = np.array([xs.min() + xs.max() + 1, ys.min() + ys.max() + 1]) / 2
    reach = scale * np.array([np.ptp(xs), np.ptp(ys)]) / 2
    low, high = np.minimum(0.8 * reach, [w / 2, h / 2]), np.maximum([w, h] - 0.8 * reach, [w / 2, h / 2])
    target = rng.uniform(low, high)
    matrix = np.array([[sign * scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = target - matrix[:, :2] @ centre
    moved = cv2.warpAffine(image, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return moved, cv2.warpAffine(mask, matrix, (w, h), flags=cv2.INTER_NEAREST).astype(bool)


def _boxes(masks: list[np.ndarray]) -> np.ndarray:
    boxes = []
    for mask in masks:
        ys, xs = np.nonzero(mask)
        if len(xs):
            boxes.append([xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1])
    return np.asarray(boxes, np.float32).reshape(-1, 4)


def centre_targets(boxes: np.ndarray, height: int, width: int, stride: int = 8) -> np.ndarray:
    """float32 (height, width) cells: 1 at the cell of every box's centre, falling off as a Gaussian of the box's size."""
    target = np.zeros((height, width), np.float32)
    rows, columns = np.mgrid[:height, :width]
    for x, y, w, h in boxes:
        cx, cy = int((x + w / 2) / stride), int((y + h / 2) / stride)
        sx, sy = max(w / stride / 6, 0.6), max(h / stride / 6, 0.6)
        fall = np.exp(-((columns - cx) ** 2) / (2 * sx**2) - (rows - cy) ** 2 / (2 * sy**2))
        target = np.maximum(target, fall.astype(np.float32))
    return target

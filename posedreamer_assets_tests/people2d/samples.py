"""Small pictures of stick people whose joints are known, for tests of the student."""

import numpy as np

from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.people2d.samples import Picture, Source

TINY = Pose2dConfig(size=64, width=8, batch=4, steps=6, average=0.5)

# A standing person of MPII's 16 joints, in head lengths from the pelvis.
_STANDING = np.array(
    [
        *(
            [-0.7, 3.8],
            [-0.6, 1.9],
            [-0.5, 0.1],
            [0.5, 0.1],
            [0.6, 1.9],
            [0.7, 3.8],
            [0.0, 0.0],
            [0.0, -2.2],
            [0.0, -2.9],
        ),
        *([0.1, -3.6], [-1.5, 0.2], [-1.3, -0.9], [-0.9, -2.2], [0.9, -2.2], [1.3, -0.9], [1.5, 0.2]),
    ]
)


def person_at(rng: np.random.Generator, x: float, y: float, head_px: float) -> np.ndarray:
    """Joints of somebody about there."""
    return _STANDING * head_px + [x, y] + rng.normal(0, 0.06 * head_px, (16, 2))


def picture(rng: np.random.Generator, people: int = 2, size: int = 96, synthetic: tuple[int, ...] = ()) -> Picture:
    """People side by side: each joint is a dot of its own colour; `instances` holds a box around each."""
    image = rng.integers(90, 110, (size, size, 3)).astype(np.uint8)
    instances = np.zeros((size, size), np.uint8)
    joints = np.stack([person_at(rng, size * (k + 0.5) / people, size / 2, size / 9) for k in range(people)])
    for k, person in enumerate(joints):
        low, high = person.min(0).astype(int).clip(0), person.max(0).astype(int).clip(0)
        instances[low[1] : high[1] + 1, low[0] : high[0] + 1] = k + 1
        for joint, (x, y) in enumerate(person.astype(int)):
            colour = [250 * (joint & 1), 250 * (joint >> 1 & 1), 250 * (joint >> 2 & 1)]
            image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = colour
    chosen = np.isin(np.arange(people), synthetic)
    known = np.all((joints >= 0) & (joints < size), axis=-1)
    return Picture(image, joints, known, chosen, np.full(people, size / 7.0), None, instances)


def source(seed: int, pictures: int = 3, synthetic: bool = False, groups: int | None = None) -> Source:
    """Two people in each picture, all of them centres of crops."""
    rng = np.random.default_rng(seed)
    made = [picture(rng, synthetic=(0, 1) if synthetic else ()) for _ in range(pictures)]
    people = np.array([(k, p) for k in range(pictures) for p in range(2)])
    of = None if groups is None else np.arange(len(people)) % groups
    return Source(made, people, of, tuple(f"{seed}/{k}/{p}" for k, p in people))

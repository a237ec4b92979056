"""The learning rate of every training: a linear warm-up, then half a cosine."""

import math


def rate_factor(done: float, total: float, warmth: float, floor: float = 0.0) -> float:
    """The factor of the peak rate.

    Args:
        done: how much of the training is over, in whatever unit `total` has: a share of 1, or steps.
        total: where the cosine ends; from there on the factor stays at `floor`.
        warmth: how much of the warm-up is over; 1 and more is all of it.
        floor: what the cosine falls to.
    """
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(done, total) / total))
    return min(1.0, warmth) * (floor + (1.0 - floor) * cosine)

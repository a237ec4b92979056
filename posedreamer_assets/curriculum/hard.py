"""Choosing hard poses that differ from each other."""

import numpy as np
from jaxtyping import Float, Int

from posedreamer_assets.errors import CurriculumError


def pose_distances(features: Float[np.ndarray, "n d"], one: Float[np.ndarray, " d"]) -> Float[np.ndarray, " n"]:
    """Root mean square difference of features: 0 for the same pose, about half a unit between unrelated ones."""
    return np.sqrt(((features.astype(np.float64) - one) ** 2).mean(1))


def select_hard(
    features: Float[np.ndarray, "n d"], predicted: Float[np.ndarray, " n"], count: int, min_distance: float
) -> Int[np.ndarray, " m"]:
    """Indices of at most `count` rows, lowest predicted OKS first, no two closer than `min_distance`.

    Greedy: rows are taken in order of prediction (ties by index), each unless it is too close to one taken before.
    Fewer than `count` come back where the pool has no more that are far enough apart.

    Raises:
        CurriculumError: a count below 1 or above the pool's size, a negative distance, or values that are not finite.
    """
    n = len(features)
    if not 1 <= count <= n:
        raise CurriculumError(f"cannot choose {count} hard samples from a pool of {n}")
    if min_distance < 0 or not np.isfinite(min_distance):
        raise CurriculumError(f"min_distance must be at least 0, found {min_distance}")
    if not (np.isfinite(predicted).all() and np.isfinite(features).all()):
        raise CurriculumError("features and predictions must be finite")
    free = np.ones(n, bool)
    chosen: list[int] = []
    for i in np.argsort(predicted, kind="stable"):
        if free[i]:
            chosen.append(int(i))
            free &= pose_distances(features, features[i]) >= min_distance
            if len(chosen) == count:
                break
    return np.array(chosen, np.int64)

"""The teacher of "Learning to Train with Synthetic Humans": which group of synthetic people a student trains on next.

It holds a probability for each group. When the student's loss on the group that was chosen is at least as high as it has
been of late (eq. 1), the group's probability becomes a little higher and all others a little lower, else the other way
round (eq. 2); a network learns that target by the KL divergence. With a small probability any group is chosen.

Pure functions and a log row for every update, from which a check can compute the update again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from posedreamer_assets.errors import CurriculumError

_FLOOR = 1e-6  # a KL divergence to a target of 0 or less is no number
VARIANCE_RAD, TENTH_OF_RANGE = "variance_rad", "tenth_of_range"


@dataclass(frozen=True)
class Update:
    """One update, as its log row says.

    Attributes:
        window: number of the window of training steps that ended.
        group: that was trained on.
        explored: whether it was chosen at random, whatever the probabilities.
        probabilities: before the update, by group.
        target: after it.
        reward: 1 where the group was harder than of late, else -1.
        loss: the student's on the group in this window.
        history_mean: its mean over the windows before.
        sizes: samples of each group.
    """

    window: int
    group: int
    explored: bool
    probabilities: Float[np.ndarray, "k"]
    target: Float[np.ndarray, "k"]
    reward: int
    loss: float
    history_mean: float
    sizes: Int[np.ndarray, "k"]


def group_edges(values: Float[np.ndarray, "n"], groups: int, spread: str = VARIANCE_RAD) -> Float[np.ndarray, "e"]:
    """Upper edges of all groups but the last, linear between the ends of the values, drawn in by their spread.

    Args:
        values: camera pitch of synthetic people, degrees.
        groups: how many.
        spread: how far ends are drawn in: `variance_rad`, the variance of the values in radians squared, read as radians;
            `tenth_of_range`, a tenth of it whatever `groups` is. In degrees the variance of a uniform range of 45 is
            larger than the range itself.

    Raises:
        CurriculumError: ends that are drawn in past each other, fewer than two groups, or another spread.
    """
    if groups < 2:
        raise CurriculumError(f"{groups} groups of synthetic people: expected two or more")
    low, high = float(values.min()), float(values.max())
    if spread == VARIANCE_RAD:
        drawn_in = float(np.rad2deg(np.var(np.deg2rad(values))))
    elif spread == TENTH_OF_RANGE:
        drawn_in = (high - low) / 10
    else:
        raise CurriculumError(f"spread {spread!r}: expected {VARIANCE_RAD} or {TENTH_OF_RANGE}")
    return edges_between(low, high, drawn_in, groups)


def edges_between(low: float, high: float, drawn_in: float, groups: int) -> Float[np.ndarray, "e"]:
    """`groups` - 1 edges, linear in [low + drawn_in, high - drawn_in).

    Raises:
        CurriculumError: there is nothing between these ends.
    """
    first, last = low + drawn_in, high - drawn_in
    if first >= last:
        raise CurriculumError(
            f"groups between {low:g} + {drawn_in:g} = {first:g} and {high:g} - {drawn_in:g} = {last:g}: nothing is between"
        )
    return np.linspace(first, last, groups - 1, endpoint=False)


def distance_edges(groups: int, most_px: float = 640.0) -> Float[np.ndarray, "e"]:
    """Edges of equal groups of [0, most); what is farther belongs to the last one."""
    return np.linspace(0.0, most_px, groups + 1)[1:-1]


def group_of_values(values: Float[np.ndarray, "n"], edges: Float[np.ndarray, "e"]) -> Int[np.ndarray, "n"]:
    """The group of each value, from 0; infinite ones are in the last."""
    return np.searchsorted(edges, values, side="right")


def reward_of(history: Sequence[float], loss: float, length: int) -> int | None:
    """Eq. 1: 1 where the loss is at least the mean of the last `length` before it, else -1; None before there are so many."""
    if len(history) < length:
        return None
    return 1 if loss >= float(np.mean(history[-length:])) else -1


def target_of(
    probabilities: Float[np.ndarray, "k"],
    group: int,
    reward: int,
    alpha: float,
    usable: Bool[np.ndarray, "k"] | None = None,
) -> Float[np.ndarray, "k"]:
    """Eq. 2: the chosen group's probability moves by alpha times itself, and all other groups share what that takes or gives.

    Args:
        probabilities: of the groups, sum 1.
        group: that was chosen.
        reward: 1 or -1.
        alpha: size of the step.
        usable: groups with samples enough; others keep probability 0.

    Raises:
        CurriculumError: the chosen group is not usable, or no other is.
    """
    usable = np.ones(len(probabilities), bool) if usable is None else usable
    others = usable.copy()
    others[group] = False
    if not usable[group] or not others.any():
        raise CurriculumError(f"group {group} of {int(usable.sum())} usable ones has nothing to be weighed against")
    step = reward * alpha * float(probabilities[group])
    target = np.where(usable, probabilities, 0.0)
    target[group] += step
    target[others] -= step / others.sum()
    # Where another group had less than its share of the step it would become negative.
    floored = np.where(usable, np.maximum(target, _FLOOR), 0.0)
    return floored / floored.sum()


def masked(probabilities: Float[np.ndarray, "k"], usable: Bool[np.ndarray, "k"]) -> Float[np.ndarray, "k"]:
    """Probabilities of usable groups alone, sum 1.

    Raises:
        CurriculumError: no group is usable.
    """
    if not usable.any():
        raise CurriculumError("no group of synthetic people has samples enough")
    kept = np.where(usable, np.maximum(probabilities, _FLOOR), 0.0)
    return kept / kept.sum()


def divergence(target: Float[np.ndarray, "k"], probabilities: Float[np.ndarray, "k"]) -> float:
    """KL(target || probabilities); groups of target 0 add nothing."""
    there = target > 0
    return float((target[there] * np.log(target[there] / np.maximum(probabilities[there], _FLOOR))).sum())


def choose(
    probabilities: Float[np.ndarray, "k"], usable: Bool[np.ndarray, "k"], epsilon: float, rng: np.random.Generator
) -> tuple[int, bool]:
    """A usable group, and whether it was drawn uniformly (with probability epsilon) instead of by the probabilities."""
    weights, explored = masked(probabilities, usable), bool(rng.random() < epsilon)
    if explored:
        weights = usable / usable.sum()
    return int(rng.choice(len(weights), p=weights)), explored


def update(
    window: int,
    probabilities: Float[np.ndarray, "k"],
    chosen: tuple[int, bool],
    history: Sequence[float],
    loss: float,
    sizes: Int[np.ndarray, "k"],
    *,
    length: int,
    alpha: float,
    min_samples: int,
) -> Update | None:
    """What a window of training teaches, as a row of the log; None before the history is long enough."""
    reward = reward_of(history, loss, length)
    if reward is None:
        return None
    usable = sizes >= min_samples
    before, (group, explored) = masked(probabilities, usable), chosen
    target = target_of(before, group, reward, alpha, usable)
    mean = float(np.mean(history[-length:]))
    return Update(window, group, explored, before, target, reward, loss, mean, sizes)


def follows_eq2(row: Update, alpha: float, min_samples: int, tolerance: float = 1e-9) -> bool:
    """Whether an update's reward and target are those that equations 1 and 2 give for what the row says.

    They give none where the group is not usable, or nothing else is.
    """
    if row.reward != (1 if row.loss >= row.history_mean else -1):
        return False
    try:
        wanted = target_of(row.probabilities, row.group, row.reward, alpha, row.sizes >= min_samples)
    except CurriculumError:
        return False
    return bool(np.abs(row.target - wanted).max() <= tolerance and abs(row.target.sum() - 1) <= tolerance)

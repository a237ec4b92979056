"""Preference pairs: which two of several images of one pose are shown to the aligner."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from posedreamer_assets.errors import AlignmentError


@dataclass(frozen=True)
class PairDecision:
    """The best and the worst candidate of one pose and whether they make a pair.

    `status`: `pair`; `weak_winner`, the best candidate does not show the pose well enough; `small_gap`, the two are too
    close for the ranking to mean much. Winner and loser are indices of candidates in every case.
    """

    status: Literal["pair", "small_gap", "weak_winner"]
    winner: int
    loser: int


def make_pairs(oks: Float[np.ndarray, "n k"], min_gap: float, min_winner: float) -> list[PairDecision]:
    """One decision per pose; of equal candidates the first wins and the first loses.

    Args:
        oks: object keypoint similarity of k candidates of n poses, in [0, 1].
        min_gap: smallest difference between winner and loser.
        min_winner: smallest similarity of the winner.

    Raises:
        AlignmentError: fewer than two candidates, or similarities outside [0, 1].
    """
    if oks.ndim != 2 or oks.shape[1] < 2:
        raise AlignmentError(f"pairs need at least two candidates per pose, found scores of shape {oks.shape}")
    bad = np.argwhere(~((oks >= 0.0) & (oks <= 1.0)))
    if len(bad):
        row, column = bad[0]
        raise AlignmentError(f"OKS of pose {row}, candidate {column} is {oks[row, column]}, expected 0 to 1")
    return [_decide(row, min_gap, min_winner) for row in oks]


def all_pairs(oks: Float[np.ndarray, " k"], min_gap: float, min_winner: float) -> list[tuple[int, int]]:
    """Every (winner, loser) among the candidates of one pose that differ enough; the pair of `make_pairs` is among them."""
    places = range(len(oks))
    return [(a, b) for a in places for b in places if a != b and oks[a] >= min_winner and oks[a] - oks[b] >= min_gap]


def _decide(row: Float[np.ndarray, "k"], min_gap: float, min_winner: float) -> PairDecision:
    winner, loser = int(row.argmax()), int(row.argmin())
    if row[winner] < min_winner:
        return PairDecision("weak_winner", winner, loser)
    if row[winner] - row[loser] < min_gap:
        return PairDecision("small_gap", winner, loser)
    return PairDecision("pair", winner, loser)

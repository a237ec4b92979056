"""How many people and training seeds would tell an effect, from the spread of differences that were measured.

The squared standard error of a paired difference of two arms with k seeds on photographs of n people is taken as

    se^2 = a N / n + b / k + c N / (n k)

where, of the N people that were there, a is the variance of photographs common to all seeds, c the part that differs from seed
to seed, and b the variance of seeds themselves.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

FEWEST = 30
_POWER, _LEVEL = 0.8, 0.05


@dataclass(frozen=True)
class Spread:
    """Variances of a paired difference, squared points of average precision.

    Attributes:
        photos: of photographs, common to all seeds.
        seeds: of training seeds.
        rest: of photographs, apart for each seed.
        people: how many there were.
    """

    photos: float
    seeds: float
    rest: float
    people: int

    def se(self, people: float, seeds: int) -> float:
        """The standard error with so many people and seeds, points."""
        less = self.people / people
        return float(np.sqrt(self.photos * less + self.seeds / seeds + self.rest * less / seeds))

    def detectable(self, people: float, seeds: int) -> float:
        """The smallest true difference that four of five such studies tell from zero, points.

        A study tells what its interval leaves zero out of, which is never narrower than the t interval of its seeds.
        """
        error = self.se(people, seeds)
        half = float(stats.norm.ppf(1 - _LEVEL / 2)) * error
        if seeds > 1:
            of_seeds = np.sqrt((self.seeds + self.rest * self.people / people) / seeds)
            half = max(half, float(stats.t.ppf(1 - _LEVEL / 2, seeds - 1) * of_seeds))
        return half + float(stats.norm.ppf(_POWER)) * error

    def people_for(self, effect: float, seeds: int) -> int | None:
        """How many people would tell an effect in four of five studies; None where no number does with so few seeds.

        At least `FEWEST`: of fewer, errors are not as the normal distribution has them.
        """
        if self.detectable(np.inf, seeds) >= abs(effect):
            return None
        low, high = FEWEST - 1, FEWEST
        while self.detectable(high, seeds) > abs(effect):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.detectable(middle, seeds) <= abs(effect) else (middle, high)
        return high


def spread_of(differences: Float[np.ndarray, "s q"], people: int) -> Spread:
    """Of a difference by training seed and by photographs: those that are there first, then resamples of them.

    Estimates below zero are zero. With one seed all that photographs vary by is common, and seeds are taken not to vary.
    """
    by_seed, resampled = differences[:, 0], differences[:, 1:]
    resampled = resampled[:, np.isfinite(resampled).all(axis=0)]
    count = len(by_seed)
    if not resampled.size or not np.isfinite(by_seed).all():
        return Spread(float("nan"), float("nan"), float("nan"), people)
    common = float(resampled.mean(axis=0).var())
    if count < 2:
        return Spread(common, 0.0, 0.0, people)
    apart = float((resampled - resampled.mean(axis=0)).var(axis=1).sum() / (count - 1))
    between = float(by_seed.var(ddof=1))
    return Spread(max(0.0, common - apart / count), max(0.0, between - apart), apart, people)

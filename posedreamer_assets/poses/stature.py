"""How tall and heavy bodies are, and betas drawn so that they are as tall and heavy as people.

Adults follow ANSUR II, the 2012 anthropometric survey of U.S. Army personnel (Gordon et al. 2014, NATICK/TR-15/007; public
data of 4,082 men and 1,986 women), as a normal stature and a lognormal mass with their correlation, half men, half
women; computed from the public files:

            stature cm      percentiles 5, 50, 95    mass kg         percentiles 5, 50, 95    r(stature, ln mass)
    men     175.62 (6.86)   164.8, 175.5, 187.0      85.52 (14.22)   64.4, 84.6, 110.7        0.471
    women   162.85 (6.42)   152.5, 162.6, 174.0      67.76 (10.98)   51.3, 66.8, 87.1         0.539

Soldiers are leaner than the general population of their country and as tall. Children follow the medians and coefficients
of variation of the 2000 CDC growth charts (Kuczmarski et al. 2002, Vital Health Stat 11(246)). The shipped body was made
of adults, so that a child is a small adult in its proportions, and none is made below six years.

Mass is the volume of the body times 1,000 kg/m3: a body with air in its lungs neither sinks nor floats by much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.config import YOUNGEST_YEARS
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.seeds import sample_rng

ADULT_YEARS = (18.0, 65.0)
ADULT_RANGE_M = (1.45, 2.05)
_DENSITY_KG_M3 = 1000.0
_BUILD_STD = 0.7  # of betas before stature and mass are set
_LARGEST_BETA = 3.0
_DRAWS = 20
_STEPS = 8
_CLOSE = 1e-3  # of stature and mass, as a share


@dataclass(frozen=True)
class Reference:
    """Stature (mean, standard deviation; m), ln mass in kg (mean, standard deviation) and their correlation."""

    stature_m: tuple[float, float]
    log_mass: tuple[float, float]
    correlation: float


ANSUR_II = {
    "men": Reference((1.7562, 0.0686), (4.4351, 0.1654), 0.471),
    "women": Reference((1.6285, 0.0642), (4.2030, 0.1605), 0.539),
}
_CHILD_AGES = (6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0)
# For each age: median stature cm, its coefficient of variation, median mass kg, its coefficient of variation.
_CDC_2000 = {
    "men": (
        *((115.66, 0.0436, 20.777, 0.1391), (128.12, 0.0451, 25.752, 0.1559), (138.82, 0.0476, 32.087, 0.1789)),
        *((149.30, 0.0499, 40.674, 0.1965), (164.14, 0.0489, 51.230, 0.1908), (173.61, 0.0430, 61.095, 0.1724)),
        (176.18, 0.0406, 67.289, 0.1619),
    ),
    "women": (
        *((115.00, 0.0449, 20.336, 0.1495), (127.82, 0.0459, 25.757, 0.1721), (138.21, 0.0487, 33.063, 0.1959)),
        *((151.48, 0.0485, 41.827, 0.2022), (160.47, 0.0410, 49.490, 0.1885), (162.56, 0.0398, 53.945, 0.1681)),
        (163.13, 0.0396, 56.229, 0.1603),
    ),
}
_CHILD_CORRELATION = 0.6


@lru_cache(maxsize=4)
def _heights(body: BodyModel) -> tuple[Float[np.ndarray, "v"], Float[np.ndarray, "v 10"]]:
    """Height of every vertex in the T-pose, metres, and how it grows with each beta."""
    return body.v_template[:, 1].astype(np.float64), np.ascontiguousarray(body.shapedirs[:, 1], np.float64)


@lru_cache(maxsize=4)
def _volume_terms(body: BodyModel) -> Float[np.ndarray, "11 11 11"]:
    """Volume in m3 as a cubic form of (1, betas): the sum of the tetrahedra between the origin and each face."""
    basis = np.concatenate([body.v_template[..., None], body.shapedirs], axis=2).astype(np.float64)
    a, b, c = (basis[body.faces[:, corner]] for corner in range(3))
    terms = np.zeros((11, 11, 11))
    for j in range(11):
        for k in range(11):
            normal = np.cross(b[..., j], c[..., k])
            terms[:, j, k] = np.einsum("fci,fc->i", a, normal) / 6
    return terms


def stature_m(body: BodyModel, betas: Float[np.ndarray, "n 10"]) -> Float[np.ndarray, "n"]:
    """Height of each body from sole to crown in the T-pose, metres."""
    mean, growth = _heights(body)
    heights = mean + np.asarray(betas, np.float64) @ growth.T
    return heights.max(axis=1) - heights.min(axis=1)


def mass_kg(body: BodyModel, betas: Float[np.ndarray, "n 10"]) -> Float[np.ndarray, "n"]:
    """Mass of each body: its volume, at the density of water."""
    full = np.concatenate([np.ones((len(betas), 1)), np.asarray(betas, np.float64)], axis=1)
    return _DENSITY_KG_M3 * np.einsum("ijk,ni,nj,nk->n", _volume_terms(body), full, full, full, optimize=True)


def betas_of_people(
    body: BodyModel, ids: Sequence[str], seed: int, ages: tuple[float, float] = ADULT_YEARS
) -> Float[np.ndarray, "n 10"]:
    """Betas of one person for each sample id; stature, mass and their correlation are those of people.

    A row depends on the seed and its id alone.

    Args:
        body: whose shape space the betas are of.
        ids: sample ids.
        seed: of the run.
        ages: youngest and oldest age in years; ages are uniform between them. From 18 on all are adults.

    Raises:
        ConfigError: ages below six years, or in the wrong order.
    """
    low, high = ages
    if not YOUNGEST_YEARS <= low <= high:
        raise ConfigError(
            f"ages {low:g} to {high:g}: expected youngest <= oldest, both from {YOUNGEST_YEARS:g} years on"
        )
    rows = [_person(body, sample_id, seed, ages) for sample_id in ids]
    return np.array(rows, np.float32).reshape(len(ids), 10)


def adult_share_below(stature: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The share of adults, half men, half women, who are shorter than each stature in metres."""
    shares = [ndtr((stature - ref.stature_m[0]) / ref.stature_m[1]) for ref in ANSUR_II.values()]
    return np.mean(shares, axis=0)


@dataclass(frozen=True)
class AdultComparison:
    """A batch's statures against those of adults.

    Attributes:
        percentiles_m: 5th, 50th and 95th percentile of the batch, metres.
        adult_percentiles_m: those of ANSUR II's men and women together.
        outside: share of the batch below 1.45 m or above 2.05 m.
        distance: largest gap between the cumulative shares of the batch and of adults (Kolmogorov-Smirnov).
        correlation: of stature with ln mass in the batch; NaN below three bodies.
    """

    percentiles_m: tuple[float, float, float]
    adult_percentiles_m: tuple[float, float, float]
    outside: float
    distance: float
    correlation: float


def compare_with_adults(body: BodyModel, betas: Float[np.ndarray, "n 10"]) -> AdultComparison:
    """How the statures of a batch, of one body or more, lie against those of adults."""
    stature = np.sort(stature_m(body, betas))
    count = len(stature)
    expected = adult_share_below(stature)
    steps = np.arange(count + 1) / count
    gaps = np.maximum(np.abs(expected - steps[:-1]), np.abs(expected - steps[1:]))
    five, half, most = np.percentile(stature, [5, 50, 95])
    grid = np.linspace(1.2, 2.3, 2201)
    adults = np.interp([0.05, 0.5, 0.95], adult_share_below(grid), grid)
    log_mass = np.log(np.maximum(mass_kg(body, betas), 1e-3))
    known = count > 2 and stature.std() > 1e-6 and log_mass.std() > 1e-6
    return AdultComparison(
        percentiles_m=(float(five), float(half), float(most)),
        adult_percentiles_m=(float(adults[0]), float(adults[1]), float(adults[2])),
        outside=float(((stature < ADULT_RANGE_M[0]) | (stature > ADULT_RANGE_M[1])).mean()),
        distance=float(gaps.max()),
        correlation=float(np.corrcoef(stature_m(body, betas), log_mass)[0, 1]) if known else float("nan"),
    )


def _person(body: BodyModel, sample_id: str, seed: int, ages: tuple[float, float]) -> np.ndarray:
    rng = sample_rng(seed, sample_id, "stature")
    sex = "men" if rng.random() < 0.5 else "women"
    reference = _reference(sex, float(rng.uniform(*ages)))
    betas = np.zeros(10)
    for _ in range(_DRAWS):
        tall, heavy = rng.normal(0, 1, 2)
        heavy = reference.correlation * tall + np.sqrt(1 - reference.correlation**2) * heavy
        stature = reference.stature_m[0] + reference.stature_m[1] * tall
        target = np.array([np.log(stature), reference.log_mass[0] + reference.log_mass[1] * heavy])
        build = np.clip(rng.normal(0, _BUILD_STD, 10), -2, 2)
        betas, close = _reach(body, build, target)
        if close:
            break
    return betas


def _reference(sex: str, age: float) -> Reference:
    if age >= ADULT_YEARS[0]:
        return ANSUR_II[sex]
    table = np.array(_CDC_2000[sex])
    stature, spread, mass, mass_spread = (np.interp(age, _CHILD_AGES, column) for column in table.T)
    return Reference(
        (float(stature) / 100, float(stature * spread) / 100),
        (float(np.log(mass)), float(mass_spread)),
        _CHILD_CORRELATION,
    )


def _reach(body: BodyModel, start: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, bool]:
    """The betas nearest to `start` whose ln stature and ln mass are the target, and whether they were reached.

    Gauss-Newton with the smallest step: both grow almost linearly with the betas.
    """
    betas, miss = start.astype(np.float64), np.full(2, np.inf)
    mean, growth = _heights(body)
    terms = _volume_terms(body)
    for _ in range(_STEPS):
        heights = mean + growth @ betas
        top, bottom = int(heights.argmax()), int(heights.argmin())
        stature = heights[top] - heights[bottom]
        full = np.concatenate([[1.0], betas])
        volume = float(np.einsum("ijk,i,j,k->", terms, full, full, full))
        if volume <= 0 or stature <= 0:
            return start, False
        miss = target - np.log([stature, _DENSITY_KG_M3 * volume])
        if np.abs(miss).max() < _CLOSE / 10:
            break
        slope = np.einsum("ijk,j,k->i", terms, full, full) + np.einsum("jik,j,k->i", terms, full, full)
        slope = (slope + np.einsum("jki,j,k->i", terms, full, full))[1:]
        rows = np.stack([(growth[top] - growth[bottom]) / stature, slope / volume])
        step = np.linalg.lstsq(rows, miss, rcond=None)[0]
        betas = np.clip(betas + step, -_LARGEST_BETA, _LARGEST_BETA)
    return betas, bool(np.abs(miss).max() < _CLOSE)

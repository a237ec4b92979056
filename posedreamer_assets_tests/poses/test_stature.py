"""Betas of people: against naive measurements and published anthropometry."""

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.poses.procedural import procedural_poses
from posedreamer_assets.poses.stature import (
    ANSUR_II,
    adult_share_below,
    betas_of_people,
    compare_with_adults,
    mass_kg,
    stature_m,
)

BODY = load_body()
IDS = [f"stature/{i:05d}" for i in range(400)]


def test_stature_and_mass_are_those_of_the_mesh() -> None:
    betas = np.random.default_rng(0).normal(0, 1, (4, 10))
    for k, row in enumerate(betas):
        mesh = BODY.v_template.astype(float) + BODY.shapedirs.astype(float) @ row
        volume = sum(float(a @ np.cross(b, c)) for a, b, c in mesh[BODY.faces]) / 6
        assert stature_m(BODY, betas)[k] == pytest.approx(np.ptp(mesh[:, 1]), abs=1e-6)
        assert mass_kg(BODY, betas)[k] == pytest.approx(1000 * volume, rel=1e-6)


def test_adults_are_as_tall_and_heavy_as_those_of_the_survey() -> None:
    betas = betas_of_people(BODY, IDS, 3)
    found = compare_with_adults(BODY, betas)
    assert found.distance < 1.63 / np.sqrt(len(IDS))  # Kolmogorov-Smirnov at 1 %
    assert found.outside < 0.02
    # The survey's percentiles 5 and 95 of women and men together lie between these.
    assert 1.525 < found.percentiles_m[0] < 1.60
    assert 1.80 < found.percentiles_m[2] < 1.87
    mass, stature = mass_kg(BODY, betas), stature_m(BODY, betas)
    both = [np.exp(ref.log_mass[0] + ref.log_mass[1] ** 2 / 2) for ref in ANSUR_II.values()]
    assert mass.mean() == pytest.approx(np.mean(both), rel=0.04)
    bmi = mass / stature**2
    assert 19 < np.percentile(bmi, 5) < 23
    assert 30 < np.percentile(bmi, 95) < 37
    assert 0.6 < found.correlation < 0.85


def test_mass_given_stature_is_as_spread_as_in_the_survey() -> None:
    """Of men and women drawn from the survey's own normal distributions: the same regression of ln mass on stature."""
    rng = np.random.default_rng(1)
    stature, log_mass = [], []
    for ref in ANSUR_II.values():
        tall, heavy = rng.normal(0, 1, (2, 20000))
        stature.append(ref.stature_m[0] + ref.stature_m[1] * tall)
        mixed = ref.correlation * tall + np.sqrt(1 - ref.correlation**2) * heavy
        log_mass.append(ref.log_mass[0] + ref.log_mass[1] * mixed)
    expected = np.cov(np.concatenate(stature), np.concatenate(log_mass))
    betas = betas_of_people(BODY, IDS, 4)
    found = np.cov(stature_m(BODY, betas), np.log(mass_kg(BODY, betas)))
    assert np.allclose(found, expected, rtol=0.3)


def test_a_row_depends_on_its_seed_and_id_alone() -> None:
    betas = betas_of_people(BODY, IDS[:6], 5)
    assert np.array_equal(betas_of_people(BODY, IDS[3:4], 5), betas[3:4])
    assert np.array_equal(betas_of_people(BODY, IDS[5::-1], 5), betas[::-1])
    assert not np.array_equal(betas_of_people(BODY, IDS[:6], 6), betas)
    assert betas_of_people(BODY, [], 5).shape == (0, 10)


def test_children_are_made_only_where_asked_for() -> None:
    children = stature_m(BODY, betas_of_people(BODY, IDS[:200], 7, (6, 10)))
    assert 1.10 < np.median(children) < 1.40  # CDC 2000: 1.15 m at six, 1.39 m at ten
    assert children.max() < 1.65
    with pytest.raises(ConfigError, match="ages 3 to 20"):
        betas_of_people(BODY, IDS[:1], 7, (3, 20))
    with pytest.raises(ConfigError, match="ages 40 to 20"):
        betas_of_people(BODY, IDS[:1], 7, (40, 20))


def test_shares_of_adults_are_those_of_the_survey() -> None:
    # Percentiles 5 and 95 of ANSUR II's men and women apart bound those of both.
    assert adult_share_below(np.array([1.525]))[0] < 0.05 < adult_share_below(np.array([1.648]))[0]
    assert adult_share_below(np.array([1.87]))[0] > 0.95 > adult_share_below(np.array([1.74]))[0]


def test_the_comparison_sees_giants_and_dwarfs() -> None:
    betas = np.random.default_rng(0).normal(0, 1, (300, 10))
    found = compare_with_adults(BODY, betas)
    assert found.outside > 0.2
    assert found.distance > 0.2


def test_procedural_bodies_are_adults_unless_children_are_asked_for() -> None:
    params, families = procedural_poses(BODY, IDS[:20], 3)
    children, same = procedural_poses(BODY, IDS[:20], 3, ages=(6, 8))
    assert families == same
    assert np.array_equal(params.body_pose, children.body_pose)
    assert stature_m(BODY, children.betas).max() < 1.5
    assert ((stature_m(BODY, params.betas) > 1.4) & (stature_m(BODY, params.betas) < 2.1)).all()
    assert np.array_equal(params.betas, betas_of_people(BODY, IDS[:20], 3))


def test_a_batch_of_procedural_poses_equals_one_by_one() -> None:
    params, _ = procedural_poses(BODY, IDS[:30], 9)
    for i in range(30):
        alone, _ = procedural_poses(BODY, [IDS[i]], 9)
        for name, column in alone.to_flat().items():
            assert np.array_equal(column[0], params.to_flat()[name][i]), (name, i)

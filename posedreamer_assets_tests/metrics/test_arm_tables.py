"""Intervals of average precision: against photographs that are really there twice, naive loops, and simulated truths."""

import numpy as np
import pytest
from scipy import stats

from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics.arm_power import FEWEST, Spread, spread_of
from posedreamer_assets.metrics.arm_tables import (
    BINS,
    COLUMNS,
    Draws,
    draw,
    interval,
    judged,
    precisions,
    seen_bins,
    weighted_recall,
)
from posedreamer_assets.metrics.mpii_ap import (
    COUNTED,
    JOINTS,
    Annotated,
    Predicted,
    area_under_envelope,
    assigned,
    matches,
    mpii_ap,
)

HEAD = 20.0


def photographs(seed: int, count: int = 9) -> list[tuple[Annotated, Predicted]]:
    """People with joints left out, found roughly, some twice and some not at all, with few distinct scores."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        people = int(rng.integers(1, 4))
        joints = rng.uniform(0, 200, (people, 1, 2)) + rng.uniform(-40, 40, (people, JOINTS, 2))
        known = rng.random((people, JOINTS)) < 0.9
        known[:, 6] = True
        twice = np.repeat(joints, 2, axis=0)[: people + int(rng.integers(0, 2))]
        moved = twice + rng.normal(0, 4, twice.shape)
        scores = rng.integers(1, 5, twice.shape[:2]) / 5
        annotated = Annotated(joints, known, np.full(people, HEAD))
        found.append((annotated, Predicted(moved, rng.random(twice.shape[:2]) < 0.85, scores)))
    return found


def test_a_weight_counts_a_photograph_as_often_as_if_it_were_there() -> None:
    images = photographs(1)
    weights = np.random.default_rng(2).multinomial(len(images), np.full(len(images), 1 / len(images)), 6)
    found = precisions(judged(images).rankings(), weights.astype(float))
    for row, drawn in zip(found, weights, strict=True):
        again = [image for image, often in zip(images, drawn, strict=True) for _ in range(often)]
        wanted = mpii_ap(again)
        assert row == pytest.approx([*wanted.groups.values(), wanted.mean], abs=1e-9, nan_ok=True)
    assert (*mpii_ap(images).groups, "mean") == COLUMNS


def test_a_figure_that_nobody_is_annotated_for_is_no_number() -> None:
    images = [
        (Annotated(a.joints, a.known & (np.arange(JOINTS) != 10) & (np.arange(JOINTS) != 15), a.head_px), p)
        for a, p in photographs(3)
    ]
    found = precisions(judged(images).rankings(), np.ones((1, len(images))))
    assert np.isnan(found[0, COLUMNS.index("wrist")]) and np.isfinite(found[0, -1])


def naive_bin(images: list[tuple[Annotated, Predicted]], bins: list[np.ndarray], chosen: int) -> tuple[float, float]:
    """mAP and recall of a bin's people, counted one by one."""
    by_joint, hits, there = [], 0, 0
    for joint in COUNTED:
        scores, right, total = [], [], 0
        for (a, p), of in zip(images, bins, strict=True):
            near = matches(a, p)
            keeps = assigned(a, near)
            for person in range(len(of)):
                total += int(of[person] == chosen and a.known[person, joint])
            for number in range(len(p.joints)):
                person = keeps[number]
                if not p.found[number, joint]:
                    continue
                if person is None:
                    scores.append(p.scores[number, joint])
                    right.append(False)
                elif of[person] == chosen and a.known[person, joint]:
                    scores.append(p.scores[number, joint])
                    right.append(bool(near[number, person, joint]))
        there += total
        hits += sum(right)
        if total:
            by_joint.append(100 * area_under_envelope(np.array(scores), np.array(right, bool), total))
    return float(np.mean(by_joint)), 100 * hits / there


def test_bins_of_people_are_those_of_a_naive_double_loop() -> None:
    images = photographs(4, 14)
    rng = np.random.default_rng(5)
    bins = [seen_bins(rng.random(len(a.joints))) for a, _ in images]
    judgement = judged(images)
    for chosen in range(BINS):
        rankings = judgement.rankings([of == chosen for of in bins])
        ones = np.ones((1, len(images)))
        wanted = naive_bin(images, bins, chosen)
        found = (precisions(rankings, ones)[0, -1], weighted_recall(rankings, ones)[0])
        assert found == pytest.approx(wanted, abs=1e-9)


def test_a_person_is_in_the_bin_of_its_share_of_joints() -> None:
    assert seen_bins(np.array([0.0, 0.19, 0.2, 0.5, 0.8, 1.0])).tolist() == [0, 0, 1, 2, 4, 4]


def test_two_arms_the_other_way_round_differ_by_the_sign() -> None:
    rng = np.random.default_rng(6)
    draws = draw(20, 3, 400, 1)
    a, b = rng.normal(50, 3, (2, 3, 401))
    one, other = interval(a - b, draws), interval(b - a, draws)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low), abs=1e-12)


def test_an_interval_is_never_narrower_than_that_of_the_seeds_alone() -> None:
    """All photographs alike: what is left is the spread of three seeds, which percentiles alone put too low."""
    by_seed = np.array([50.0, 52.0, 57.0])
    draws = draw(30, 3, 500)
    found = interval(np.repeat(by_seed[:, None], 501, axis=1), draws)
    half = stats.t.ppf(0.975, 2) * by_seed.std(ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((by_seed.mean() - half, by_seed.mean() + half))
    assert interval(np.full((1, 501), 50.0), draw(30, 1, 500)).low == 50.0, "one seed says nothing of seeds"


def simulated(rng: np.random.Generator, photos: int, of_photo: float, of_seed: float) -> np.ndarray:
    """Hits of binomial photographs by seed and photograph, per cent, around 60."""
    chance = 0.6 + of_photo * rng.normal(size=photos)
    hits = rng.binomial(40, np.clip(chance, 0, 1)) / 40
    return 100 * (hits[None] + of_seed * rng.normal(size=(3, 1)) + rng.normal(0, 0.01, (3, photos)))


@pytest.mark.parametrize(("of_photo", "of_seed"), [(0.1, 0.0), (0.0, 0.05)])
def test_intervals_cover_a_known_truth_as_often_as_they_say(of_photo: float, of_seed: float) -> None:
    """Of 500 simulated studies, where photographs alone differ and where seeds alone do."""
    rng = np.random.default_rng(7)
    photos, covered = 80, 0
    for study in range(500):
        table = simulated(rng, photos, of_photo, of_seed)
        draws = draw(photos, 3, 400, study)
        found = interval(table @ draws.with_all.T / photos, draws)
        covered += found.low <= 60 <= found.high
    assert 465 <= covered <= 485


def test_nothing_to_draw_from_is_told() -> None:
    with pytest.raises(MetricsError, match="0 photographs"):
        draw(0, 3, 10)


def test_the_spread_of_photographs_and_seeds_is_found_again() -> None:
    rng = np.random.default_rng(8)
    photos, seeds = 200, 6
    draws = draw(photos, seeds, 1500, 3)
    found = []
    for _ in range(60):
        table = rng.normal(0, 20, photos)[None] + rng.normal(0, 1.0, (seeds, 1)) + rng.normal(0, 10, (seeds, photos))
        found.append(spread_of(table @ draws.with_all.T / photos, 3 * photos))
    assert np.mean([one.photos for one in found]) == pytest.approx(400 / photos, rel=0.1)
    assert np.mean([one.rest for one in found]) == pytest.approx(100 / photos, rel=0.1)
    assert np.mean([one.seeds for one in found]) == pytest.approx(1.0, rel=0.3)


def test_people_that_tell_an_effect_tell_it_and_no_fewer_do() -> None:
    spread = Spread(photos=0.5, seeds=0.4, rest=0.2, people=300)
    people = spread.people_for(1.4, 6)
    assert people is not None
    assert spread.detectable(people, 6) <= 1.4 < spread.detectable(people - 1, 6)
    assert spread.people_for(1.4, 1) is None, "seeds alone differ by more"
    assert spread.people_for(60.0, 3) == FEWEST
    # Two seeds tell little, whatever there is of people: their t interval is 12.7 errors wide to either side.
    two = Spread(photos=0.0, seeds=1.0, rest=0.0, people=300)
    assert two.detectable(1e9, 2) == pytest.approx((12.7062 + 0.8416) * np.sqrt(1 / 2), rel=1e-4)
    # By hand: four times the people, and no seed that differs, halve the error.
    assert Spread(1.0, 0.0, 0.0, 100).se(400, 3) == pytest.approx(0.5)


def test_draws_of_photographs_and_seeds_have_their_weights() -> None:
    draws = draw(12, 3, 50)
    assert isinstance(draws, Draws)
    assert (draws.photos.sum(axis=1) == 12).all() and draws.seeds.sum(axis=1) == pytest.approx(1.0)
    assert draws.with_all.shape == (51, 12) and (draws.with_all[0] == 1).all()

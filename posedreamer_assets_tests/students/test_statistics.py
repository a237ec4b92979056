"""Errors against naive loops and closed forms; intervals that cover; exchange rates that are recovered."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import load_body
from posedreamer_assets.cameras.pinhole import Cameras, in_frame
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics.group_rates import holm
from posedreamer_assets.students.compare import LEVEL, Difference, components, difference, in_words, is_told
from posedreamer_assets.students.curves import equal_size, exchange_rate
from posedreamer_assets.students.metrics import (
    PELVES,
    Posed,
    Protocol,
    angles_deg,
    errors,
    mean_distance_mm,
    pelvis_of,
    similarity_aligned,
    vertex_areas,
)
from posedreamer_assets.students.scoring import posed_body

BODY = load_body()
RNG = np.random.default_rng(0)
POINTS = RNG.normal(0, 1, (4, 9, 3))


def posed(seed: int, count: int = 2) -> Posed:
    rng = np.random.default_rng(seed)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.5, (count * 22, 3))).as_matrix().reshape(count, 22, 3, 3)
    return posed_body(BODY, rotations.astype(np.float32), rng.normal(0, 1, (count, 10)).astype(np.float32))


def test_distances_are_those_of_a_loop() -> None:
    found = POINTS + RNG.normal(0, 0.1, POINTS.shape)
    loop = [
        1000 * np.mean([np.sqrt(((a - b) ** 2).sum()) for a, b in zip(x, y, strict=True)])
        for x, y in zip(found, POINTS, strict=True)
    ]
    assert mean_distance_mm(found, POINTS) == pytest.approx(loop)


def test_only_vertices_in_the_image_count_where_that_is_asked() -> None:
    found, true = posed(1), posed(2)
    seen = np.zeros(true.vertices.shape[:2], bool)
    seen[0, ::3] = True
    scores = errors(Protocol("chain"), BODY, found, true, seen)
    apart = (found.vertices - found.joints[:, :1]) - (true.vertices - true.joints[:, :1])
    assert scores["pve_in_image_mm"][0] == pytest.approx(1000 * np.linalg.norm(apart[0, ::3], axis=1).mean(), rel=1e-5)
    assert np.isnan(scores["pve_in_image_mm"][1]), "none of it is in the image"


def test_a_joint_that_is_off_by_so_much_adds_so_much() -> None:
    moved = POINTS.copy()
    moved[:, 3] += (0.03, 0, 0.04)
    assert mean_distance_mm(moved, POINTS) == pytest.approx(50 / 9)


def test_similarity_undoes_any_similarity_and_no_mirror() -> None:
    turn = Rotation.from_rotvec([0.3, -1.2, 0.8]).as_matrix()
    assert np.abs(similarity_aligned(2.5 * POINTS @ turn.T + (1, 2, 3), POINTS) - POINTS).max() < 1e-9
    mirrored = POINTS * (-1, 1, 1)
    assert mean_distance_mm(similarity_aligned(mirrored, POINTS), POINTS).min() > 100
    with pytest.raises(MetricsError, match="three points"):
        similarity_aligned(POINTS[:, :2], POINTS[:, :2])


def test_the_similarity_is_scipys_rotation_and_root_mean_squares_do_not_rise() -> None:
    found = POINTS @ Rotation.from_rotvec([-0.9, 0.4, 1.1]).as_matrix() + RNG.normal(0, 0.2, POINTS.shape)
    aligned = similarity_aligned(found, POINTS)
    for one, true, out in zip(found, POINTS, aligned, strict=True):
        a, b = one - one.mean(0), true - true.mean(0)
        turn = Rotation.align_vectors(b, a)[0]
        turned = turn.apply(a)
        scale = (turned * b).sum() / (a**2).sum()
        assert np.abs(out - (scale * turned + true.mean(0))).max() < 1e-8
        assert ((out - true) ** 2).sum() <= ((a - b) ** 2).sum() + 1e-12


def test_angles_are_geodesics() -> None:
    turns = np.deg2rad([0.0, 1e-4, 30, 179.9])
    found = Rotation.from_rotvec(turns[:, None] * [0.6, 0, 0.8]).as_matrix()
    assert angles_deg(found, np.tile(np.eye(3), (4, 1, 1))) == pytest.approx(np.rad2deg(turns), abs=1e-6)


def test_areas_are_those_of_the_triangles_and_head_and_hands_have_few_of_them() -> None:
    areas = vertex_areas(BODY)
    corners = BODY.v_template[BODY.faces].astype(float)
    whole = sum(np.linalg.norm(np.cross(b - a, c - a)) / 2 for a, b, c in corners)
    assert areas.sum() == pytest.approx(whole)
    of_head_or_hands = np.isin(BODY.dominant_joint, [12, 15, 20, 21, *range(22, 55)])
    assert of_head_or_hands.mean() > 0.5
    assert areas[of_head_or_hands].sum() / areas.sum() < 0.25


def test_the_truth_scores_zero_and_a_protocol_is_a_matter_of_the_pelvis() -> None:
    true, other = posed(0), posed(1)
    found = {name: errors(Protocol(name), BODY, other, true) for name in PELVES}
    for name in PELVES:
        assert all(values.max() < 1e-4 for values in errors(Protocol(name), BODY, true, true).values())
        assert found[name]["pa_pve_mm"] == pytest.approx(found["chain"]["pa_pve_mm"]), "alignment forgets the pelvis"
    pve = {name: tuple(np.round(one["pve_mm"], 1)) for name, one in found.items()}
    assert len(set(pve.values())) == 3, "published numbers of two protocols are not comparable"
    by = np.array([0.1, 0, 0.5], np.float32)
    moved = Posed(true.rotations, true.betas, true.vertices + by, true.joints + by)
    assert errors(Protocol(), BODY, moved, true)["pve_mm"].max() < 1e-2
    chain = pelvis_of(Protocol("chain"), BODY, true.vertices, true.joints)
    assert (chain[:, 0] == true.joints[:, 0]).all()
    less = Posed(true.rotations, true.betas, true.vertices[:, :-1], true.joints)
    with pytest.raises(MetricsError, match="two models"):
        errors(Protocol(), BODY, less, true)


def test_what_is_in_the_image_is_what_projects_into_it() -> None:
    points = np.array([[[0, 0, 2.0], [10, 0, 2], [0, 0, -2]]])
    level = np.zeros(1)
    cameras = Cameras(
        np.eye(3)[None], np.zeros((1, 3)), np.array([100.0]), np.array([[64.0, 64]]), 128, 128, level, level
    )
    assert in_frame(cameras.project_camera(points), 128, 128).tolist() == [[True, False, False]]


def drawn(
    rng: np.random.Generator, seeds: int, images: int, v: tuple[float, float, float], mean: float = 0.0
) -> np.ndarray:
    of_seed, of_image, rest = (np.sqrt(one) for one in v)
    return (
        mean
        + of_seed * rng.normal(size=(seeds, 1))
        + of_image * rng.normal(size=(1, images))
        + rest * rng.normal(size=(seeds, images))
    )


def test_variance_components_are_recovered() -> None:
    rng = np.random.default_rng(0)
    found = [components(drawn(rng, 40, 200, (9.0, 100.0, 400.0))) for _ in range(40)]
    assert np.mean([one.seed for one in found]) == pytest.approx(9, rel=0.25)
    assert np.mean([one.image for one in found]) == pytest.approx(100, rel=0.1)
    assert np.mean([one.rest for one in found]) == pytest.approx(400, rel=0.02)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("v", [(9.0, 625.0, 1600.0), (64.0, 100.0, 1600.0), (0.0, 625.0, 1600.0)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds: int, v: tuple[float, float, float]) -> None:
    """Never less than 93 %; more where the seeds do not differ, because no mean square is taken as less than what is left."""
    rng = np.random.default_rng(seeds)
    trials = 600
    hit = 0
    for _ in range(trials):
        found = difference(drawn(rng, seeds, 96, v, mean=2.0), resamples=400)
        hit += found.low <= 2.0 <= found.high
    assert 0.93 <= hit / trials <= (0.995 if v[0] < 9 else 0.985)


def test_two_recipes_of_the_same_data_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(7)
    p = [difference(drawn(rng, 3, 96, (9.0, 625.0, 1600.0)), resamples=200).p for _ in range(600)]
    assert np.mean(np.array(p) < 0.05) <= 0.075


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(3)
    v = (9.0, 625.0, 1600.0)
    sizes = [difference(drawn(rng, 5, 96, v), resamples=50).detectable for _ in range(100)]
    found = [difference(drawn(rng, 5, 96, v, float(np.median(sizes))), resamples=50).p < 0.05 for _ in range(400)]
    assert 0.7 <= np.mean(found) <= 0.92


def test_pairing_over_images_narrows_the_interval() -> None:
    rng = np.random.default_rng(1)
    hard = 100 * rng.normal(size=(1, 200))
    a, b = hard + rng.normal(size=(3, 200)), hard + rng.normal(size=(3, 200)) + 1
    paired = difference(a - b)
    assert paired.high < 0
    unpaired = difference(a - b[:, ::-1])
    assert unpaired.se > 20 * paired.se


def test_words_never_say_that_there_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    nothing, much = (in_words(difference(drawn(rng, 3, 50, (1, 1, 1), mean))) for mean in (0.0, 50.0))
    assert nothing.startswith("not told from zero without correction; differences from")
    assert much.startswith("more by 50") and much.endswith("without correction")
    alone = in_words(difference(drawn(rng, 1, 50, (1, 1, 1))))
    assert "of this pair of students" in alone and "of this pair" not in nothing + much


def test_what_is_claimed_of_a_tested_contrast_follows_its_corrected_p() -> None:
    """An interval that leaves zero out by itself is not enough for one of several contrasts, nor is a p without it."""
    apart = Difference(17.3, 0.04, 34.5, 4.0, 2.0, 0.0497, 22.0, 3, 192)
    assert not is_told(apart, 0.10)
    words = in_words(apart, 0.10)
    assert (
        words.startswith("not told from zero after Holm's correction; differences from 22.0 mm") and "17.3" not in words
    )
    assert in_words(apart, LEVEL) == "more by 17.3 mm [0.0, 34.5] after Holm's correction"
    assert in_words(apart) == "more by 17.3 mm [0.0, 34.5] without correction"
    across = replace(apart, low=-0.1)
    assert not is_told(across, 0.01) and not is_told(across)


def test_three_contrasts_of_the_same_data_are_seldom_told_apart_by_any_of_their_words() -> None:
    """The share of studies with a claim that is false, by simulation: at most the level that is promised."""
    rng = np.random.default_rng(11)
    false, looked = 0, 0
    for _ in range(300):
        found = [difference(drawn(rng, 3, 48, (9.0, 625.0, 1600.0)), resamples=100) for _ in range(3)]
        adjusted = holm(np.array([one.p for one in found]))
        false += any(in_words(one, p).startswith(("more", "less")) for one, p in zip(found, adjusted, strict=True))
        looked += any(in_words(one).startswith(("more", "less")) for one in found)
    assert false / 300 <= 0.075
    assert looked > false, "without correction, more studies would have claimed something"


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.6])
def test_a_planted_exchange_rate_is_recovered(factor: float) -> None:
    """An image worth `factor` renders: the recipe's errors are those of `factor` times as many renders."""
    rng = np.random.default_rng(0)

    def of(n: float) -> np.ndarray:
        return 400 - 40 * np.log(n / 100) + drawn(rng, 3, 300, (1.0, 400.0, 400.0))

    images = rng.normal(0, 20, 300)
    rate = exchange_rate({n: of(n) + images for n in (100, 200, 400)}, of(factor * 200) + images, 200)
    assert rate.low <= factor <= rate.high
    assert rate.high / rate.low < 3
    assert not rate.drawn_on


def test_beyond_the_curve_a_rate_is_marked_and_bounded() -> None:
    curve = {n: np.full((2, 4), 400.0 - 40 * np.log2(n / 100)) for n in (100, 200)}
    better, worse = (exchange_rate(curve, np.full((2, 4), error), 100) for error in (100.0, 900.0))
    assert better.drawn_on and better.value == pytest.approx(better.most) == 8
    assert worse.drawn_on and worse.value == pytest.approx(worse.least) == 0.25
    flat = equal_size([100, 200], np.full((2, 1), 300.0), np.array([310.0]))
    assert flat[0] == pytest.approx(25), "a curve that does not fall cannot give a size"
    with pytest.raises(MetricsError, match="two sizes"):
        exchange_rate({100: np.zeros((2, 2))}, np.zeros((2, 2)), 100)

"""MPII's average precision against a naive double loop, and against figures that can be computed by hand."""

import numpy as np
import pytest

from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics.mpii_ap import (
    COUNTED,
    JOINTS,
    Annotated,
    Predicted,
    area_under_envelope,
    belong_to,
    judge,
    mpii_ap,
)

HEAD = 20.0
REACH = 0.5 * 0.6 * HEAD


def people(count: int, rng: np.random.Generator) -> Annotated:
    joints = rng.uniform(0, 300, (count, 1, 2)) + rng.uniform(-40, 40, (count, JOINTS, 2))
    return Annotated(joints, np.ones((count, JOINTS), bool), np.full(count, HEAD))


def perfect(annotated: Annotated, rng: np.random.Generator) -> Predicted:
    return Predicted(annotated.joints.copy(), annotated.known.copy(), rng.random(annotated.known.shape))


def moved(predicted: Predicted, by_px: float) -> Predicted:
    return Predicted(predicted.joints + np.array([by_px, 0.0]), predicted.found, predicted.scores)


def naive(images: list[tuple[Annotated, Predicted]]) -> np.ndarray:
    """The definition, one number at a time: for every joint all predictions are ranked and counted anew."""
    result = []
    for joint in range(JOINTS):
        entries: list[tuple[float, bool]] = []
        total = 0
        for a, p in images:
            n, m = len(a.joints), len(p.joints)
            total += sum(bool(a.known[g, joint]) for g in range(n))
            near = [[[False] * JOINTS for _ in range(n)] for _ in range(m)]
            for k in range(m):
                for g in range(n):
                    for j in range(JOINTS):
                        if p.found[k, j] and a.known[g, j]:
                            (x, y), (u, v) = p.joints[k, j], a.joints[g, j]
                            near[k][g][j] = ((x - u) ** 2 + (y - v) ** 2) ** 0.5 <= 0.5 * 0.6 * a.head_px[g]
            share = [[sum(near[k][g]) / max(1, int(a.known[g].sum())) for g in range(n)] for k in range(m)]
            wants: list[int | None] = []
            for k in range(m):
                best = None
                for g in range(n):
                    if share[k][g] > 0 and (best is None or share[k][g] > share[k][best]):
                        best = g
                wants.append(best)
            keeps: list[int | None] = [None] * m
            for g in range(n):
                best = None
                for k in range(m):
                    if wants[k] == g and (best is None or share[k][g] > share[best][g]):
                        best = k
                if best is not None:
                    keeps[best] = g
            for k in range(m):
                g = keeps[k]
                if p.found[k, joint] and (g is None or a.known[g, joint]):
                    entries.append((float(p.scores[k, joint]), g is not None and near[k][g][joint]))
        if not total:
            result.append(float("nan"))
            continue
        thresholds = sorted({score for score, _ in entries}, reverse=True)
        curve = []
        for threshold in thresholds:
            kept = [right for score, right in entries if score >= threshold]
            curve.append((sum(kept) / total, sum(kept) / len(kept)))
        area, before = 0.0, 0.0
        for i, (recall, _) in enumerate(curve):
            area += (recall - before) * max(precision for _, precision in curve[i:])
            before = recall
        result.append(100 * area)
    return np.array(result)


def random_images(seed: int) -> list[tuple[Annotated, Predicted]]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(5):
        a = people(int(rng.integers(0, 5)), rng)
        a = Annotated(a.joints, rng.random(a.known.shape) < 0.8, rng.uniform(15, 40, len(a.joints)))
        noisy = a.joints + rng.normal(0, 6, a.joints.shape)
        extra = rng.uniform(0, 300, (int(rng.integers(0, 3)), JOINTS, 2))
        joints = np.concatenate([noisy, noisy[:1] + 3, extra]) if len(noisy) else extra
        found = rng.random(joints.shape[:2]) < 0.85
        images.append((a, Predicted(joints, found, np.round(rng.random(found.shape), 1))))  # many equal scores
    return images


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_a_naive_loop_finds(seed: int) -> None:
    images = random_images(seed)
    found, wanted = mpii_ap(images), naive(images)
    assert found.joints == pytest.approx(wanted, nan_ok=True)
    assert 0 < found.mean < 100
    assert found.mean == pytest.approx(np.mean(wanted[list(COUNTED)]))


def test_perfect_predictions_have_all_and_none_have_nothing() -> None:
    rng = np.random.default_rng(0)
    images = [(a, perfect(a, rng)) for a in (people(3, rng), people(1, rng))]
    assert mpii_ap(images).mean == pytest.approx(100)
    nobody = Predicted(np.zeros((0, JOINTS, 2)), np.zeros((0, JOINTS), bool), np.zeros((0, JOINTS)))
    assert mpii_ap([(a, nobody) for a, _ in images]).mean == 0
    assert list(mpii_ap(images).groups.values()) == pytest.approx([100] * 7)


@pytest.mark.parametrize(("share", "wanted"), [(0.49, 100), (0.51, 0)])
def test_half_a_head_is_the_border(share: float, wanted: float) -> None:
    rng = np.random.default_rng(0)
    a = people(1, rng)
    assert mpii_ap([(a, moved(perfect(a, rng), share * 0.6 * HEAD))]).mean == pytest.approx(wanted)


def test_a_second_prediction_of_a_person_lowers_precision() -> None:
    """Two hits are to be had. Scores .9 hit, .8 duplicate, .7 hit: precision 1 to recall 1/2, then 2/3 to recall 1."""
    rng = np.random.default_rng(0)
    a = people(2, rng)
    joints = np.concatenate([a.joints[:1], a.joints[:1] + 0.9 * REACH / 2, a.joints[1:]])
    scores = np.repeat(np.array([[0.9], [0.8], [0.7]]), JOINTS, axis=1)
    # The duplicate must be the worse one in every joint: its joints are as many matches, so the earlier one is kept.
    found = mpii_ap([(a, Predicted(joints, np.ones((3, JOINTS), bool), scores))])
    assert found.joints == pytest.approx(np.full(JOINTS, 100 * (0.5 * 1 + 0.5 * 2 / 3)))


def test_the_order_of_images_and_of_equal_scores_does_not_matter() -> None:
    images = random_images(3)
    forwards, backwards = mpii_ap(images), mpii_ap(images[::-1])
    assert forwards.joints == pytest.approx(backwards.joints, nan_ok=True)
    same = np.array([0.5, 0.5, 0.5, 0.5])
    one = area_under_envelope(same, np.array([True, True, False, False]), 2)
    assert (
        one == pytest.approx(area_under_envelope(same, np.array([False, False, True, True]), 2)) == pytest.approx(0.5)
    )


def test_people_without_a_size_of_head_are_refused() -> None:
    rng = np.random.default_rng(0)
    a = people(1, rng)
    with pytest.raises(MetricsError, match="head sizes"):
        mpii_ap([(Annotated(a.joints, a.known, np.array([np.nan])), perfect(a, rng))])


def test_groups_of_an_image_are_judged_as_images_of_their_own() -> None:
    rng = np.random.default_rng(5)
    together, apart = [], []
    for _ in range(8):
        group = np.array([0, 1, 0, 1, 1])
        annotated = people(5, rng)
        predicted = moved(perfect(annotated, rng), float(rng.uniform(0, 2 * REACH)))
        of = rng.integers(0, 2, 5)  # some are found with the other group, where they are wrong
        together.append(
            (
                Annotated(annotated.joints, annotated.known, annotated.head_px, group),
                Predicted(predicted.joints, predicted.found, predicted.scores, of),
            )
        )
        for number in (0, 1):
            own = group == number
            part = Annotated(annotated.joints[own], annotated.known[own], annotated.head_px[own])
            apart.append((part, predicted.take(of == number)))
    found = mpii_ap(together)
    assert found.joints == pytest.approx(mpii_ap(apart).joints) and 5 < found.mean < 95


def test_who_is_kept_for_a_group_is_named_by_the_row_of_the_image() -> None:
    rng = np.random.default_rng(6)
    annotated = people(4, rng)
    of = np.array([1, 0, 1, 0])
    image = Annotated(annotated.joints, annotated.known, annotated.head_px, of)
    right = perfect(annotated, rng)
    for one in judge(image, Predicted(right.joints, right.found, right.scores, of)):
        assert one.right.all() and sorted(one.person.tolist()) == [0, 1, 2, 3]
    nobody = judge(image, Predicted(right.joints, right.found, right.scores, np.array([7, 7, 7, 7])))
    assert all(len(one.scores) == 0 for one in nobody), "groups without annotated people are not judged"
    with pytest.raises(MetricsError, match="predictions for groups"):
        judge(image, right)


def test_a_prediction_belongs_to_a_group_by_the_middle_of_what_was_found() -> None:
    joints = np.zeros((4, JOINTS, 2))
    joints[:, :2] = [[[90.0, 50.0], [110.0, 50.0]], [[224.0, 74.0]] * 2, [[226.0, 50.0]] * 2, [[150.0, 23.0]] * 2]
    found = np.zeros((4, JOINTS), bool)
    found[:, :2] = True
    group = np.array([[100.0, 50.0], [200.0, 50.0]])
    assert belong_to(Predicted(joints, found, np.ones((4, JOINTS))), group, 100.0).tolist() == [
        True,
        True,
        False,
        False,
    ]

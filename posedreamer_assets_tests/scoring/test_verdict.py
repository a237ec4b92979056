from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedreamer_assets.config import CurationConfig
from posedreamer_assets.scoring.verdict import COLUMNS, KEPT, REASONS, TESTS, Verdict, filter_in_words, judge_samples
from posedreamer_assets.tables.fields import SCHEMAS

NAN = float("nan")


def judge(oks: float, people: int, head: float, cfg: CurationConfig | None = None, render: float = NAN) -> Verdict:
    scores = {
        "oks": np.array([oks], np.float32),
        "render_oks": np.array([render], np.float32),
        "people": np.array([people]),
        "head_error_deg": np.array([head], np.float32),
    }
    return judge_samples(scores, ["walk"], cfg or CurationConfig())[0]


def test_each_reason_is_given_where_it_applies() -> None:
    assert judge(0.9, 1, 5.0).reason == KEPT
    assert judge(0.5, 1, 5.0).reasons == ("low_oks",)
    assert judge(0.9, 0, 5.0).reasons == ("no_person",)
    assert judge(0.9, 3, 5.0).reasons == ("crowded",)
    assert judge(0.9, 1, 120.0).reasons == ("head_pose",)


def test_all_failed_tests_are_listed_and_the_explaining_one_comes_first() -> None:
    verdict = judge(0.1, 0, 90.0)
    assert verdict.reason == "no_person"
    assert verdict.reasons == ("no_person", "low_oks", "head_pose")


def test_an_unknown_head_passes_and_an_unknown_oks_does_not() -> None:
    assert judge(0.9, 1, float("nan")).keep
    assert judge(float("nan"), 1, 0.0).reason == "low_oks"


def test_thresholds_are_inclusive() -> None:
    cfg = CurationConfig(min_oks=0.5, max_people=2, max_head_error_deg=30.0)
    assert judge(0.5, 2, 30.0, cfg).keep


@given(st.floats(0, 1), st.integers(0, 6), st.one_of(st.floats(0, 180), st.just(float("nan"))))
def test_kept_means_no_reason(oks: float, people: int, head: float) -> None:
    verdict = judge(oks, people, head)
    assert verdict.keep == (not verdict.reasons) == (verdict.reason == KEPT)
    assert set(verdict.reasons) <= set(REASONS)


BAD = {
    "no_person": ("people", 0.0),
    "crowded": ("people", 2.0),
    "unreadable_pose": ("render_oks", 0.1),
    "low_oks": ("oks", 0.1),
    "head_pose": ("head_error_deg", 90.0),
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_sample_is_judged_by_its_own_scores(reason: str) -> None:
    good = {"oks": 0.9, "render_oks": 0.9, "people": 1.0, "head_error_deg": 5.0}
    column, value = BAD[reason]
    scores = {name: np.array([given, given, given]) for name, given in good.items()}
    scores[column][1] = value
    cfg = CurationConfig(min_render_oks=0.3)
    assert [v.reasons for v in judge_samples(scores, ["walk"] * 3, cfg)] == [(), (reason,), ()]


def test_a_test_looks_at_stored_scores_and_the_words_name_every_setting() -> None:
    assert {name for test in TESTS for name in test.columns} == set(COLUMNS) <= set(SCHEMAS["sample_scores"].names)
    assert len({test.reason for test in TESTS}) == len(TESTS)
    cfg = CurationConfig(0.71, 0.91, 0.31, 0.51, 7, 47.5)
    assert all(str(value) in filter_in_words(cfg) for value in asdict(cfg).values())
    off = filter_in_words(CurationConfig())
    assert "render" not in off and "family" not in off, "what is off is not told"


def test_without_the_settings_renders_change_nothing() -> None:
    for render in (NAN, 0.0, 0.4, 1.0):
        assert judge(0.79, 1, 0.0, render=render) == judge(0.79, 1, 0.0)
        assert judge(0.81, 1, 0.0, render=render).keep


def test_a_pose_that_is_hard_to_read_asks_less_of_its_image_and_an_easy_one_more() -> None:
    cfg = CurationConfig(relative_oks=0.9)
    assert judge(0.6, 1, 0.0, cfg, render=0.65).keep, "as well as its render"
    assert judge(0.83, 1, 0.0, cfg, render=0.95).reasons == ("low_oks",)
    assert judge(0.83, 1, 0.0, cfg).keep and not judge(0.79, 1, 0.0, cfg).keep, "without a render, min_oks holds"


def test_what_cannot_be_read_when_rendered_says_nothing_of_the_image() -> None:
    cfg = CurationConfig(min_render_oks=0.5)
    assert judge(0.9, 1, 0.0, cfg, render=0.49).reason == "unreadable_pose"
    assert judge(0.2, 1, 0.0, cfg, render=0.4).reasons == ("unreadable_pose", "low_oks"), "which explains the other"
    assert judge(0.9, 1, 0.0, cfg).keep, "without a render nothing is known"


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=40),
    st.floats(0.05, 1.0),
)
def test_a_quota_is_filled_by_the_best_that_fail_by_oks_alone(rows: list[tuple[float, str, int]], quota: float) -> None:
    oks, families, people = zip(*rows, strict=True)
    count = len(rows)
    scores = {
        "oks": np.array(oks),
        "render_oks": np.full(count, np.nan),
        "people": np.array(people),
        "head_error_deg": np.zeros(count),
    }
    plain = judge_samples(scores, families, CurationConfig())
    filled = judge_samples(scores, families, CurationConfig(per_family_quota=quota))
    for family in set(families):
        own = [i for i in range(count) if families[i] == family]
        low = sorted((i for i in own if plain[i].reasons == ("low_oks",)), key=lambda i: (-oks[i], i))
        missing = max(0, int(np.ceil(quota * len(own))) - sum(plain[i].keep for i in own))
        wanted = {i for i in own if plain[i].keep} | {*low[:missing]}
        assert {i for i in own if filled[i].keep} == wanted
    for before, after in zip(plain, filled, strict=True):
        assert before.reasons == after.reasons, "what was failed stays told"
        assert after.keep == (after.reason == KEPT)


def test_the_filter_in_words_states_the_settings_that_were_used() -> None:
    words = filter_in_words(CurationConfig(min_oks=0.61, max_people=3, max_head_error_deg=12.5))
    assert "OKS at least 0.61" in words and "at most 3 people" in words and "12.5 degrees" in words

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedreamer_assets.config import CurationConfig
from posedreamer_assets.scoring.verdict import COLUMNS, KEPT, REASONS, TESTS, Verdict, filter_in_words, judge_samples
from posedreamer_assets.tables.fields import SCHEMAS


def judge(oks: float, people: int, head: float, cfg: CurationConfig | None = None) -> Verdict:
    scores = {
        "oks": np.array([oks], np.float32),
        "people": np.array([people]),
        "head_error_deg": np.array([head], np.float32),
    }
    return judge_samples(scores, cfg or CurationConfig())[0]


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


@pytest.mark.parametrize("reason", REASONS)
def test_each_sample_is_judged_by_its_own_scores(reason: str) -> None:
    good = {"oks": 0.9, "people": 1.0, "head_error_deg": 5.0}
    bad = {"no_person": ("people", 0.0), "crowded": ("people", 2.0), "low_oks": ("oks", 0.1)}
    column, value = bad.get(reason, ("head_error_deg", 90.0))
    scores = {name: np.array([given, given, given]) for name, given in good.items()}
    scores[column][1] = value
    assert [v.reasons for v in judge_samples(scores, CurationConfig())] == [(), (reason,), ()]


def test_a_test_looks_at_a_stored_score_and_its_rule_names_its_settings() -> None:
    assert {test.column for test in TESTS} == set(COLUMNS) <= set(SCHEMAS["sample_scores"].names)
    assert len({test.reason for test in TESTS}) == len(TESTS)
    for name, value in asdict(CurationConfig()).items():
        assert any(f"{{{name}}}" in test.rule for test in TESTS), f"no rule states {name}"
        assert str(value) in filter_in_words(CurationConfig())


def test_the_filter_in_words_states_the_settings_that_were_used() -> None:
    words = filter_in_words(CurationConfig(min_oks=0.61, max_people=3, max_head_error_deg=12.5))
    assert "OKS at least 0.61" in words and "at most 3 people" in words and "12.5 degrees" in words

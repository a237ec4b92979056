import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posedreamer_assets.config import CurationConfig
from posedreamer_assets.scoring.verdict import KEPT, REASONS, judge_samples


def judge(oks: float, people: int, head: float, cfg: CurationConfig | None = None):
    arrays = np.array([oks], np.float32), np.array([people]), np.array([head], np.float32)
    return judge_samples(*arrays, cfg or CurationConfig())[0]


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

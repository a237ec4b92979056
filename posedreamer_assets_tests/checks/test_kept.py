"""Configurations that are kept while a suite is validated: the same outcomes, and nothing left behind."""

from contextlib import nullcontext

import pytest

from posedreamer_assets.checks import run_checks, suite
from posedreamer_assets.checks.kept import kept_configurations
from posedreamer_assets_tests.checks.small_rows import IDS, CleanAround, rows_of


@pytest.mark.parametrize("table", ["pose_library", "sample_scores"])
def test_outcomes_are_those_of_great_expectations_alone(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(table, sample_id=[IDS[0], *IDS[:-1]])  # one of them twice
    kept = run_checks(table, rows, CleanAround())
    monkeypatch.setattr(suite, "kept_configurations", nullcontext)
    assert kept == run_checks(table, rows, CleanAround())
    assert {outcome.passed for outcome in kept} == {True, False}


def test_each_expectation_keeps_its_own_and_none_after_the_block() -> None:
    with suite._silence():  # of its imports' warnings
        import great_expectations.expectations as gxe
        from great_expectations.expectations.expectation import Expectation
    one, other = (gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("a", "b"))
    before = Expectation.configuration
    with kept_configurations():
        assert one.configuration is one.configuration
        assert [e.configuration.kwargs["column"] for e in (one, other)] == ["a", "b"]
    with pytest.raises(KeyboardInterrupt), kept_configurations():
        raise KeyboardInterrupt
    assert Expectation.configuration is before
    assert one.configuration is not one.configuration

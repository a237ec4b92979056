"""Rates by group: equal rates are seldom called different, different ones are found, and the figures are the textbook's."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from posedreamer_assets.checks.groups import alike_among, none_left_behind
from posedreamer_assets.checks.model import DataCheck
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.metrics.group_rates import group_rates, holm, wilson_interval

TONES = ("pale", "light", "olive", "brown", "dark")


def drawn(rng: np.random.Generator, rates: dict[str, float], n: int) -> tuple[list[str], np.ndarray]:
    names = rng.choice(list(rates), n).tolist()
    return names, rng.random(n) < np.array([rates[name] for name in names])


def test_with_two_groups_both_tests_are_fishers() -> None:
    names = ["a"] * 20 + ["b"] * 20
    kept = np.array([True] * 14 + [False] * 6 + [True] * 5 + [False] * 15)
    found = group_rates(names, kept)
    fisher: Any = stats.fisher_exact([[14, 6], [5, 15]])
    exact = fisher.pvalue
    assert found.p == pytest.approx(exact, rel=0.25)
    assert [g.p for g in found.groups] == pytest.approx([min(1, 2 * exact), min(1, 2 * exact)])


def test_with_many_rows_the_probability_is_that_of_the_chi_squared_test() -> None:
    names, kept = drawn(np.random.default_rng(3), {"a": 0.40, "b": 0.43, "c": 0.47}, 1500)
    table = [[sum(k for n, k in zip(names, kept, strict=True) if n == g) for g in "abc"]]
    table.append([names.count(g) - table[0][i] for i, g in enumerate("abc")])
    _, expected, *_ = stats.chi2_contingency(table, correction=False)
    assert group_rates(names, kept).p == pytest.approx(expected, abs=0.02)


def test_groups_that_are_alike_are_seldom_called_different() -> None:
    rng = np.random.default_rng(0)
    p = [group_rates(*drawn(rng, dict.fromkeys(TONES, 0.42), 120)).p for _ in range(200)]
    assert sum(value < 0.05 for value in p) <= stats.binom.isf(1e-4, 200, 0.05)
    assert 0.35 < np.mean(p) < 0.65


def test_a_group_that_is_kept_less_often_is_named() -> None:
    names, kept = drawn(np.random.default_rng(1), {**dict.fromkeys(TONES, 0.5), "dark": 0.15}, 500)
    found = group_rates(names, kept)
    assert found.p < 0.001
    assert [g.name for g in found.groups if g.p < 0.01] == ["dark"]
    (dark,) = [g for g in found.groups if g.name == "dark"]
    assert dark.low < dark.rate < dark.high < 0.3


def test_neither_order_nor_names_change_a_probability() -> None:
    names, kept = drawn(np.random.default_rng(2), dict.fromkeys(TONES, 0.3), 200)
    order = np.random.default_rng(5).permutation(200)
    shuffled = group_rates([names[i] for i in order], kept[order])
    assert shuffled == group_rates(names, kept)


@pytest.mark.parametrize("kept", [0, 1])
def test_where_all_or_none_are_kept_nothing_differs(kept: int) -> None:
    found = group_rates(["a", "b", "b"], np.full(3, bool(kept)))
    assert found.p == 1.0 and all(g.p == 1.0 for g in found.groups)


def test_wilsons_interval_is_the_textbooks() -> None:
    z, p, n = 1.959964, 0.3, 50
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    assert wilson_interval(15, 50) == pytest.approx(expected, abs=1e-6)


class _Earlier:
    def __init__(self, *tables: pa.Table) -> None:
        self.tables = list(tables)

    def before(self, columns: object, batches: int, rows: int) -> list[pa.Table]:
        return self.tables[-batches:]


def _batch(rng: np.random.Generator, rates: dict[str, float], n: int = 96) -> pa.Table:
    names, kept = drawn(rng, rates, n)
    captions = [f"a photo of a person with {name} skin and short hair" for name in names]
    return pa.table({"keep": kept, "caption": [*captions[:-1], None]})


def _check(**args: object) -> DataCheck:
    given = {"column": "caption", "group": r"person with (\S+) skin", **args}
    return DataCheck("alike", "alike_among", "keep", given, "warn", None, 1.0, "")


def test_small_batches_are_judged_together_with_those_before() -> None:
    rng, rates = np.random.default_rng(4), {**dict.fromkeys(TONES, 0.45), "dark": 0.2}
    batches = [_batch(rng, rates) for _ in range(6)]
    alone = alike_among(Rows(batches[-1]), _check(), _Earlier())  # type: ignore[arg-type]
    together = alike_among(Rows(batches[-1]), _check(), _Earlier(*batches[:-1]))  # type: ignore[arg-type]
    assert alone.value <= alone.limit < together.value
    assert "apart from the others: dark" in together.text and "6 batches" in together.text


def test_rows_without_a_group_are_not_judged() -> None:
    rows = pa.table({"keep": [True, False], "caption": ["someone", None]})
    found = alike_among(Rows(rows), _check(), _Earlier())  # type: ignore[arg-type]
    assert found.value <= found.limit and "no row" in found.text


def test_holm_is_the_textbooks() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5])) == [0.5]
    assert max(holm(np.array([0.9, 0.8]))) == 1


def _behind(by: str, share: float) -> DataCheck:
    return DataCheck("behind", "none_left_behind", "keep", {"group": by, "share": share}, "warn", None, 1.0, "")


def test_a_family_that_is_turned_away_is_named_and_a_little_less_is_not() -> None:
    rng = np.random.default_rng(3)

    def batch(rates: dict[str, float]) -> pa.Table:
        names, kept = drawn(rng, rates, 400)
        return pa.table({"keep": kept, "family": names})

    rates = {"walk": 0.9, "run": 0.9, "kick": 0.85, "sit": 0.8}
    worse = none_left_behind(Rows(batch({**rates, "yoga": 0.3})), _behind("family", 0.5), _Earlier())  # type: ignore[arg-type]
    assert worse.value > worse.limit and "left behind: yoga" in worse.text and "walk" not in worse.text
    little = none_left_behind(Rows(batch({**rates, "yoga": 0.6})), _behind("family", 0.5), _Earlier())  # type: ignore[arg-type]
    assert little.value <= little.limit and "left behind: none" in little.text
    few = pa.table({"keep": [False, *[True] * 9], "family": ["yoga", *["walk"] * 9]})
    alone = none_left_behind(Rows(few), _behind("family", 0.5), _Earlier())  # type: ignore[arg-type]
    assert alone.value <= alone.limit, "one image is no rate"


def test_of_numbers_thirds_are_compared() -> None:
    rng = np.random.default_rng(5)
    difficulty = rng.random(300)
    kept = rng.random(300) < np.where(difficulty < 1 / 3, 0.3, 0.9)
    rows = pa.table({"keep": kept, "render_oks": difficulty})
    found = none_left_behind(Rows(rows), _behind("render_oks", 0.75), _Earlier())  # type: ignore[arg-type]
    assert found.value > found.limit and "lowest third" in found.text and "highest" not in found.text
    unknown = pa.table({"keep": [True, False], "render_oks": pa.array([None, None], pa.float32())})
    assert "no row" in none_left_behind(Rows(unknown), _behind("render_oks", 0.75), _Earlier()).text  # type: ignore[arg-type]

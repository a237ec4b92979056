"""Diversity of captions against sums by hand and SciPy's entropy."""

import math

import numpy as np
import pytest
from scipy.stats import entropy

from posedreamer_assets.metrics.caption_diversity import distinct, diversity, word_entropy_bits, words_of
from posedreamer_assets.report.coverage import captions_in_words

THREE = ["A red hat, a red coat.", "a red hat", "self-made"]


def test_words_are_told_apart_by_what_is_not_one() -> None:
    assert words_of(THREE[0]) == ["a", "red", "hat", "a", "red", "coat"] and words_of(THREE[2]) == ["self-made"]


@pytest.mark.parametrize(("n", "share"), [(1, 5 / 10), (2, 4 / 7), (3, 4 / 5)])
def test_distinct_n_grams_as_counted_by_hand(n: int, share: float) -> None:
    """a red, red hat, hat a, red coat of 5 + 2; a red hat, red hat a, hat a red, a red coat of 4 + 1."""
    assert distinct(THREE, n) == pytest.approx(share)


def test_entropy_is_scipy_s() -> None:
    counts = [3, 3, 2, 1, 1]  # a, red, hat, coat, self-made
    assert word_entropy_bits(THREE) == pytest.approx(float(np.asarray(entropy(counts, base=2))))
    assert word_entropy_bits(["one one one"]) == 0


def test_of_no_words_nothing_can_be_said() -> None:
    assert math.isnan(distinct(["one"], 2)) and math.isnan(word_entropy_bits([])) and captions_in_words([]) == ""
    assert diversity(["same", "same"])["captions_unlike_share"] == 0.5
    assert captions_in_words(THREE).startswith(
        "3 captions: 100% unlike, distinct 1-, 2- and 3-grams 0.500, 0.571, 0.800"
    )

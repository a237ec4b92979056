"""Which samples are kept, and why the others are not.

`TESTS` is all there is to say of a reason to reject: report texts, cards, column lineage, figures and checks follow from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from posedreamer_assets.config import CurationConfig

KEPT = "kept"


@dataclass(frozen=True)
class Test:
    """One reason to reject.

    Attributes:
        reason: its code in the columns `reason` and `reasons`.
        column: of table `sample_scores` that it looks at.
        fails: which values (n,) fail under the settings.
        rule: what passes, in words; names settings of `CurationConfig` in braces.
        words: what is wrong with an image that fails.
    """

    reason: str
    column: str
    fails: Callable[[np.ndarray, CurationConfig], np.ndarray]
    rule: str
    words: str


TESTS = (
    Test(
        "no_person",
        "people",
        lambda people, cfg: people < 1,
        "somebody is seen",
        "no person was found",
    ),
    Test(
        "crowded",
        "people",
        lambda people, cfg: people > cfg.max_people,
        "at most {max_people} people",
        "more people than allowed",
    ),
    Test(
        "low_oks",
        "oks",
        lambda oks, cfg: ~(oks >= cfg.min_oks),  # NaN, no keypoint to be seen, fails
        "OKS at least {min_oks}",
        "the detected pose is too far from the label's",
    ),
    Test(
        "head_pose",
        "head_error_deg",
        lambda error, cfg: error > cfg.max_head_error_deg,  # NaN, too little of the face to be seen, passes
        "head within {max_head_error_deg} degrees",
        "the head looks another way than the label's",
    ),
)
"""In the order in which they are tested: what explains a low OKS comes before it."""

REASONS = tuple(test.reason for test in TESTS)
COLUMNS = tuple(dict.fromkeys(test.column for test in TESTS))
"""Columns of `sample_scores` that the verdict depends on."""


@dataclass(frozen=True)
class Verdict:
    """`reason` is the first failed test or "kept"; `reasons` holds every failed test."""

    keep: bool
    reason: str
    reasons: tuple[str, ...]


def judge_samples(scores: Mapping[str, np.ndarray], cfg: CurationConfig) -> list[Verdict]:
    """One verdict per sample.

    Args:
        scores: `COLUMNS` by name, (n,) each; NaN stands for what could not be measured.
        cfg: the thresholds.
    """
    failed = {test.reason: test.fails(scores[test.column], cfg) for test in TESTS}
    verdicts = []
    for i in range(len(scores[COLUMNS[0]])):
        reasons = tuple(reason for reason in REASONS if failed[reason][i])
        verdicts.append(Verdict(not reasons, reasons[0] if reasons else KEPT, reasons))
    return verdicts


def filter_in_words(cfg: CurationConfig) -> str:
    """What the filter keeps, for cards."""
    return ", ".join(test.rule.format(**asdict(cfg)) for test in TESTS)

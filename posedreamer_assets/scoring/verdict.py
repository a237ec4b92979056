"""Which samples are kept, and why the others are not.

`TESTS` is all there is to say of a reason to reject: report texts, cards, column lineage, figures and checks follow from it.

The judge reads some poses badly whatever the picture: of those, a low OKS says little about the image. What it reaches on a
*render* of the pose tells them apart, and `curation.relative_oks` and `curation.min_render_oks` go by that.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posedreamer_assets.config import CurationConfig

KEPT = "kept"
LOW_OKS = "low_oks"
Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Test:
    """One reason to reject.

    Attributes:
        reason: its code in the columns `reason` and `reasons`.
        columns: of table `sample_scores` that it looks at.
        fails: which samples (n,) fail, by their columns, under the settings.
        rule: what passes, in words, under the settings; empty where they let everything pass.
        words: what is wrong with an image that fails.
    """

    reason: str
    columns: tuple[str, ...]
    fails: Callable[[Scores, CurationConfig], np.ndarray]
    rule: Callable[[CurationConfig], str]
    words: str


def least_oks(render_oks: np.ndarray, cfg: CurationConfig) -> np.ndarray:
    """The OKS (n,) that is asked of each image: `min_oks`, or a share of what the judge reaches on the pose's render.

    Args:
        render_oks: (n,); NaN where there is no render of the pose.
        cfg: the thresholds.
    """
    least = np.full(len(render_oks), cfg.min_oks)
    return np.where(np.isfinite(render_oks), cfg.relative_oks * render_oks, least) if cfg.relative_oks else least


def _oks_rule(cfg: CurationConfig) -> str:
    alone = f"OKS at least {cfg.min_oks}"
    relative = f"OKS at least {cfg.relative_oks} of that on a render of the pose, and {cfg.min_oks} where there is none"
    return relative if cfg.relative_oks else alone


TESTS = (
    Test(
        "no_person",
        ("people",),
        lambda scores, cfg: scores["people"] < 1,
        lambda cfg: "somebody is seen",
        "no person was found",
    ),
    Test(
        "crowded",
        ("people",),
        lambda scores, cfg: scores["people"] > cfg.max_people,
        lambda cfg: f"at most {cfg.max_people} people",
        "more people than allowed",
    ),
    Test(
        "unreadable_pose",
        ("render_oks",),
        lambda scores, cfg: scores["render_oks"] < cfg.min_render_oks,  # NaN, no render, passes
        lambda cfg: f"OKS of a render of the pose at least {cfg.min_render_oks}" if cfg.min_render_oks else "",
        "the judge cannot read the pose even when it is rendered, so that it says nothing of the image",
    ),
    Test(
        LOW_OKS,
        ("oks", "render_oks"),
        lambda scores, cfg: ~(scores["oks"] >= least_oks(scores["render_oks"], cfg)),  # NaN, no keypoint seen, fails
        _oks_rule,
        "the detected pose is too far from the label's",
    ),
    Test(
        "head_pose",
        ("head_error_deg",),
        lambda scores, cfg: scores["head_error_deg"] > cfg.max_head_error_deg,  # NaN, little of the face seen, passes
        lambda cfg: f"head within {cfg.max_head_error_deg} degrees",
        "the head looks another way than the label's",
    ),
)
"""In the order in which they are tested: what explains a low OKS comes before it."""

REASONS = tuple(test.reason for test in TESTS)
COLUMNS = tuple(dict.fromkeys(name for test in TESTS for name in test.columns))
"""Columns of `sample_scores` that the verdict depends on."""


@dataclass(frozen=True)
class Verdict:
    """`reason` is the first failed test or "kept"; `reasons` holds every failed test.

    An image that is kept to fill its family's quota is "kept", and `reasons` says which test it had failed.
    """

    keep: bool
    reason: str
    reasons: tuple[str, ...]


def judge_samples(scores: Scores, families: Sequence[str], cfg: CurationConfig) -> list[Verdict]:
    """One verdict per sample of a batch.

    Args:
        scores: `COLUMNS` by name, (n,) each; NaN stands for what could not be measured.
        families: of the poses.
        cfg: the thresholds.
    """
    failed = {test.reason: test.fails(scores, cfg) for test in TESTS}
    verdicts = []
    for i in range(len(families)):
        reasons = tuple(reason for reason in REASONS if failed[reason][i])
        verdicts.append(Verdict(not reasons, reasons[0] if reasons else KEPT, reasons))
    for i in _filling(verdicts, scores["oks"], families, cfg.per_family_quota):
        verdicts[i] = replace(verdicts[i], keep=True, reason=KEPT)
    return verdicts


def _filling(verdicts: Sequence[Verdict], oks: np.ndarray, families: Sequence[str], quota: float) -> list[int]:
    """Samples that fill the quota of families which keep less: those with the best OKS that fail by it alone."""
    if not quota:
        return []
    asked = Counter(families)
    kept = Counter(family for family, verdict in zip(families, verdicts, strict=True) if verdict.keep)
    missing = {family: int(np.ceil(quota * count)) - kept[family] for family, count in asked.items()}
    found = []
    for i in sorted(range(len(families)), key=lambda i: (-np.nan_to_num(oks[i], nan=-1.0), i)):
        if verdicts[i].reasons == (LOW_OKS,) and missing[families[i]] > 0 and np.isfinite(oks[i]):
            missing[families[i]] -= 1
            found.append(i)
    return found


def filter_in_words(cfg: CurationConfig) -> str:
    """What the filter keeps, for cards."""
    rules = [test.rule(cfg) for test in TESTS]
    quota = f"and the best by OKS up to {cfg.per_family_quota} of each family" if cfg.per_family_quota else ""
    return ", ".join(filter(None, [*rules, quota]))

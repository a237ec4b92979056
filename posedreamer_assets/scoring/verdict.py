"""Which samples are kept, and why the others are not."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from posedreamer_assets.config import CurationConfig

REASONS = ("no_person", "crowded", "low_oks", "head_pose")
"""In the order in which they are tested: what explains a low OKS comes before it."""
KEPT = "kept"


@dataclass(frozen=True)
class Verdict:
    """`reason` is the first failed test or "kept"; `reasons` holds every failed test."""

    keep: bool
    reason: str
    reasons: tuple[str, ...]


def judge_samples(
    oks: Float[np.ndarray, " n"],
    people: Int[np.ndarray, " n"],
    head_error_deg: Float[np.ndarray, " n"],
    cfg: CurationConfig,
) -> list[Verdict]:
    """One verdict per sample.

    A sample fails when nobody is seen (`no_person`), more than `max_people` are (`crowded`), the OKS is below `min_oks`
    or NaN (`low_oks`), or the head is turned away by more than `max_head_error_deg` (`head_pose`). A head error of NaN,
    too few face keypoints seen, does not fail.
    """
    failed = {
        "no_person": people < 1,
        "crowded": people > cfg.max_people,
        "low_oks": ~(oks >= cfg.min_oks),
        "head_pose": head_error_deg > cfg.max_head_error_deg,
    }
    verdicts = []
    for i in range(len(oks)):
        reasons = tuple(reason for reason in REASONS if failed[reason][i])
        verdicts.append(Verdict(not reasons, reasons[0] if reasons else KEPT, reasons))
    return verdicts

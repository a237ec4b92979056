"""Average precision of joints of many people, as MPII's multi-person benchmark defines it (Pishchulin et al. 2016).

In each image a predicted joint matches an annotated one where they are at most half a head apart; the head's size is 0.6
times the diagonal of its box. A prediction goes to the annotated person of whom it matches the largest share of joints, and
an annotated person keeps the best prediction that went to it. Joints of predictions that were kept count as hits or misses,
those of all others as misses, ranked by score over all images; a joint's average precision is the area under the monotone
envelope of precision over recall. Only annotated joints count for people who were found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from posedreamer_assets.errors import MetricsError

JOINTS = 16
NEAR = 0.5  # of the head's size
_OF_DIAGONAL = 0.6
# Columns of MPII's tables, as joints of `scenes.points.MPII16`; pelvis and thorax are in none.
GROUPS: dict[str, tuple[int, ...]] = {
    "head": (8, 9),
    "shoulder": (12, 13),
    "elbow": (11, 14),
    "wrist": (10, 15),
    "hip": (2, 3),
    "knee": (1, 4),
    "ankle": (0, 5),
}
COUNTED: tuple[int, ...] = tuple(sorted(joint for group in GROUPS.values() for joint in group))


@dataclass(frozen=True)
class Annotated:
    """People of an image: joints in pixels, which are annotated, and the diagonal of each head's box."""

    joints: Float[np.ndarray, "n 16 2"]
    known: Bool[np.ndarray, "n 16"]
    head_px: Float[np.ndarray, "n"]


@dataclass(frozen=True)
class Predicted:
    """People found in an image: joints in pixels, which were found, and the score of each joint."""

    joints: Float[np.ndarray, "m 16 2"]
    found: Bool[np.ndarray, "m 16"]
    scores: Float[np.ndarray, "m 16"]


@dataclass(frozen=True)
class Judged:
    """Predictions of one joint: scores, which are hits, and who each was kept for; -1 for those kept for nobody."""

    scores: Float[np.ndarray, "k"]
    right: Bool[np.ndarray, "k"]
    person: Int[np.ndarray, "k"]


@dataclass(frozen=True)
class Precision:
    """Average precision in per cent, NaN where no joint is annotated.

    Attributes:
        joints: of each of the 16.
        groups: of MPII's seven columns.
        mean: mAP, over the 14 joints of these columns.
    """

    joints: Float[np.ndarray, "16"]
    groups: dict[str, float]
    mean: float


def mpii_ap(images: Sequence[tuple[Annotated, Predicted]], near: float = NEAR) -> Precision:
    """Average precision over images.

    Raises:
        MetricsError: people whose heads have no size.
    """
    judged = [judge(annotated, predicted, near) for annotated, predicted in images]
    total = sum((annotated.known.sum(axis=0) for annotated, _ in images), np.zeros(JOINTS, int))
    found = np.array([_of_joint(judged, joint, int(total[joint])) for joint in range(JOINTS)])
    groups = {name: _mean(found[list(joints)]) for name, joints in GROUPS.items()}
    return Precision(found, groups, _mean(found[list(COUNTED)]))


def matches(annotated: Annotated, predicted: Predicted, near: float = NEAR) -> Bool[np.ndarray, "m n 16"]:
    """Which joint of each prediction is near that of each annotated person."""
    both = predicted.found[:, None] & annotated.known[None]
    gap = np.linalg.norm(predicted.joints[:, None] - annotated.joints[None], axis=-1)
    return both & (gap <= near * _OF_DIAGONAL * annotated.head_px[None, :, None])


def assigned(annotated: Annotated, hits: Bool[np.ndarray, "m n 16"]) -> list[int | None]:
    """The annotated person that each prediction is kept for; None for the others. Of equals, the earlier one."""
    shares = hits.sum(axis=2) / np.maximum(annotated.known.sum(axis=1), 1)[None]
    kept: list[int | None] = [None] * len(shares)
    if not shares.size:
        return kept
    wanted = shares.argmax(axis=1)
    for person in range(shares.shape[1]):
        rivals = np.flatnonzero((wanted == person) & (shares[:, person] > 0))
        if len(rivals):
            kept[int(rivals[shares[rivals, person].argmax()])] = person
    return kept


def judge(annotated: Annotated, predicted: Predicted, near: float = NEAR) -> list[Judged]:
    """An image's predictions by joint, 16 entries.

    Raises:
        MetricsError: people whose heads have no size.
    """
    if not (annotated.head_px > 0).all():
        raise MetricsError(f"head sizes {annotated.head_px.tolist()}: expected the diagonal of a box for everybody")
    hits = matches(annotated, predicted, near)
    kept = assigned(annotated, hits)
    found = []
    for joint in range(JOINTS):
        scores, right, people = [], [], []
        for number, person in enumerate(kept):
            # A joint that is not annotated in the person who was found says nothing for or against the prediction.
            if not predicted.found[number, joint] or (person is not None and not annotated.known[person, joint]):
                continue
            scores.append(predicted.scores[number, joint])
            right.append(person is not None and hits[number, person, joint])
            people.append(-1 if person is None else person)
        found.append(Judged(np.array(scores, float), np.array(right, bool), np.array(people, int)))
    return found


def _of_joint(judged: Sequence[Sequence[Judged]], joint: int, total: int) -> float:
    if total == 0:
        return float("nan")
    scores = np.concatenate([np.zeros(0), *(image[joint].scores for image in judged)])
    right = np.concatenate([np.zeros(0, bool), *(image[joint].right for image in judged)])
    return 100 * area_under_envelope(scores, right, total)


def area_under_envelope(scores: Float[np.ndarray, "k"], right: Bool[np.ndarray, "k"], total: int) -> float:
    """Area under precision over recall, made monotone; predictions of one score are counted together, in no order."""
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(right[order]), scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, int)
    recall, precision = hits[last] / total, hits[last] / (last + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")

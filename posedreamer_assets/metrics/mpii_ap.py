"""Average precision of joints of many people, as MPII's multi-person benchmark defines it (Pishchulin et al. 2016).

In each image a predicted joint matches an annotated one where they are at most half a head apart; the head's size is 0.6
times the diagonal of its box. A prediction goes to the annotated person of whom it matches the largest share of joints, and
an annotated person keeps the best prediction that went to it. Joints of predictions that were kept count as hits or misses,
those of all others as misses, ranked by score over all images; a joint's average precision is the area under the monotone
envelope of precision over recall. Only annotated joints count for people who were found.

The benchmark judges groups of people: a group is looked for at the mean size of its people, and who is found elsewhere in the
image is left out. An image without groups is judged as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from posedreamer_assets.errors import MetricsError

JOINTS = 16
NEAR = 0.5  # of the head's size
_OF_DIAGONAL = 0.6
_AROUND = 0.25  # of how long a group's people are, on average: so far from the box of their middles one belongs to it
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
    """People of an image.

    Attributes:
        joints: pixels.
        known: which are annotated.
        head_px: diagonal of each head's box.
        group: number of the group that each is judged with; None where the image is judged as a whole.
    """

    joints: Float[np.ndarray, "n 16 2"]
    known: Bool[np.ndarray, "n 16"]
    head_px: Float[np.ndarray, "n"]
    group: Int[np.ndarray, "n"] | None = None


@dataclass(frozen=True)
class Predicted:
    """People found in an image.

    Attributes:
        joints: pixels.
        found: which were found.
        scores: of each joint.
        group: number of the group that each was looked for with; None where the image was looked at as a whole.
    """

    joints: Float[np.ndarray, "m 16 2"]
    found: Bool[np.ndarray, "m 16"]
    scores: Float[np.ndarray, "m 16"]
    group: Int[np.ndarray, "m"] | None = None

    def __len__(self) -> int:
        return len(self.joints)

    def take(self, kept: Bool[np.ndarray, "m"]) -> "Predicted":
        """Some of the people."""
        group = None if self.group is None else self.group[kept]
        return Predicted(self.joints[kept], self.found[kept], self.scores[kept], group)


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


def belong_to(found: Predicted, middles: Float[np.ndarray, "n 2"], size_px: float) -> Bool[np.ndarray, "m"]:
    """Who of the people found is near enough to a group to be judged with it, by the mean of the joints that were found.

    Args:
        found: people, each with a joint.
        middles: of the group's people, pixels.
        size_px: how long these are, on average.
    """
    of = (found.joints * found.found[..., None]).sum(axis=1) / np.maximum(found.found.sum(axis=1), 1)[:, None]
    around = _AROUND * size_px
    return ((of >= middles.min(axis=0) - around) & (of <= middles.max(axis=0) + around)).all(axis=1)


def judge(annotated: Annotated, predicted: Predicted, near: float = NEAR) -> list[Judged]:
    """An image's predictions by joint, 16 entries; those of each group against the people of that group alone.

    Raises:
        MetricsError: people whose heads have no size, or groups on one side alone.
    """
    if annotated.group is None and predicted.group is None:
        return _judge_together(annotated, predicted, near)
    if annotated.group is None or predicted.group is None:
        raise MetricsError(
            "groups of people are judged against predictions for groups, and whole images against others"
        )
    parts = []
    for number in np.unique(annotated.group):
        own = np.flatnonzero(annotated.group == number)
        of = Annotated(annotated.joints[own], annotated.known[own], annotated.head_px[own])
        judged = _judge_together(of, predicted.take(predicted.group == number), near)
        # -1, nobody, is the last
        parts.append([replace(one, person=np.append(own, -1)[one.person]) for one in judged])
    nobody = Judged(np.zeros(0), np.zeros(0, bool), np.zeros(0, int))
    return [_joined([nobody, *(part[joint] for part in parts)]) for joint in range(JOINTS)]


def _joined(parts: Sequence[Judged]) -> Judged:
    return Judged(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "right", "person")))


def _judge_together(annotated: Annotated, predicted: Predicted, near: float) -> list[Judged]:
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

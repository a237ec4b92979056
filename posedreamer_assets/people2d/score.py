"""How well a student finds the people of labelled pictures: MPII's average precision, with an interval over pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.metrics.mpii_ap import Annotated, Precision, Predicted, mpii_ap
from posedreamer_assets.people2d.network import PoseNet
from posedreamer_assets.people2d.predict import find_people, scales_of
from posedreamer_assets.people2d.samples import Picture, person_sizes
from posedreamer_assets.progress import track

_RESAMPLES = 200


@dataclass(frozen=True)
class Scored:
    """Average precision of a student, with the percentile interval of 95 % of its mean over resampled pictures."""

    precision: Precision
    low: float
    high: float
    people: int


def score_pictures(
    network: PoseNet, pictures: Sequence[Picture], cfg: Pose2dConfig
) -> list[tuple[Annotated, Predicted]]:
    """Who is labelled in each picture and who is found, for `metrics.mpii_ap`.

    The student is told the mean size of a picture's people. People whose head has no size are left out.
    """
    images = []
    for picture in track(pictures):
        found = find_people(network, picture.image, cfg, scales_of(person_sizes(picture), cfg))
        kept = picture.head_px > 0
        images.append((Annotated(picture.joints[kept], picture.known[kept], picture.head_px[kept]), found))
    return images


def with_interval(images: Sequence[tuple[Annotated, Predicted]], seed: int = 0) -> Scored:
    """Precision and its interval. Whole pictures are drawn, because people nobody labelled belong to no person."""
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(images), size=len(images)) for _ in range(_RESAMPLES)]
    means = [mpii_ap([images[k] for k in draw]).mean for draw in draws]
    low, high = np.quantile(means, [0.025, 0.975])
    return Scored(mpii_ap(images), float(low), float(high), sum(len(annotated.head_px) for annotated, _ in images))

"""Sections of a profile about detectors, the filter, rounds of hard poses and quality, see `profile.py`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DetectorConfig:
    """One keypoint detector. `kind`: vitpose, heatmap, or onnx (MoveNet, RTMPose and YOLO-pose files)."""

    kind: str = "heatmap"
    path: str = "shipped:ranker"  # a folder of weights or an ONNX file; `shipped:NAME` comes with the package
    batch_size: int = 32
    on_photographs: bool = (
        False  # let a shipped one, which has seen renderings alone, judge what a large generator paints
    )


@dataclass(frozen=True)
class CounterConfig:
    """Counts the people of an image. `path`: the shipped one, a folder of weights, or an ONNX file of a detector of several
    people (MoveNet multi-pose, YOLO-pose). `threshold`: the least score of a person; null is the weights' own."""

    path: str = "shipped:counter"
    threshold: float | None = None
    batch_size: int = 32


@dataclass(frozen=True)
class CurationConfig:
    """Thresholds of the filter; a sample is kept when it passes all of them."""

    min_oks: float = 0.8
    relative_oks: float = 0.0  # if above 0: share of the judge's OKS on a render that is asked for where there is one
    min_render_oks: float = 0.0  # of poses: the judge cannot read those whose render it reads worse than that
    per_family_quota: float = 0.0  # share of a family's images in a batch that is kept at least, the best by OKS
    max_people: int = 1
    max_head_error_deg: float = 45.0


@dataclass(frozen=True)
class RoundConfig:
    """A round of hard poses: so many batches of so many poses."""

    batches: int = 1
    size: int = 96


@dataclass(frozen=True)
class CurriculumConfig:
    """Difficulty models and the rounds of hard poses, `hard`, `hard2`, ...; each learns from all rounds before it."""

    rounds: tuple[RoundConfig, ...] = (RoundConfig(),)
    pool_size: int = 3072
    min_distance: float = 0.15  # smallest pose distance between two hard samples, in the difficulty model's features
    boost_rounds: int = 200
    learning_rate: float = 0.05
    folds: int = 5


@dataclass(frozen=True)
class QualityConfig:
    """`reference`: a folder of real images, null means the held-out rendered scenes."""

    reference: str | None = None
    bootstrap: int = 200
    neighbours: int = 3
    max_images: int = 4096

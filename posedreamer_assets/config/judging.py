"""Sections of a profile about detectors, the filter, rounds of hard poses and quality, see `profile.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DetectorConfig:
    """One keypoint detector. `kind`: vitpose, heatmap, or onnx (MoveNet, RTMPose and YOLO-pose files).

    `path`: a folder of weights, an ONNX file, or, of a ViTPose, its name on the model hub; `shipped:NAME` comes with the
    package. `revision`: commit or tag of such a name; null is the newest, which may be another tomorrow.
    `crop`: what it is shown: `whole`, the image fitted into its input, or `label`, the labelled person's box with a margin of a
    quarter, which top-down networks (ViTPose, RTMPose) learnt from.
    `providers`: of onnxruntime, by preference, such as CUDAExecutionProvider; empty is CUDA where there is one, else the CPU.
    """

    kind: str = "heatmap"
    path: str = "shipped:ranker"
    revision: str | None = None
    crop: Literal["whole", "label"] = "whole"
    batch_size: int = 32
    providers: tuple[str, ...] = ()
    on_photographs: bool = (
        False  # let a shipped one, which has seen renderings alone, judge what a large generator paints
    )


@dataclass(frozen=True)
class CounterConfig:
    """Counts the people of an image. `kind`: `centre`, the shipped one or a folder of such weights; `onnx`, a file of a
    detector of several people (MoveNet multi-pose, YOLO-pose); `detr`, an object detector of transformers (RT-DETR and others
    of its kind) in a folder or on the model hub. `auto` is onnx for a path that ends so, else centre.

    `revision`: commit or tag of a name on the hub; null is the newest. `threshold`: the least score of a person; null is the
    weights' own, of `onnx` 0.3 and of `detr` 0.5. `providers`: of onnxruntime, see `DetectorConfig`.
    """

    path: str = "shipped:counter"
    threshold: float | None = None
    batch_size: int = 32
    kind: Literal["auto", "centre", "onnx", "detr"] = "auto"
    revision: str | None = None
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmenterConfig:
    """Draws silhouettes of people: the shipped one, which has seen renderings alone, or one of such weights; a segmenter of
    transformers with a class `person` (Mask2Former, MaskFormer, SegFormer and others), in a folder or on the model hub; or an
    ONNX file that scores each pixel. `revision`: commit or tag of a name on the hub; null is the newest.
    """

    path: str = "shipped:segmenter"
    revision: str | None = None
    batch_size: int = 8


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
class NetworkConfig:
    """A network whose features images are compared by. `kind`: dinov2 or clip, of transformers; `path`: a folder, or a name on
    the model hub. `revision`: commit or tag of such a name; null is the newest, which may be another tomorrow."""

    kind: Literal["dinov2", "clip"] = "dinov2"
    path: str = "facebook/dinov2-base"
    revision: str | None = None


@dataclass(frozen=True)
class QualityConfig:
    """`reference`: a folder of real images, null means the held-out rendered scenes. `networks`: compared by beside Inception."""

    networks: tuple[NetworkConfig, ...] = ()
    reference: str | None = None
    bootstrap: int = 200
    neighbours: int = 3
    max_images: int = 4096

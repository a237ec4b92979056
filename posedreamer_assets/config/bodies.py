"""Sections of a profile about bodies, poses, cameras and rendered scenes, see `profile.py`."""

from dataclasses import dataclass
from typing import Literal

YOUNGEST_YEARS = 6.0
"""Of bodies: the shipped one was made of adults, and its smaller ones are adults' proportions."""


@dataclass(frozen=True)
class BodyConfig:
    """`model_path`: an SMPL-X npz; null means the shipped free body."""

    model_path: str | None = None


@dataclass(frozen=True)
class PosesConfig:
    """How many poses are made and from what."""

    source: str = "procedural"  # `procedural`, or a folder (or s3:// URI) of BVH / AMASS npz / fit npz files
    files_per_batch: int = 16  # pose files that one batch draws its frames from, at most
    families: tuple[str, ...] = ()  # procedural families; empty means all
    batch_size: int = 96
    batches: int = 5
    align_batches: int = 5
    up_axis: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"  # of pose files; auto decides from each file
    frame_stride_s: float = 0.5  # smallest time between two frames taken from one mocap clip
    val_share: float = 0.05  # of clips, and of procedural poses, whose images are of split val; all others are train
    ages: tuple[float, float] = (18.0, 65.0)  # years, youngest (from 6) and oldest; of bodies whose source has no shape


@dataclass(frozen=True)
class CameraConfig:
    """Ranges that cameras are sampled from; angles in degrees, lengths in multiples of the image height."""

    focal_min: float = 1.2
    focal_max: float = 2.2
    pitch_min_deg: float = 0.0
    pitch_max_deg: float = 45.0
    roll_std_deg: float = 4.0
    fill_min: float = 0.62  # share of the frame that the body's larger side fills
    fill_max: float = 0.9
    truncated_share: float = 0.1  # share of samples framed with a limb or more cut off on purpose


@dataclass(frozen=True)
class ScenesConfig:
    """Rendered scenes; `backgrounds`: a folder of images, null means procedural ones.

    `reference_batches`: so many base batches are rendered, as reference of the quality report; null is all of base and
    alignment. Fewer than all leave `render_oks` empty, since most poses have no render then.
    """

    backgrounds: str | None = None
    reference_batches: int | None = None
    reference_share: float = 0.5  # share of scenes held out as FID reference
    supersample: int = 2

"""The files that the student starts from: whether they are named, and there. Nothing is opened, and PyTorch not imported."""

from pathlib import Path

from posedreamer_assets.config import Pose2dConfig, local_path
from posedreamer_assets.errors import StudentError

FILE = "model.safetensors"  # in the folder `pose2d.baseline`


def require_start(cfg: Pose2dConfig) -> None:
    """Refuse a student without weights to start from.

    Raises:
        StudentError: none are named, or there is nothing where they are said to be.
    """
    if cfg.baseline is None and cfg.vgg19 is None:
        raise StudentError(
            "pose2d: no weights to start from: --set pose2d.baseline=FOLDER names those of the whole network, "
            "--set pose2d.vgg19=FILE those of VGG19 alone (safetensors; see docs/pose2d.md)"
        )
    if cfg.baseline is not None and not (local_path(cfg.baseline) / FILE).is_file():
        raise StudentError(f"pose2d.baseline: no {FILE} in {cfg.baseline}")
    if cfg.vgg19 is not None and not Path(cfg.vgg19).expanduser().is_file():
        raise StudentError(f"pose2d.vgg19: nothing at {cfg.vgg19}")

"""The weights that every arm starts from."""

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from posedreamer_assets.config import Pose2dConfig, Profile, local_path
from posedreamer_assets.digests import digest
from posedreamer_assets.pipeline.stage import Checkpoint, Inputs, Made, Stage

if TYPE_CHECKING:
    from torch import Tensor

KEY = "pose2d_baseline"
FILE = "model.safetensors"


def make(inputs: Inputs) -> Made:
    """Copy the shipped or the user's weights, which must fit the network that the profile describes; or start from VGG19's.

    Raises:
        StudentError: they are missing, or are of another network.
    """
    from safetensors.torch import save_file

    from posedreamer_assets.people2d.network import frozen_digest, load_baseline

    cfg = inputs.profile.pose2d
    weights = load_baseline(cfg)
    if cfg.baseline is None:
        save_file({name: value.contiguous() for name, value in weights.items()}, inputs.place / FILE)
    else:
        shutil.copyfile(local_path(cfg.baseline) / FILE, inputs.place / FILE)
    facts = {
        "digest": digest((inputs.place / FILE).read_bytes()),
        "frozen_digest": frozen_digest(weights, cfg),
        "numbers": sum(value.numel() for value in weights.values()),
    }
    return Made(figures=facts)


def start_of(checkpoint: Checkpoint, cfg: Pose2dConfig) -> "dict[str, Tensor]":
    """The weights of a baseline, full precision."""
    from posedreamer_assets.people2d.network import load_baseline

    return load_baseline(replace(cfg, baseline=str(checkpoint.path)))


def under(stage: Stage, profile: Profile) -> Stage:
    """It depends on VGG19's file where no whole network is named."""
    return stage if profile.pose2d.baseline is not None else replace(stage, files=(*stage.files, "vgg19"))


STAGE = Stage(
    KEY,
    "One set of weights that every arm starts from: the shipped ones or the user's (`pose2d.baseline`), tried whether they fit "
    "the network that the profile describes; or VGG19's layers (`pose2d.vgg19`) and others that are drawn.",
    make,
    "1",
    settings=("pose2d.layout", "pose2d.width", "pose2d.stages", "pose2d.frozen"),
    files=("pose2d",),
    seeded=False,
    under=under,
    ui_group="arms",
    kinds=frozenset(("torch",)),
    starts="import",
)

"""The weights that every arm starts from."""

import json
import shutil
from pathlib import Path

from posedreamer_assets.pipeline.stage import Checkpoint, Inputs, Made, Stage

KEY = "pose2d_baseline"
FILE = "model.safetensors"


def make(inputs: Inputs) -> Made:
    """Copy the shipped or the user's weights and try whether they fit the network."""
    from posedreamer_assets.config import local_path
    from posedreamer_assets.people2d.weights import weights_file

    source = weights_file(local_path(inputs.profile.pose2d.baseline))
    shutil.copyfile(source, inputs.place / FILE)
    facts = {}
    (inputs.place / "baseline.json").write_text(json.dumps(facts, indent=2, sort_keys=True))
    return Made(figures=facts)


def file_of(checkpoint: Checkpoint) -> Path:
    """The weights of a baseline."""
    return checkpoint.path / FILE


STAGE = Stage(
    KEY,
    "One set of weights that every arm starts from: the shipped ones or the user's (`pose2d.baseline`), tried whether they fit "
    "the network that the profile describes.",
    make,
    "1",
    settings=("pose2d",),
    files=("pose2d",),
    seeded=False,
    ui_group="arms",
    kinds=frozenset(("torch",)),
    starts="import",
)

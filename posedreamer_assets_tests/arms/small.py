"""The second half of the study, tiny: a few steps of seven arms from random weights, on scenes and stand-ins of 128 pixels."""

from collections.abc import Sequence
from pathlib import Path

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.studies import arm_stages, scene_stages
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.runtime.small import make_one
from posedreamer_assets_tests.scenes.conftest import SMALL, STUDY

ARMS = ("real", "ds", "real-ds", "real-dm-masks", "real-style", "uniform-c", "teacher-c")
DATA = ("body_model", *(stage.key for stage in scene_stages((), ())))
TRAINED = tuple(stage.key for stage in arm_stages((), ()))
SETTINGS = {
    **SMALL,
    f"{STUDY}.arms": list(ARMS),
    f"{STUDY}.seeds": 2,
    f"{STUDY}.bootstrap": 40,
    "crowds.batch_size": 6,
    "photos.batch_size": 8,
    "teacher.groups": 2,
    "teacher.min_samples": 1,
    "teacher.window": 1,
    "teacher.history": 1,
    "pose2d.width": 8,
    "pose2d.size": 64,
    "pose2d.batch": 4,
}


def save_baseline(folder: Path) -> Path:
    """Random weights of the network that SETTINGS describe."""
    import torch
    from safetensors.torch import save_file

    from posedreamer_assets.people2d.network import PoseNet

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    weights = PoseNet(load_profile("pocket", dict(SETTINGS)).pose2d).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    return folder


def small_study(place: Path, **settings: object) -> Profile:
    """The profile of the tiny study, with its own baseline."""
    folder = place / "baseline"
    baseline = folder if folder.is_dir() else save_baseline(folder)
    return load_profile("pocket", {**SETTINGS, "pose2d.baseline": str(baseline), "pose2d.steps": 4, **settings})


def make_study(place: Path) -> tuple[LanceStore, Profile]:
    """All stages of the tiny study, checked."""
    store, profile = LanceStore(str(place / "storage")), small_study(place)
    make_stages(store, profile)
    return store, profile


def make_stages(
    store: LanceStore, profile: Profile, names: Sequence[str] = (*DATA, *TRAINED)
) -> list[tuple[str, str | None]]:
    """Make what is not up to date of these stages, with their checks; returns what was made."""
    made = []
    for name in names:
        stage = graph_of(profile)[name]
        for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
            if not Snapshot(profile, store).is_current(stage, key):
                make_one(store, profile, name, key)
                made.append((name, key))
    return made

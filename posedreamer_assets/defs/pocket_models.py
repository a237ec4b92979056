"""Training of the pocket models, launched by `posedreamer train-pocket` or from the UI; not part of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from posedreamer_assets.defs.resources import ProfileResource

if TYPE_CHECKING:
    from posedreamer_assets.pocket.recipe import PocketPlan


class PocketConfig(dg.Config):
    """How much to train, see `posedreamer_assets.pocket.recipe.PocketPlan`; an empty folder means `<home>/pocket`."""

    folder: str = ""
    scenes: int = 12_288
    generator_minutes: float = 300.0
    detector_minutes: float = 25.0
    threads: int = 2
    photos: int = 600
    pose2d_minutes: float = 40.0


_GROUP = "pocket_models"


@dg.asset(
    key=["pocket", "scenes"],
    kinds={"pyrender"},
    description="Two sets of rendered scenes with control maps, captions and keypoints, as npz shards.",
    group_name=_GROUP,
    code_version="1",
)
def pocket_scenes(config: PocketConfig, profile: ProfileResource) -> dg.MaterializeResult:
    from posedreamer_assets.pocket.recipe import render_scenes

    return dg.MaterializeResult(metadata=render_scenes(profile.get(), _plan(config, profile)))


@dg.asset(
    key=["pocket", "generator"],
    deps=[["pocket", "scenes"]],
    kinds={"diffusers", "torch"},
    description="One pocket generator: autoencoder, FLUX transformer and caption encoder, trained on the first set.",
    group_name=_GROUP,
    code_version="1",
)
def pocket_generator(config: PocketConfig, profile: ProfileResource) -> dg.MaterializeResult:
    from posedreamer_assets.pocket.recipe import train_generator

    figures = train_generator(_plan(config, profile))
    return dg.MaterializeResult(metadata={name: dg.MetadataValue.json(value) for name, value in figures.items()})


@dg.asset(
    key=["pocket", "detectors"],
    deps=[["pocket", "scenes"]],
    kinds={"transformers", "torch"},
    description="Ranking detector (first set), judging detector and person counter (second).",
    group_name=_GROUP,
    code_version="1",
)
def pocket_detectors(config: PocketConfig, profile: ProfileResource) -> dg.MaterializeResult:
    from posedreamer_assets.pocket.recipe import train_detectors

    figures = train_detectors(_plan(config, profile))
    return dg.MaterializeResult(metadata={name: dg.MetadataValue.json(value) for name, value in figures.items()})


@dg.asset(
    key=["pocket", "pose2d"],
    kinds={"pyrender", "torch"},
    description="Baseline of the 2D pose student, trained on rendered stand-ins for photographs.",
    group_name=_GROUP,
    code_version="1",
)
def pocket_pose2d(config: PocketConfig, profile: ProfileResource) -> dg.MaterializeResult:
    from posedreamer_assets.pocket.recipe import train_pose2d

    figures = train_pose2d(_plan(config, profile))
    return dg.MaterializeResult(metadata={name: dg.MetadataValue.json(value) for name, value in figures.items()})


def _plan(config: PocketConfig, profile: ProfileResource) -> "PocketPlan":
    from posedreamer_assets.pocket.recipe import PocketPlan

    folder = Path(config.folder) if config.folder else profile.place().path / "pocket"
    minutes = (config.generator_minutes, config.detector_minutes)
    return PocketPlan(folder, config.scenes, *minutes, config.threads, config.photos, config.pose2d_minutes)


POCKET_ASSETS = [pocket_scenes, pocket_generator, pocket_detectors, pocket_pose2d]

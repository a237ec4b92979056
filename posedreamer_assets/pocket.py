"""Training the pocket models: renders to shards, shards to a generator and three detectors.

Two sets of scenes are rendered. The generator and the ranking detector learn from the first, the judging detector and the
person counter from the second: ranker and judge share no data, and have other widths and augmentations.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posedreamer_assets.config import Profile
from posedreamer_assets.progress import advance

Part = Literal["scenes", "generator", "detectors"]
PARTS: tuple[Part, ...] = ("scenes", "generator", "detectors")
SHARD_SIZE = 512
FIRST, SECOND = "gen", "judge"  # sources of the two sets
DETECTORS: dict[str, dict[str, Any]] = {
    "judge": {"kind": "heatmap", "source": SECOND, "seed": 7, "width": 48, "augmentation": "judge"},
    "ranker": {"kind": "heatmap", "source": FIRST, "seed": 3, "width": 36},
    "counter": {"kind": "counter", "source": SECOND, "seed": 5},
}


@dataclass(frozen=True)
class PocketPlan:
    """How much is rendered and for how long is trained; training resumes where it stopped.

    Attributes:
        folder: holds `scenes/` and the trained folders `generator/`, `ranker/`, `judge/`, `counter/`.
        scenes: of each set.
        generator_minutes: transformer and caption encoder; the autoencoder takes a seventh of it before.
        detector_minutes: each of the three.
        threads: of torch.
    """

    folder: Path
    scenes: int = 12_288
    generator_minutes: float = 300.0
    detector_minutes: float = 25.0
    threads: int = 2


def render_scenes(profile: Profile, plan: PocketPlan) -> dict[str, Any]:
    """Render the shards that are missing."""
    from posedreamer_assets.render.training_set import build_shards, shard_path

    folder = plan.folder / "scenes"
    shards = -(-plan.scenes // SHARD_SIZE)
    size = min(SHARD_SIZE, plan.scenes)
    for source in (FIRST, SECOND):
        for number in range(shards):
            build_shards(folder / source, profile, source, range(number, number + 1), size)
            advance(size)
    paths = [shard_path(folder / source, source, n) for source in (FIRST, SECOND) for n in range(shards)]
    return {"shards": len(paths), "scenes": len(paths) * size, "bytes": sum(p.stat().st_size for p in paths)}


def train_generator(plan: PocketPlan) -> dict[str, Any]:
    """Train autoencoder, transformer and caption encoder; returns their held-out figures."""
    from posedreamer_assets.diffusion.train import FluxTraining, VaeTraining, train_flux, train_vae

    shards, out = plan.folder / "scenes" / FIRST, plan.folder / "generator"
    figures: dict[str, Any] = {}
    if not (out / "vae").is_dir():
        figures["vae"] = train_vae(shards, out, VaeTraining(minutes=plan.generator_minutes / 7, threads=plan.threads))
    advance(1)
    training = FluxTraining(minutes=plan.generator_minutes, threads=plan.threads)
    figures["flux"] = train_flux(shards, out, training, resume=True)
    advance(1)
    return figures


def train_detectors(plan: PocketPlan) -> dict[str, Any]:
    """Train ranker, judge and counter; returns their held-out figures."""
    from posedreamer_assets.scoring.train import TrainConfig, train

    figures = {}
    for name, recipe in DETECTORS.items():
        options = dict(recipe)
        config = TrainConfig(
            shards=str(plan.folder / "scenes" / options.pop("source")),
            out=str(plan.folder / name),
            minutes=plan.detector_minutes,
            threads=plan.threads,
            **options,
        )
        figures[name] = train(config, resume=(plan.folder / name).is_dir())
        advance(1)
    return figures

"""Training the pocket models: renders to shards, shards to a generator, four detectors and a 2D pose baseline.

Two sets of scenes are rendered. The generator and the judging detector learn from the first, the ranking detector, the
person counter and the segmenter from the second: ranker and judge share no rendered scene, and their augmentations
differ. The baseline learns from stand-ins for photographs of its own.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.progress import advance

Part = Literal["scenes", "generator", "detectors", "pose2d"]
PARTS: tuple[Part, ...] = ("scenes", "generator", "detectors", "pose2d")
BASELINE = "pose2d"
SHARD_SIZE = 512
FIRST, SECOND = "first", "second"  # sources of the two sets
GENERATOR_PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
DETECTORS: dict[str, dict[str, Any]] = {
    "judge": {"kind": "heatmap", "source": FIRST, "seed": 3},
    "ranker": {"kind": "heatmap", "source": SECOND, "seed": 7, "augmentation": "strong"},
    "counter": {"kind": "counter", "source": SECOND, "seed": 5},
    "segmenter": {"kind": "silhouette", "source": SECOND, "seed": 11, "augmentation": "strong", "width": 24},
}
MODELS: dict[str, tuple[str, ...]] = {
    "scenes": (), "generator": ("generator",), "detectors": tuple(DETECTORS), "pose2d": (BASELINE,)
}  # fmt: skip


@dataclass(frozen=True)
class PocketPlan:
    """How much is rendered and for how long is trained; training resumes where it stopped.

    Attributes:
        folder: holds `scenes/`, `photos/` and the trained folders `generator/`, `ranker/`, `judge/`, `counter/`,
            `segmenter/`, `pose2d/`.
        scenes: of each set.
        generator_minutes: transformer and caption encoder; the autoencoder takes a seventh of it before, the decoder a tenth
            after.
        detector_minutes: each of the four.
        threads: of torch.
        photos: stand-ins that the 2D pose baseline learns from; a quarter as many measure it.
        pose2d_minutes: the baseline of the 2D pose student.
    """

    folder: Path
    scenes: int = 12_288
    generator_minutes: float = 300.0
    detector_minutes: float = 25.0
    threads: int = 2
    photos: int = 600
    pose2d_minutes: float = 40.0


def render_scenes(profile: Profile, plan: PocketPlan) -> dict[str, Any]:
    """Render the shards that are missing."""
    from posedreamer_assets.pocket.scenes import build_shards, shard_path

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
    """Train autoencoder, transformer and caption encoder, then a better decoder; returns their held-out figures."""
    from posedreamer_assets.pocket.train_decoder import DecoderTraining, train_decoder
    from posedreamer_assets.pocket.train_flow import FluxTraining, train_flux
    from posedreamer_assets.pocket.train_vae import VaeTraining, train_vae

    shards, out = plan.folder / "scenes" / FIRST, plan.folder / "generator"
    figures: dict[str, Any] = {}
    if not (out / "vae").is_dir():
        figures["vae"] = train_vae(shards, out, VaeTraining(minutes=plan.generator_minutes / 7, threads=plan.threads))
    advance(1)
    training = FluxTraining(minutes=plan.generator_minutes, threads=plan.threads)
    figures["flux"] = train_flux(shards, out, training, resume=True)
    log = out / "training" / "decoder.jsonl"
    if not log.exists() or "end" not in _last_events(log):
        decoder = DecoderTraining(minutes=plan.generator_minutes / 10, threads=plan.threads)
        figures["decoder"] = train_decoder(shards, out, decoder)
    advance(1)
    return figures


def train_detectors(plan: PocketPlan) -> dict[str, Any]:
    """Train ranker, judge, counter and segmenter; returns their held-out figures."""
    from posedreamer_assets.pocket.train_detectors import TrainConfig, train

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


def train_pose2d(plan: PocketPlan) -> dict[str, Any]:
    """Render stand-ins for photographs, train the 2D pose baseline on them; returns its figures on others."""
    from posedreamer_assets.pocket.train_pose2d import BaselineTraining, render_photos, train_baseline

    photos = plan.folder / "photos"
    render_photos(photos, plan.photos)
    advance(1)
    training = BaselineTraining(minutes=plan.pose2d_minutes, threads=plan.threads, photos=plan.photos)
    figures = train_baseline(photos, plan.folder / BASELINE, training)
    advance(1)
    return {BASELINE: figures}


def ship(trained: Path, target: Path, parts: Sequence[str] = PARTS) -> dict[str, float]:
    """Copy what inference needs into `target`, weights in half precision, with a model card; returns megabytes by model.

    Args:
        trained: folder of a plan.
        target: folder of the shipped models.
        parts: whose models.

    Raises:
        ConfigError: a model that has not been trained.
    """
    sizes = {}
    for name in (model for part in parts for model in MODELS[part]):
        source = trained / name
        if not source.is_dir():
            raise ConfigError(f"{source} is missing: train it first")
        if name == "generator":
            _ship_generator(source, target / name)
        elif name == BASELINE:
            _ship_files(source, target / name, ("model.safetensors", "README.md"))
        else:
            _ship_files(source, target / name, ("model.safetensors", "detector.json", "README.md"))
        sizes[name] = round(sum(f.stat().st_size for f in (target / name).rglob("*") if f.is_file()) / 1e6, 2)
    return sizes


def _ship_generator(source: Path, target: Path) -> None:
    for part in GENERATOR_PARTS:
        names = [f.name for f in sorted((source / part).iterdir())]
        _ship_files(source / part, target / part, names)
    (target / "README.md").write_text(_generator_card(source))


def _ship_files(source: Path, target: Path, names: Sequence[str]) -> None:
    from safetensors.torch import load_file, save_file

    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith(".safetensors"):
            weights = {k: v.half() if v.is_floating_point() else v for k, v in load_file(source / name).items()}
            save_file(weights, target / name, metadata={"format": "pt"})
        else:
            shutil.copyfile(source / name, target / name)


def _generator_card(source: Path) -> str:
    logs = {name: _last_events(source / "training" / f"{name}.jsonl") for name in ("vae", "flux", "decoder")}
    vae, flux, decoder = logs["vae"], logs["flux"], logs["decoder"]["end"]
    renders, guesses = (
        f"{decoder[f'psnr_{kind}_db_before']:.1f}, {decoder[f'psnr_{kind}_db']:.1f}" for kind in ("renders", "guesses")
    )
    psnr = f"{vae['end']['psnr_images_db']:.1f} / {vae['end']['psnr_controls_db']:.1f}"
    return f"""# Pocket generator

FLUX's own classes at a small size: `FluxTransformer2DModel`, `AutoencoderTiny`, a T5 encoder of two layers over a
vocabulary of phrases. 128 x 128 pixels, conditioned on a mesh-to-RGB control map and a caption of this project's grammar.
Trained from random weights on renders of the free body alone; it paints those, not photographs.

| | |
|---|---|
| training rows | {flux["start"]["rows"]} |
| parameters of transformer and caption encoder | {flux["start"]["parameters"]:,} |
| steps (batch 16) | {flux["end"]["steps"]:.0f} |
| flow-matching loss on held-out rows | {flux["end"]["held_out_loss"]:.4f} |
| autoencoder: PSNR of held-out images / control maps, dB | {psnr} |
| its decoder, trained again: PSNR of held-out images before, after, dB | {renders} |
| of the same as the transformer guesses them through noise | {guesses} |

Held out: the last 32nd of every shard, from all models; autoencoder and transformer never saw it. Weights are averaged over steps
and stored in half precision.

Retrain: `posedreamer train-pocket --part scenes --part generator`

Licence: Apache-2.0, as the project; the training images show the free body, whose data are CC0.
"""


def _last_events(path: Path) -> dict[str, dict[str, Any]]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return {entry["event"]: entry for entry in entries if "event" in entry}

"""Train the baseline of the 2D pose student, from which every arm of the study goes on.

`python -m posedreamer_assets.pocket.train_pose2d --photos FOLDER --out FOLDER`

It learns from stand-ins for photographs alone and is measured on others. Bounded by minutes of the processor, resumable,
weights averaged. `--out` gets `model.safetensors` (half precision), `README.md` (the model card), `training.jsonl`.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from posedreamer_assets.body.model import load_body
from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.metrics.mpii_ap import GROUPS
from posedreamer_assets.people2d.crops import draw_crops
from posedreamer_assets.people2d.learn import crop_losses
from posedreamer_assets.people2d.network import PoseNet
from posedreamer_assets.people2d.samples import Picture
from posedreamer_assets.people2d.score import Scored, score_pictures, with_interval
from posedreamer_assets.pocket.stand_ins import TEST, TRAIN, build_photo_shard, photo_shard, read_photo_shard, source_of
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.loop import Budget, Duty, Progress, descend, processor_seconds, run_loop, set_rates
from posedreamer_assets.training.resume import read_state, write_state
from posedreamer_assets.training.schedule import rate_factor

PROGRAM = "python -m posedreamer_assets.pocket.train_pose2d"
PHOTOS = 600  # stand-ins to learn from
_SHARD = 50  # of them
_SIZE_PX = 288
_WARMUP_STEPS = 100
_FLOOR = 0.01  # of the peak rate, at the end of the cosine


@dataclass(frozen=True)
class BaselineTraining:
    """How the baseline is trained; `minutes` counts processor time over all resumes."""

    minutes: float = 40.0
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    average: float = 0.998  # of the weights, per step
    threads: int = 1
    seed: int = 11
    max_steps: int = 1_000_000_000
    checkpoint_minutes: float = 1.0
    evaluate_minutes: float = 10.0
    photos: int = PHOTOS


def shards_of(photos: int) -> dict[str, int]:
    """How many shards each split has: those to measure on are a quarter of those to learn from."""
    shards = -(-photos // _SHARD)
    return {TRAIN: shards, TEST: max(1, shards // 4)}


def render_photos(folder: Path, photos: int = PHOTOS) -> None:
    """Render the shards that are missing.

    Raises:
        RenderError: no OpenGL on this machine.
    """
    body = load_body()
    for split, count in shards_of(photos).items():
        for number in range(count):
            build_photo_shard(body, folder, split, number, min(_SHARD, photos), _SIZE_PX)


def read_photos(folder: Path, split: str, photos: int) -> list[Picture]:
    """The photographs of a split.

    Raises:
        ShardError: one is missing or damaged.
    """
    shards = range(shards_of(photos)[split])
    return [picture for k in shards for picture in read_photo_shard(photo_shard(folder, split, k))]


def train_baseline(
    photos: Path, out: Path, training: BaselineTraining, cfg: Pose2dConfig | None = None
) -> dict[str, float]:
    """Train, measure and save; goes on where it stopped. Returns figures of the test photographs.

    Raises:
        ShardError: missing or damaged shards.
        TrainingDiverged: a loss that is not finite.
    """
    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    run = _Run(photos, out, training, cfg or Pose2dConfig())
    run.restore()
    return run.go()


class _Run:
    """State of the training."""

    def __init__(self, photos: Path, out: Path, training: BaselineTraining, cfg: Pose2dConfig) -> None:
        self.out, self.training, self.cfg = out, training, cfg
        self.source = source_of(read_photos(photos, TRAIN, training.photos))
        self.test = read_photos(photos, TEST, training.photos)
        self.log = JsonLog(out / "training.jsonl")
        self.network = PoseNet(cfg)
        self.average = AveragedWeights(self.network, training.average)
        weights = self.network.parameters()
        self.optimizer = torch.optim.AdamW(weights, training.learning_rate, weight_decay=training.weight_decay)
        self.progress = Progress()
        self.figures: dict[str, float] = {}

    @property
    def _state(self) -> Path:
        return self.out / "resume.pt"

    def restore(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        if not self._state.exists():
            return
        saved = read_state(self._state)
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average.state = saved["average"]
        self.progress.step, self.progress.seconds = saved["step"], saved["seconds"]

    def checkpoint(self) -> None:
        """Write what `restore` needs."""
        step, seconds = self.progress.step, self.progress.seconds
        parts = {"network": self.network, "optimizer": self.optimizer, "average": self.average.state}
        write_state(self._state, **parts, step=step, seconds=seconds)

    def go(self) -> dict[str, float]:
        """Train until the budget is used up."""
        training = self.training
        duties = [
            Duty(self.checkpoint, minutes=training.checkpoint_minutes),
            Duty(self.measure_and_save, minutes=training.evaluate_minutes),
        ]
        budget = Budget(training.minutes, training.max_steps, processor_seconds)
        run_loop(self.one_step, budget, self.progress, duties, self.log)
        return self.figures

    def one_step(self, share: float) -> float:
        """Learn from crops that depend on (seed, step) alone."""
        step = self.progress.step
        set_rates([self.optimizer], rate_factor(share, 1.0, (step + 1) / _WARMUP_STEPS, _FLOOR))
        rng = np.random.default_rng([self.training.seed, step])
        crops = draw_crops(self.source, rng.integers(len(self.source), size=self.cfg.batch), self.cfg, rng)
        loss = crop_losses(self.network, crops, self.cfg).mean()
        value = descend(loss, self.network, [self.optimizer])
        self.average.update(step)
        return value

    def measure_and_save(self) -> None:
        """Average precision of the averaged weights on the test photographs, and everything that using them needs."""
        with self.average.in_place() as averaged:
            assert isinstance(averaged, PoseNet)
            scored = with_interval(score_pictures(averaged, self.test, self.cfg))
            weights = {k: v.half() if v.is_floating_point() else v for k, v in averaged.state_dict().items()}
            part = self.out / "model.safetensors.part"
            save_file({k: v.contiguous() for k, v in weights.items()}, part, metadata={"format": "pt"})
            part.replace(self.out / "model.safetensors")
        self.figures = figures_of(scored)
        self.log.write(step=self.progress.step, minutes=self.progress.seconds / 60, **self.figures)
        (self.out / "README.md").write_text(self.card())

    def card(self) -> str:
        """The model card."""
        cfg, training = self.cfg, self.training
        names = ("layout", "width", "stages", "size", "sigma_px", "limb_px", "person_share", "scale_min", "scale_max")
        settings = {name: getattr(cfg, name) for name in (*names, "rotate_deg", "batch", "foreground")}
        kept = ("minutes", "learning_rate", "weight_decay", "average", "seed")
        return _CARD.format(
            parameters=sum(weight.numel() for weight in self.network.parameters()) / 1e6,
            photos=len(self.source.pictures),
            people=len(self.source),
            test=len(self.test),
            steps=self.progress.step,
            batch=cfg.batch,
            minutes=self.progress.seconds / 60,
            budget=training.minutes,
            rows="\n".join(f"| {name} | {value:.1f} |" for name, value in self.figures.items()),
            settings=json.dumps(settings | {name: getattr(training, name) for name in kept}),
        )


def figures_of(scored: Scored) -> dict[str, float]:
    """Average precision in per cent by MPII's columns, mAP with its interval, and how many people it is about."""
    groups = {name: scored.precision.groups[name] for name in GROUPS}
    ends = {"map_low": scored.low, "map_high": scored.high}
    return groups | {"map": scored.precision.mean} | ends | {"people": float(scored.people)}


_CARD = """# Pocket 2D pose baseline

Part affinity fields of many people, {parameters:.2f} million parameters, half precision on disk. The arms of the study
`learning_to_train` go on from it. Trained from random weights on stand-ins for photographs alone, which are renders of the
free body: what it does on photographs was not measured.

| | |
|---|---|
| training stand-ins | {photos} with {people} people |
| test stand-ins, of another seed | {test} |
| steps of {batch} crops | {steps} |
| minutes of one processor core | {minutes:.1f} |

MPII's average precision on the test stand-ins, per cent; `map_low` to `map_high` is the 95 % interval over resampled images.
The student is told the mean size of an image's people, as MPII's protocol allows:

| figure | value |
|---|---|
{rows}

Settings: `{settings}`

Retrain: `posedreamer train-pocket --part pose2d --pose2d-minutes {budget:g}`

Licence: Apache-2.0, as the project; the training images show the free body, whose data are CC0.
"""


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Train the baseline of the 2D pose student.")
    parser.add_argument("--photos", type=Path, required=True, help="folder of stand-ins; missing ones are rendered")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, card and log")
    parser.add_argument("--minutes", type=float, default=BaselineTraining.minutes, help="of the processor")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=BaselineTraining.seed)
    args = parser.parse_args()
    render_photos(args.photos)
    train_baseline(args.photos, args.out, BaselineTraining(minutes=args.minutes, threads=args.threads, seed=args.seed))


if __name__ == "__main__":
    main()

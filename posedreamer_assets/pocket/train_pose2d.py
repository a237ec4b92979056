"""Train the baseline of the 2D pose student, from which every arm of the study goes on.

`python -m posedreamer_assets.pocket.train_pose2d --photos FOLDER --out FOLDER`

It learns from stand-ins for photographs alone and is measured on others. Bounded by minutes of the processor, resumable,
weights averaged. `--out` gets `model.safetensors` (half precision), `README.md` (the model card), `training.jsonl`.
"""

import argparse
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
from posedreamer_assets.people2d.score import Scored, score_pictures
from posedreamer_assets.pocket.stand_ins import TEST, TRAIN, build_photo_shard, photo_shard, read_photo_shard, source_of
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.loop import Budget, Duty, Progress, descend, processor_seconds, run_loop, set_rates
from posedreamer_assets.training.resume import read_state, write_state
from posedreamer_assets.training.schedule import rate_factor

PROGRAM = "python -m posedreamer_assets.pocket.train_pose2d"
SHARD = 50  # photographs
SIZE_PX = 288
TRAIN_SHARDS, TEST_SHARDS = 12, 3
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
    train_shards: int = TRAIN_SHARDS
    test_shards: int = TEST_SHARDS


def render_photos(folder: Path, train: int = TRAIN_SHARDS, test: int = TEST_SHARDS, photos: int = SHARD) -> int:
    """Render the shards that are missing; returns how many photographs there are.

    Raises:
        RenderError: no OpenGL on this machine.
    """
    body = load_body()
    for split, count in ((TRAIN, train), (TEST, test)):
        for number in range(count):
            build_photo_shard(body, folder, split, number, photos, SIZE_PX)
    return (train + test) * photos


def read_photos(folder: Path, split: str, shards: int) -> list[Picture]:
    """The photographs of a split's first shards.

    Raises:
        ShardError: one is missing or damaged.
    """
    return [picture for k in range(shards) for picture in read_photo_shard(photo_shard(folder, split, k))]


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
        self.source = source_of(read_photos(photos, TRAIN, training.train_shards))
        self.test = read_photos(photos, TEST, training.test_shards)
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

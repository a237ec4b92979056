"""Train the pocket detectors.

`python -m posedreamer_assets.pocket.train_detectors vitpose|heatmap|silhouette|counter --shards FOLDER --out FOLDER`

A run is bounded by minutes of training, can be stopped at any time and resumed, keeps an exponential average of the
weights, and writes into `--out`: `model.safetensors` (half precision), `detector.json`, `README.md` (the model card)
and `training.jsonl`. The learning rate follows the share of the minutes that is spent.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from posedreamer_assets.errors import DetectorError
from posedreamer_assets.pocket.detector_figures import evaluate_counter, evaluate_keypoints, evaluate_silhouettes
from posedreamer_assets.pocket.detector_learning import (
    AUGMENTATIONS,
    KINDS,
    detector_loss,
    draw_batch,
    forward_logits,
    make_network,
    make_optimizers,
)
from posedreamer_assets.pocket.shards import KeypointRows, read_keypoint_folder
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.loop import Budget, Duty, Progress, descend, processor_seconds, run_loop, set_rates
from posedreamer_assets.training.precision import NAMES, autocast, training_dtype
from posedreamer_assets.training.resume import read_state, write_state
from posedreamer_assets.training.schedule import rate_factor

FLOOR = 0.01  # of the peak rate, at the end of the cosine
WARMUP_STEPS = 100
PROGRAM = "python -m posedreamer_assets.pocket.train_detectors"


@dataclass(frozen=True)
class TrainConfig:
    """One training run; `minutes` counts processor time (on CUDA: time) spent training, over all resumes."""

    kind: str
    shards: str
    out: str
    pattern: str = "*.npz"
    minutes: float = 25.0
    batch_size: int = 16  # on one core, more and smaller steps learn faster than fewer and larger ones
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    average: float = 0.998  # of the weights, per step
    width: int = 48  # of heatmap and silhouette networks
    augmentation: str = "mild"  # or "strong"
    dtype: str = "auto"
    threads: int = 1
    seed: int = 0
    device: str = "cpu"
    max_steps: int = 1_000_000_000
    checkpoint_minutes: float = 2.0
    evaluate_minutes: float = 5.0


def train(config: TrainConfig, resume: bool = False) -> dict[str, float]:
    """Train, evaluate and save; returns the held-out figures of the last evaluation.

    Raises:
        ConfigError: an unknown dtype.
        ShardError: no shards, or damaged ones.
        DetectorError: an unknown kind, or a checkpoint of another kind.
        TrainingDiverged: a loss that is not finite.
    """
    training_dtype(config.dtype, config.device)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rows, held_out, names = read_keypoint_folder(Path(config.shards), config.pattern)
    run = DetectorRun(config, rows, held_out, names)
    if resume:
        run.restore()
    return run.go()


class DetectorRun:
    """State of one training run."""

    def __init__(self, config: TrainConfig, rows: KeypointRows, held_out: KeypointRows, names: list[str]) -> None:
        self.config, self.rows, self.held_out, self.names = config, rows, held_out, names
        self.out = Path(config.out)
        self.log = JsonLog(self.out / "training.jsonl")
        self.size = rows.images.shape[1]
        self.network = make_network(config.kind, self.size, config.width).to(config.device)
        self.average = AveragedWeights(self.network, config.average)
        self.optimizers = make_optimizers(self.network, config.learning_rate, config.weight_decay)
        self.progress = Progress()
        self.figures: dict[str, float] = {}

    @property
    def checkpoint_path(self) -> Path:
        """The state that a stopped run goes on from."""
        return self.out / "resume.pt"

    def restore(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        if not self.checkpoint_path.exists():
            return
        saved = read_state(self.checkpoint_path, self.config.device)
        if saved["kind"] != self.config.kind:
            raise DetectorError(f"{self.checkpoint_path} is of kind {saved['kind']!r}, not {self.config.kind!r}")
        self.network.load_state_dict(saved["network"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.average.state = saved["average"]
        self.progress.step, self.progress.seconds = saved["step"], saved["seconds"]

    def checkpoint(self) -> None:
        """Write what `restore` needs."""
        write_state(
            self.checkpoint_path,
            kind=self.config.kind,
            network=self.network,
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            average=self.average.state,
            step=self.progress.step,
            seconds=self.progress.seconds,
        )

    def go(self) -> dict[str, float]:
        """Train until the budget is used up."""
        config = self.config
        clock = processor_seconds if config.device == "cpu" else time.monotonic
        duties = [
            Duty(self.checkpoint, minutes=config.checkpoint_minutes),
            Duty(self.evaluate_and_save, minutes=config.evaluate_minutes),
        ]
        run_loop(self.one_step, Budget(config.minutes, config.max_steps, clock), self.progress, duties, self.log)
        return self.figures

    def one_step(self, share: float) -> float:
        """Draw a batch that depends on (seed, step) alone, and learn from it, with `share` of the budget used."""
        config, step = self.config, self.progress.step
        self.network.train()
        set_rates(self.optimizers, rate_factor(share, 1.0, (step + 1) / WARMUP_STEPS, FLOOR))
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        batch = draw_batch(config.kind, self.rows, config.batch_size, AUGMENTATIONS[config.augmentation], rng)
        batch = type(batch)(*(part.to(config.device) for part in batch))
        with autocast(config.dtype, config.device):
            logits = forward_logits(self.network, batch.images)
        loss = descend(detector_loss(config.kind, logits, batch), self.network, self.optimizers)
        self.average.update(step)
        return loss

    def evaluate_and_save(self) -> None:
        """Figures of the averaged weights on held-out rows, and everything that using them needs."""
        config = self.config
        extra: dict[str, Any] = {"width": config.width} if config.kind in ("heatmap", "silhouette") else {}
        with self.average.in_place() as averaged:
            if config.kind == "counter":
                self.figures, extra = evaluate_counter(averaged, self.held_out)
            elif config.kind == "silhouette":
                self.figures = evaluate_silhouettes(averaged, self.held_out)
            else:
                self.figures = evaluate_keypoints(averaged, self.held_out)
            save_detector(averaged, config.kind, self.size, self.out, extra)
        figures = {f"held_out_{k}": v for k, v in self.figures.items()}
        self.log.write(step=self.progress.step, minutes=self.progress.seconds / 60, **figures)
        (self.out / "README.md").write_text(self.card())

    def card(self) -> str:
        """The model card."""
        config = self.config
        settings = {k: v for k, v in asdict(config).items() if k not in ("shards", "out", "device", "max_steps")}
        return _CARD.format(
            title=_TITLES[config.kind],
            parameters=sum(p.numel() for p in self.network.parameters()) / 1e6,
            rows=len(self.rows),
            shards=len(self.names),
            held_out=len(self.held_out),
            steps=self.progress.step,
            minutes=self.progress.seconds / 60,
            figures="\n".join(f"| {k} | {v:.4f} |" for k, v in self.figures.items()),
            about=_ABOUT.get(config.kind, _ABOUT_KEYPOINTS),
            settings=json.dumps(settings),
            command=f"{PROGRAM} {config.kind} --shards SHARDS --pattern '{config.pattern}' --out WEIGHTS "
            f"--minutes {config.minutes:g} --seed {config.seed} --augmentation {config.augmentation} --width {config.width}",
        )


_TITLES = {
    "vitpose": "Pocket ViTPose",
    "heatmap": "Pocket heatmap network",
    "silhouette": "Pocket segmenter",
    "counter": "Pocket person counter",
}
_ABOUT_KEYPOINTS = """`oks` is COCO's object keypoint similarity over visible keypoints, with the silhouette's pixels as
area; `pck10` the share of visible keypoints within 10 % of the square root of that area; `soft_` figures are on blurred,
noisy copies."""
_ABOUT = {
    "silhouette": """`iou` is the mean intersection over union of a picture's drawn and true silhouettes, `soft_iou` on
blurred, noisy copies, `composite_iou` on pictures of one to four people pasted together; `empty_drawn` is the share of
pixels taken for a person where nobody is.""",
    "counter": """`accuracy` is the share of held-out composites whose people are counted right, `absolute_error` the mean
miscount, `..._recall` the share of composites with none, one or more people that are found to be so.""",
}
_CARD = """# {title}

{parameters:.2f} million parameters, half precision on disk. Trained from random weights on renders of the free body
alone; it has seen no photograph and knows no other picture style.

| | |
|---|---|
| training rows | {rows} |
| shards | {shards}, from `posedreamer train-pocket --part scenes` |
| held-out rows | {held_out} (the last of each shard) |
| steps | {steps} |
| minutes of training | {minutes:.1f} |

Held-out figures:

| figure | value |
|---|---|
{figures}

{about}

Settings: `{settings}`

Retrain: `{command}`

Licence: Apache-2.0, as the project; the training images show the free body, whose data are CC0.
"""


def save_detector(network: nn.Module, kind: str, size: int, out: Path, extra: dict[str, Any]) -> None:
    """Write half-precision safetensors and what loading needs to know."""
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    if kind == "vitpose":
        network.config.save_pretrained(out)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    part = out / "model.safetensors.part"
    save_file(state, part, metadata={"format": "pt"})
    part.replace(out / "model.safetensors")
    description = {
        "kind": kind,
        "size": size,
        "maps": "log-share" if kind in ("vitpose", "heatmap") else "logit",
        **extra,
    }
    (out / "detector.json").write_text(json.dumps(description, indent=1) + "\n")


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Train a pocket detector on labelled shards.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--shards", required=True, help="folder of npz shards")
    parser.add_argument("--out", required=True, help="folder for weights, card and log")
    parser.add_argument("--pattern", default="*.npz", help="which shards of the folder")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=48, help="of heatmap and silhouette networks")
    parser.add_argument("--augmentation", choices=sorted(AUGMENTATIONS), default="mild")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=NAMES, default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=1_000_000_000)
    parser.add_argument("--evaluate-minutes", type=float, default=5.0)
    parser.add_argument("--resume", action="store_true", help="go on from OUT/resume.pt where it exists")
    options = vars(parser.parse_args())
    resume = options.pop("resume")
    train(TrainConfig(**options), resume=resume)


if __name__ == "__main__":
    main()

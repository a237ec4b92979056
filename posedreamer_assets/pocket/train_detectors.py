"""Train the pocket detectors.

`python -m posedreamer_assets.pocket.train_detectors vitpose|heatmap|counter --shards FOLDER --out FOLDER`

A run is bounded by minutes of training, can be stopped at any time and resumed, keeps an exponential average of the
weights, and writes into `--out`: `model.safetensors` (half precision), `detector.json`, `README.md` (the model card)
and `training.jsonl`. The learning rate follows the share of the minutes that is spent.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from posedreamer_assets.errors import DetectorError
from posedreamer_assets.pocket.augment import MILD, STRONG, Augmentation, augment, degrade
from posedreamer_assets.pocket.composites import centre_targets, compose
from posedreamer_assets.pocket.shards import KeypointRows, read_folder
from posedreamer_assets.scoring.heatmaps import decode, gaussian_targets
from posedreamer_assets.scoring.networks import CentreNet, HeatmapNet, make_vitpose, normalise
from posedreamer_assets.scoring.oks import object_keypoint_similarity
from posedreamer_assets.scoring.peaks import count_peaks

KINDS = ("vitpose", "heatmap", "counter")
AUGMENTATIONS = {"mild": MILD, "strong": STRONG}
STRIDE = 4
SIGMA_CELLS = 1.0
HIDDEN_WEIGHT = 0.3  # of in-frame keypoints that the body itself hides
COUNT_TRIALS = 192  # composites that the counter is measured on, as many again to choose its threshold
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
    width: int = 48  # of the heatmap network
    augmentation: str = "mild"  # or "strong"
    dtype: str = "bfloat16"
    threads: int = 1
    seed: int = 0
    device: str = "cpu"
    max_steps: int = 1_000_000_000
    checkpoint_minutes: float = 2.0
    evaluate_minutes: float = 5.0


def make_network(kind: str, size: int = 128, width: int = 48) -> nn.Module:
    """A fresh network of the kind.

    Raises:
        DetectorError: an unknown kind.
    """
    if kind == "vitpose":
        return make_vitpose(size)
    if kind == "heatmap":
        return _channels_last(HeatmapNet(width))
    if kind == "counter":
        return _channels_last(CentreNet())
    raise DetectorError(f"unknown detector kind {kind!r}; known: {', '.join(KINDS)}")


def _channels_last(network: nn.Module) -> nn.Module:
    """Weights in the layout in which CPU convolutions are about a fifth faster."""
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def forward_logits(network: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h2 w2"]:
    """Heatmap logits of images in 0..1."""
    output = network(normalise(images))
    return output if isinstance(output, Tensor) else output.heatmaps


def to_tensor(images: np.ndarray) -> Float[Tensor, "n 3 h w"]:
    """uint8 (n, h, w, 3) to float 0..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)


def keypoint_loss(
    logits: Float[Tensor, "n 17 h w"], targets: Float[Tensor, "n 17 h w"], weights: Float[Tensor, "n 17"]
) -> Float[Tensor, ""]:
    """Cross-entropy between the Gaussian about each keypoint and the softmax over cells, averaged by weight."""
    log_share = logits.float().flatten(2).log_softmax(-1)
    each = -(targets.flatten(2) * log_share).sum(-1)
    return (each * weights).sum() / weights.sum().clamp_min(1e-6)


def centre_loss(logits: Float[Tensor, "n 1 h w"], targets: Float[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    """Penalty-reduced focal loss of CenterNet (Zhou et al., 2019, equation 1; alpha 2, beta 4), per person."""
    logits = logits.float()
    share = logits.sigmoid()
    log_on, log_off = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
    centre = targets >= 0.999
    on = (1 - share) ** 2 * log_on * centre
    off = (1 - targets) ** 4 * share**2 * log_off * ~centre
    return -(on.sum() + off.sum()) / centre.sum().clamp_min(len(logits) / 2)


def make_optimizers(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of transformer blocks, AdamW for the rest; each group remembers its full rate as `full_lr`.

    Muon (Jordan et al., 2024) needs about half of AdamW's steps for the same loss here.
    """
    named = list(network.named_parameters())
    blocks = [p for name, p in named if p.ndim == 2 and ".encoder.layer." in name]
    rest = [p for name, p in named if not (p.ndim == 2 and ".encoder.layer." in name)]
    rate, decay = config.learning_rate, config.weight_decay
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": decay, "full_lr": rate},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "full_lr": rate},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate)]
    if blocks:
        matrices = [{"params": blocks, "full_lr": 2 * rate}]
        optimizers.append(torch.optim.Muon(matrices, lr=2 * rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


class _Averaged:
    """Exponential moving average of weights and buffers; it starts fast, so that early evaluations mean something."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value.to(self.state[key].dtype), 1 - decay)
            else:
                self.state[key].copy_(value)


def learning_rate_factor(spent: float, step: int, warmup: int = 100) -> float:
    """Linear warm-up over steps, then half a cosine over the share of the minutes spent (0..1), down to 1 %."""
    return min(1.0, (step + 1) / warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(spent, 1.0))))


def train(config: TrainConfig, resume: bool = False) -> dict[str, float]:
    """Train, evaluate and save; returns the held-out figures of the last evaluation.

    Raises:
        DetectorError: no shards, damaged shards, an unknown kind or type, or a checkpoint of another kind.
    """
    if config.dtype not in ("bfloat16", "float32"):
        raise DetectorError(f"unknown dtype {config.dtype!r}; known: bfloat16, float32")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rows, held_out, names = read_folder(Path(config.shards), config.pattern)
    run = _Run(config, rows, held_out, names)
    if resume:
        run.restore()
    return run.go()


class _Run:
    """State of one training run."""

    def __init__(self, config: TrainConfig, rows: KeypointRows, held_out: KeypointRows, names: list[str]) -> None:
        self.config, self.rows, self.held_out, self.names = config, rows, held_out, names
        self.out = Path(config.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.size = rows.images.shape[1]
        self.network = make_network(config.kind, self.size, config.width).to(config.device)
        self.average = _Averaged(self.network, config.average)
        self.optimizers = make_optimizers(self.network, config)
        self.step = 0
        self.spent_s = 0.0
        self.figures: dict[str, float] = {}

    def clock(self) -> float:
        """Seconds that count: of a processor where one computes, so that sharing it with others shortens no training."""
        return time.process_time() / self.config.threads if self.config.device == "cpu" else time.monotonic()

    @property
    def checkpoint_path(self) -> Path:
        return self.out / "resume.pt"

    def restore(self) -> None:
        if not self.checkpoint_path.exists():
            return
        saved = torch.load(self.checkpoint_path, weights_only=True, map_location=self.config.device)
        if saved["kind"] != self.config.kind:
            raise DetectorError(f"{self.checkpoint_path} is of kind {saved['kind']!r}, not {self.config.kind!r}")
        self.network.load_state_dict(saved["network"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.average.state = saved["average"]
        self.step, self.spent_s = saved["step"], saved["spent_s"]

    def checkpoint(self) -> None:
        part = self.checkpoint_path.with_suffix(".part")
        state = {
            "kind": self.config.kind,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": self.average.state,
            "step": self.step,
            "spent_s": self.spent_s,
        }
        torch.save(state, part)
        part.replace(self.checkpoint_path)

    def go(self) -> dict[str, float]:
        budget_s = self.config.minutes * 60
        since_checkpoint = since_evaluation = 0.0
        losses: list[float] = []
        while self.spent_s < budget_s and self.step < self.config.max_steps:
            start = self.clock()
            losses.append(self.one_step(self.spent_s / budget_s))
            took = self.clock() - start
            self.spent_s += took
            since_checkpoint += took
            since_evaluation += took
            if self.step % 50 == 0:
                self.log(loss=float(np.mean(losses)), seconds_per_step=took)
                losses = []
            if since_checkpoint > self.config.checkpoint_minutes * 60:
                self.checkpoint()
                since_checkpoint = 0.0
            if since_evaluation > self.config.evaluate_minutes * 60:
                self.evaluate_and_save()
                since_evaluation = 0.0
        self.checkpoint()
        self.evaluate_and_save()
        return self.figures

    def one_step(self, spent: float) -> float:
        """Draw a batch that depends on (seed, step) alone, and learn from it."""
        self.network.train()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * learning_rate_factor(spent, self.step)
        rng = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        images, targets, weights = self.batch(rng)
        with torch.autocast(self.config.device, torch.bfloat16, enabled=self.config.dtype == "bfloat16"):
            logits = forward_logits(self.network, images)
        loss = (
            centre_loss(logits, targets) if self.config.kind == "counter" else keypoint_loss(logits, targets, weights)
        )
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.network, self.step)
        self.step += 1
        return float(loss.detach())

    def batch(self, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images 0..1, targets and weights of one step."""
        n = self.config.batch_size
        options = AUGMENTATIONS[self.config.augmentation]
        if self.config.kind == "counter":
            images, targets = _composite_batch(self.rows, n, int(torch.randint(2**31, (1,), generator=rng)))
            images, weights = degrade(images, options, rng), torch.ones(n)
        else:
            chosen = torch.randint(len(self.rows), (n,), generator=rng).numpy()
            images, targets, weights = _keypoint_batch(self.rows.take(chosen), options, rng)
        device = self.config.device
        return images.to(device), targets.to(device), weights.to(device)

    def evaluate_and_save(self) -> None:
        averaged = make_network(self.config.kind, self.size, self.config.width)
        averaged.load_state_dict(self.average.state)
        averaged.to(self.config.device).eval()
        extra: dict[str, Any] = {"width": self.config.width} if self.config.kind == "heatmap" else {}
        if self.config.kind == "counter":
            self.figures, extra = evaluate_counter(averaged, self.held_out)
        else:
            self.figures = evaluate_keypoints(averaged, self.held_out)
        self.log(**{f"held_out_{k}": v for k, v in self.figures.items()})
        save_detector(averaged, self.config.kind, self.size, self.out, extra)
        (self.out / "README.md").write_text(self.card())

    def log(self, **values: float) -> None:
        line = {
            "step": self.step,
            "minutes": round(self.spent_s / 60, 2),
            **{k: round(v, 5) for k, v in values.items()},
        }
        with (self.out / "training.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def card(self) -> str:
        parameters = sum(p.numel() for p in self.network.parameters())
        settings = {k: v for k, v in asdict(self.config).items() if k not in ("shards", "out", "device", "max_steps")}
        rows = "\n".join(f"| {k} | {v:.4f} |" for k, v in self.figures.items())
        return _CARD.format(
            title=_TITLES[self.config.kind],
            parameters=parameters / 1e6,
            rows=len(self.rows),
            shards=len(self.names),
            held_out=len(self.held_out),
            steps=self.step,
            minutes=self.spent_s / 60,
            figures=rows,
            settings=json.dumps(settings),
            command=f"{PROGRAM} {self.config.kind} --shards SHARDS --pattern '{self.config.pattern}' --out WEIGHTS "
            f"--minutes {self.config.minutes:g} --seed {self.config.seed} --augmentation {self.config.augmentation}",
        )


_TITLES = {
    "vitpose": "Pocket ViTPose",
    "heatmap": "Pocket heatmap network",
    "counter": "Pocket person counter",
}
_CARD = """# {title}

{parameters:.2f} million parameters, half precision on disk. Trained from random weights on renders of the free body
alone; it has seen no photograph and knows no other picture style.

| | |
|---|---|
| training rows | {rows} |
| shards | {shards}, from `posedreamer train-pocket --part scenes` |
| held-out rows | {held_out} (the last of the last shard) |
| steps | {steps} |
| minutes of training | {minutes:.1f} |

Held-out figures:

| figure | value |
|---|---|
{figures}

`oks` is COCO's object keypoint similarity over visible keypoints, with the silhouette's pixels as area; `pck10` the
share of visible keypoints within 10 % of the square root of that area; `soft_` figures are on blurred, noisy copies.

Settings: `{settings}`

Retrain: `{command}`

Licence: Apache-2.0, as the project; the training images show the free body, whose data are CC0.
"""


def _keypoint_batch(rows: KeypointRows, options: Augmentation, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    images, keypoints, visible = augment(
        to_tensor(rows.images),
        torch.from_numpy(rows.keypoints),
        torch.from_numpy(rows.visible),
        torch.from_numpy(rows.silhouettes).float()[:, None],
        options,
        rng,
    )
    h, w = images.shape[-2:]
    inside = (keypoints >= 0).all(-1) & (keypoints[..., 0] < w) & (keypoints[..., 1] < h)
    weights = inside * torch.where(visible, 1.0, HIDDEN_WEIGHT)
    return images, gaussian_targets(keypoints, h // STRIDE, w // STRIDE, STRIDE, SIGMA_CELLS), weights


def _composite_batch(rows: KeypointRows, n: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    made = [compose(rows, rng) for _ in range(n)]
    h, w = rows.images.shape[1:3]
    targets = np.stack([centre_targets(m.boxes, h // 8, w // 8) for m in made])
    return to_tensor(np.stack([m.image for m in made])), torch.from_numpy(targets)[:, None]


@torch.no_grad()
def predict_logits(network: nn.Module, images: Float[Tensor, "n 3 h w"], batch: int = 32) -> np.ndarray:
    """Heatmap logits (n, k, h, w) float32, in full precision."""
    device = next(network.parameters()).device
    return torch.cat([forward_logits(network, part.to(device)).float().cpu() for part in images.split(batch)]).numpy()


def evaluate_keypoints(network: nn.Module, rows: KeypointRows) -> dict[str, float]:
    """OKS and PCK over visible keypoints of clean and of degraded held-out images."""
    clean = to_tensor(rows.images)
    soft_options = Augmentation(colour=0.15, blur_share=1.0, blocks_share=0.5)
    soft = degrade(clean, soft_options, torch.Generator().manual_seed(7))
    area = rows.silhouettes.sum((1, 2)).astype(np.float32)
    visible = rows.visible & rows.in_frame
    figures: dict[str, float] = {}
    for prefix, images in (("", clean), ("soft_", soft)):
        found = decode(predict_logits(network, images), STRIDE, STRIDE)
        oks = object_keypoint_similarity(found[..., :2], rows.keypoints, visible, area)
        distance = np.linalg.norm(found[..., :2] - rows.keypoints, axis=-1)
        near = distance < 0.1 * np.sqrt(area)[:, None]
        figures[f"{prefix}oks"] = float(oks.mean())
        figures[f"{prefix}oks_median"] = float(np.median(oks))
        figures[f"{prefix}oks_above_0.8"] = float((oks > 0.8).mean())
        figures[f"{prefix}pck10"] = float(near[visible].mean())
        figures[f"{prefix}error_px"] = float(distance[visible].mean())
        figures[f"{prefix}confidence"] = float(found[..., 2][visible].mean())
    return figures


def evaluate_counter(network: nn.Module, rows: KeypointRows) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy of counts on composites of held-out rows, at the threshold that is best on other composites of them."""
    thresholds = np.arange(0.15, 0.7, 0.05)
    counts, maps = [], []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        made = [compose(rows, rng) for _ in range(COUNT_TRIALS)]
        counts.append(np.array([len(m.boxes) for m in made]))
        maps.append(predict_logits(network, to_tensor(np.stack([m.image for m in made]))))
    tuned = [(count_peaks(maps[0], float(t))[0] == counts[0]).mean() for t in thresholds]
    threshold = float(thresholds[int(np.argmax(tuned))])
    found, _ = count_peaks(maps[1], threshold)
    truth = counts[1]

    def recall(found_so: np.ndarray, true_so: np.ndarray) -> float:
        return float((found_so & true_so).sum() / max(true_so.sum(), 1))

    figures = {
        "accuracy": float((found == truth).mean()),
        "absolute_error": float(np.abs(found - truth).mean()),
        "none_recall": recall(found == 0, truth == 0),
        "one_recall": recall(found == 1, truth == 1),
        "crowd_recall": recall(found > 1, truth > 1),
        "threshold": threshold,
    }
    return figures, {"threshold": threshold}


def save_detector(network: nn.Module, kind: str, size: int, out: Path, extra: dict[str, Any]) -> None:
    """Write half-precision safetensors and what loading needs to know."""
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    if kind == "vitpose":
        network.config.save_pretrained(out)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    part = out / "model.safetensors.part"
    save_file(state, part, metadata={"format": "pt"})
    part.replace(out / "model.safetensors")
    description = {"kind": kind, "size": size, "maps": "log-share" if kind != "counter" else "logit", **extra}
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
    parser.add_argument("--width", type=int, default=48, help="of the heatmap network")
    parser.add_argument("--augmentation", choices=sorted(AUGMENTATIONS), default="mild")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
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

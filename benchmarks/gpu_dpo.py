"""Memory and time of a Flow-DPO step on a FLUX transformer with random weights: neither needs trained ones, or a download.

    python benchmarks/gpu_dpo.py                       # on a GPU: real size, 512 and 1024 pixels, one and two pairs at a time
    python benchmarks/gpu_dpo.py --plan                # anywhere: what is expected, counted without computing anything
    python benchmarks/gpu_dpo.py --tiny --device cpu   # anywhere, in seconds: that the program works

Prints JSON. Of each setting: seconds of a step of `alignment.batch_size` pairs (the least of `--steps`, after one), the peak
of memory, and the plan. The plan adds up

    network + (weights, gradient, gradient of a part, moments of the adapter) + activations

where the adapter's four are 4 + 4 + 4 + 8 bytes a weight (moments 2 with adamw8bit). Activations without checkpointing are
the bytes that autograd keeps, counted on torch's meta device with an attention that keeps its inputs and output alone; with
it they are the inputs of all blocks and what is kept within the largest block. VAE and text encoders wait in the CPU's memory.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.counting import BareFlux, count_flow_dpo
from posedreamer_assets.diffusion.dpo import DpoTrainer
from posedreamer_assets.diffusion.flux import MAX_CAPTION_TOKENS
from posedreamer_assets.diffusion.frugal import fast_products, set_checkpointing
from posedreamer_assets.diffusion.pair_data import PairData, PosePixels
from posedreamer_assets.diffusion.training_plan import bytes_of_a_weight

GB = 1e9
CHANNELS: dict[str, Any] = {"in_channels": 128, "out_channels": 64, "guidance_embeds": True}
REAL: dict[str, Any] = {"num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128}
TINY: dict[str, Any] = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2, "attention_head_dim": 128}


class RandomFlux(BareFlux):
    """A FLUX transformer with random weights; images and captions are encoded as noise, by nothing."""

    def __init__(self, sizes: dict[str, Any], side: int, device: torch.device, dtype: torch.dtype) -> None:
        cfg = GeneratorConfig("flux", guidance=3.5, device=str(device))
        super().__init__(CHANNELS | sizes, cfg, ImageConfig(side, side), dtype)

    def encode_image(self, image: np.ndarray) -> Tensor:
        rows, columns = self.token_grid
        return torch.randn(rows * columns, 64, generator=torch.Generator().manual_seed(int(image[0, 0, 0])))

    def encode_controls(self, controls: np.ndarray, strength: float = 1.0) -> Tensor:
        return torch.stack([self.encode_image(control) for control in controls])

    def encode_captions(self, captions: Any) -> tuple[Tensor, Tensor]:
        noise, dtype = torch.Generator().manual_seed(0), self.transformer.dtype
        return tuple(
            torch.randn(len(captions), *shape, generator=noise).to(dtype)
            for shape in ((MAX_CAPTION_TOKENS, 4096), (768,))
        )  # type: ignore[return-value]


def planned(sizes: dict[str, Any], side: int, cfg: AlignmentConfig) -> dict[str, float]:
    """Gigabytes by part, see the module's docstring."""
    counted = count_flow_dpo(CHANNELS | sizes, ImageConfig(side, side), cfg, cfg.micro_pairs, torch.bfloat16)
    parts = {
        "network": 2 * counted.network / GB,
        "adapter": counted.adapter * bytes_of_a_weight(cfg) / GB,
        "activations": counted.kept / GB,
    }
    return {**parts, "sum": sum(parts.values())}


def measure(
    sizes: dict[str, Any], side: int, cfg: AlignmentConfig, device: torch.device, steps: int
) -> dict[str, float]:
    """Seconds of a step and the peak of memory on a GPU (0 elsewhere)."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = RandomFlux(sizes, side, device, dtype)
    count = cfg.batch_size + 1

    def read(poses: np.ndarray) -> PosePixels:
        images = np.broadcast_to(poses.astype(np.uint8)[:, None, None, None, None], (len(poses), 2, side, side, 3))
        return PosePixels(images[:, 0], images)

    held_out = np.arange(count) == count - 1
    pairs = PairData(np.arange(count), np.zeros(count, int), np.ones(count, int), held_out, ["a person"] * count, read)
    seconds = []
    with tempfile.TemporaryDirectory() as folder, fast_products(device):
        trainer = DpoTrainer(pairs, model, cfg, 0, Path(folder))
        trainer.together.rows, trainer.together.halves = cfg.micro_pairs, False
        for number in range(1, steps + 2):
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            trainer.step(number)
            seconds.append(time.perf_counter() - start)  # the figures of a step wait for the GPU
    set_checkpointing(model.network, False)
    peak = torch.cuda.max_memory_allocated() / GB if device.type == "cuda" else 0.0
    return {"step_s": min(seconds[1:]), "peak_gb": peak}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--micro-pairs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--optimizer", choices=("adamw", "adamw8bit"), default="adamw")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep activations")
    parser.add_argument("--plan", action="store_true", help="compute nothing")
    parser.add_argument("--tiny", action="store_true", help="two blocks, 64 pixels, two pairs a step, rank 4")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    sizes, sides, rank, batch = (TINY, [64], 4, 2) if args.tiny else (REAL, args.sides, args.rank, args.batch_size)
    cfg = AlignmentConfig(
        lora_rank=rank,
        batch_size=batch,
        half_images=False,
        body_weight=0.0,
        max_epochs=1e9,
        gradient_checkpointing=not args.no_checkpointing,
        optimizer=args.optimizer,
    )
    found = []
    for side in sides:
        for micro in args.micro_pairs:
            of_setting = replace(cfg, micro_pairs=micro)
            row: dict[str, Any] = {"side": side, "micro_pairs": micro, "checkpointing": cfg.gradient_checkpointing}
            row["plan_gb"] = planned(sizes, side, of_setting)
            if not args.plan:
                if args.device == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                try:
                    row |= measure(sizes, side, of_setting, torch.device(args.device), args.steps)
                except torch.OutOfMemoryError:
                    row["step_s"] = row["peak_gb"] = None  # does not fit
            found.append(row)
    name = torch.cuda.get_device_name() if args.device == "cuda" and not args.plan else args.device
    print(json.dumps({"device": name, "torch": torch.__version__, "rows": found}, indent=1))


if __name__ == "__main__":
    main()

"""Memory and time of control training at real size with random weights: neither needs trained ones, or a download.

    python benchmarks/gpu_control.py                       # on a GPU: all schemes, 512 and 1024 px, one and two images at once
    python benchmarks/gpu_control.py --plan                # anywhere: what is expected, counted without computing anything
    python benchmarks/gpu_control.py --tiny --device cpu   # anywhere, in seconds: that the program works

Schemes are `flux`, a control LoRA on FLUX (`channels`), `zimage`, a fresh ControlNet beside Z-Image (`controlnet`), and
`zimage-published`, one of the size that is published. Prints a JSON object for each setting as soon as it is known: seconds an
image (of the least of `--steps` steps, after one), the peak of memory, and the plan. `--minutes` ends it: what was not begun by
then is named in `left_out`. The plan adds up

    frozen weights + trained weights x (4 + 4 gradient + 4 gradient of a part + 8 moments) + copies + activations

Copies are those that autocast makes of a ControlNet's float32 weights. Activations are what autograd keeps, counted on torch's
meta device with an attention that keeps its inputs and output alone; with checkpointing the inputs of all blocks that gradients
pass through, and what is kept within the largest. Text encoders and autoencoder, which stay on the GPU in a real training, are
not counted and not there.
"""

import argparse
import gc
import json
import time
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from diffusers import ZImageControlNetModel, ZImageControlNetPipeline, ZImageTransformer2DModel
from torch import Tensor, nn

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.control_net import controlnet_of
from posedreamer_assets.diffusion.control_training import (
    ControlData,
    ControlGenerator,
    ControlTrainer,
    ControlTraining,
    Pixels,
    scheme_of,
)
from posedreamer_assets.diffusion.counting import BareFlux, Lean, MixedPrecision, saved_bytes
from posedreamer_assets.diffusion.flux import MAX_CAPTION_TOKENS
from posedreamer_assets.diffusion.frugal import fast_products
from posedreamer_assets.diffusion.training_plan import MOMENTS, OF_A_WEIGHT
from posedreamer_assets.diffusion.zimage import PLACES, ZImageGenerator

GB = 1e9
SCHEMES = ("flux", "zimage", "zimage-published")
CAPTION_TOKENS = 96  # of Z-Image, some sentences
FLUX: dict[str, Any] = {"in_channels": 128, "out_channels": 64, "guidance_embeds": True}
TINY_FLUX = FLUX | {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2}
TINY_ZIMAGE: dict[str, Any] = {
    "dim": 64, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 64,
    "axes_dims": [8, 12, 12], "axes_lens": [600, 32, 32],
}  # fmt: skip
PUBLISHED: dict[str, Any] = {
    "control_layers_places": PLACES[15], "control_refiner_layers_places": [0, 1], "control_in_dim": 33,
    "add_control_noise_refiner": "control_noise_refiner",
}  # fmt: skip


def noise(seed: int, *shape: int) -> Tensor:
    """The same numbers at every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class RandomFlux(BareFlux):
    """A FLUX transformer with an input layer wide enough for control images; images and captions are encoded as noise."""

    def encode_image(self, image: np.ndarray) -> Tensor:
        rows, columns = self.token_grid
        return noise(int(image[0, 0, 0]), rows * columns, self.transformer.config["in_channels"] // 2).to(self.device)

    def encode_controls(self, controls: np.ndarray, strength: float = 1.0) -> Tensor:
        return torch.stack([self.encode_image(control) for control in controls])

    def encode_captions(self, captions: Any) -> tuple[Tensor, Tensor]:
        sizes, count = self.transformer.config, len(captions)
        hidden = noise(0, count, MAX_CAPTION_TOKENS, sizes["joint_attention_dim"])
        pooled = noise(1, count, sizes["pooled_projection_dim"])
        return hidden.to(self.device, self.transformer.dtype), pooled.to(self.device, self.transformer.dtype)


class RandomZImage(ZImageGenerator):
    """Z-Image and a ControlNet; images and captions are encoded as noise."""

    mixing: MixedPrecision | None = None  # on the meta device, which has no autocast, what it would do

    def encode_image(self, image: np.ndarray) -> Tensor:
        rows, columns = self.token_grid
        channels = 4 * self.pipeline.transformer.config["in_channels"]
        return noise(int(image[0, 0, 0]), rows * columns, channels).to(self.device)

    def encode_captions(self, captions: Any) -> tuple[list[Tensor]]:
        network: Any = self.network
        size = (CAPTION_TOKENS, network.config["cap_feat_dim"])
        return ([noise(0, *size).to(self.device, network.dtype) for _ in captions],)

    def mixed_precision(self, dtype: torch.dtype | None) -> AbstractContextManager[object]:
        return super().mixed_precision(dtype) if self.mixing is None or dtype is None else self.mixing


def generator_of(scheme: str, tiny: bool, side: int, device: torch.device, dtype: torch.dtype) -> ControlGenerator:
    """A generator as `load_base` would have left one, with small random weights."""
    image = ImageConfig(side, side)
    if scheme == "flux":
        cfg = GeneratorConfig("flux", guidance=3.5, device=str(device), batch_size=1)
        return RandomFlux(TINY_FLUX if tiny else FLUX, cfg, image, dtype)
    transformer = random_network(ZImageTransformer2DModel, TINY_ZIMAGE if tiny else {}, device, dtype)
    narrow = {key: TINY_ZIMAGE[key] for key in ("dim", "n_heads", "n_kv_heads")} if tiny else {}
    fresh = scheme == "zimage"
    with device:
        net = (
            controlnet_of(transformer)
            if fresh
            else random_network(ZImageControlNetModel, PUBLISHED | narrow, device, dtype)
        )
    absent: Any = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer"))
    pipeline = ZImageControlNetPipeline(transformer=transformer, controlnet=net, **absent)
    for network in (pipeline.transformer, pipeline.controlnet):
        network.eval().requires_grad_(False)
    return RandomZImage(pipeline, GeneratorConfig("zimage", device=str(device), batch_size=1), image, "random")


def random_network(kind: Any, sizes: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A network with small random weights; on the meta device without."""
    with torch.device("meta"):
        network = kind(**sizes)
    nn.Module.to(network, dtype=dtype).to_empty(device=device)  # diffusers' own `to` warns of nothing
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.02)
    return network


def planned(scheme: str, tiny: bool, side: int, cfg: ControlTraining) -> dict[str, float]:
    """Gigabytes by part, see the module's docstring."""
    generator = generator_of(scheme, tiny, side, torch.device("meta"), torch.bfloat16)
    learns = scheme_of(generator, cfg)
    weights = list({id(p): p for network in learns.networks for p in network.parameters()}.values())
    frozen = sum(p.numel() * p.element_size() for p in weights if not p.requires_grad)
    (rows, columns), n = generator.token_grid, cfg.micro_rows
    tokens = torch.empty(n, rows * columns, 64, device="meta")
    captions: Any = generator.encode_captions(["a person"] * n)
    sigma = torch.empty(n, device="meta")
    copies: list[Tensor] = []
    if isinstance(generator, RandomZImage):
        generator.mixing = MixedPrecision(torch.bfloat16)
        copies = [generator.mixing.copy(parameter) for parameter in learns.parameters]
    with Lean():
        kept = saved_bytes(
            lambda: generator.velocity(tokens, tokens, captions, sigma),
            [*weights, *copies],
            learns.networks if cfg.gradient_checkpointing else (),
        )
    parts = {
        "frozen": frozen / GB,
        "trained": sum(p.numel() for p in learns.parameters) * (OF_A_WEIGHT + MOMENTS["adamw"]) / GB,
        "copies": sum(copy.numel() * copy.element_size() for copy in copies) / GB,
        "activations": kept / GB,
    }
    return {**parts, "sum": sum(parts.values())}


def measure(
    scheme: str, tiny: bool, side: int, cfg: ControlTraining, device: torch.device, steps: int
) -> dict[str, float]:
    """Seconds an image and the peak of memory on a GPU (0 elsewhere)."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    generator = generator_of(scheme, tiny, side, device, dtype)
    count = cfg.batch_size + 1

    def read(numbers: np.ndarray) -> Pixels:
        images = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (len(numbers), side, side, 3))
        return Pixels(images, images)

    data = ControlData(["a person"] * count, np.arange(count) == count - 1, read)
    seconds = []
    with fast_products(device):
        trainer = ControlTrainer(data, generator, cfg)
        trainer.loss.together.rows, trainer.loss.together.halves = cfg.micro_rows, False
        for number in range(steps + 1):
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            trainer.step(number)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / GB if device.type == "cuda" else 0.0
    return {"image_s": min(seconds[1:]) / cfg.batch_size, "peak_gb": peak}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--micro-rows", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-size", type=int, default=4, help="few, since seconds are told by the image")
    parser.add_argument("--rank", type=int, default=32, help="of the control LoRA")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--no-checkpointing", action="store_true", help="keep activations")
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing is begun after so many")
    parser.add_argument("--plan", action="store_true", help="compute nothing")
    parser.add_argument("--tiny", action="store_true", help="few blocks, 64 pixels, two images a step, rank 4")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    start, left_out = time.monotonic(), []
    name = torch.cuda.get_device_name() if args.device == "cuda" and not args.plan else args.device
    print(json.dumps({"device": name, "torch": torch.__version__}), flush=True)
    settings = [
        (s, side, rows)
        for s in args.schemes
        for side in ([64] if args.tiny else args.sides)
        for rows in args.micro_rows
    ]
    for scheme, side, rows in settings:
        if (time.monotonic() - start) / 60 > args.minutes:
            left_out.append(f"{scheme} {side} {rows}")
            continue
        cfg = ControlTraining(
            rank=4 if args.tiny else args.rank,
            batch_size=2 if args.tiny else args.batch_size,
            learning_rate=1e-4,
            micro_rows=rows,
            gradient_checkpointing=not args.no_checkpointing,
        )
        row: dict[str, Any] = {"scheme": scheme, "side": side, "micro_rows": rows}
        row |= {"checkpointing": cfg.gradient_checkpointing, "plan_gb": planned(scheme, args.tiny, side, cfg)}
        print(json.dumps(row if args.plan else row | measured(scheme, args.tiny, side, cfg, args)), flush=True)
    print(json.dumps({"left_out": left_out}))


def measured(scheme: str, tiny: bool, side: int, cfg: ControlTraining, args: argparse.Namespace) -> dict[str, Any]:
    """What `measure` finds; None where it does not fit."""
    on_gpu = args.device == "cuda"
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return measure(scheme, tiny, side, cfg, torch.device(args.device), args.steps)
    except torch.OutOfMemoryError:
        return {"image_s": None, "peak_gb": None}


if __name__ == "__main__":
    main()

"""What an image of the pocket generator costs, in parts and by the number of steps, in CPU seconds of one core.

    python benchmarks/generator.py [--images 8] [--steps 4 2 1]

For a computer with AVX2 alone, three libraries must be told, each by a variable of its own:

    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2

Without the last one the matrix products, which are most of the work, go on in AVX-512: the speed of a product is printed,
so that one sees whether the restriction bites (one AVX2 core does about 32 floating-point operations a cycle).
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.nn.functional import gelu

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.fast_gelu import tanh_gelu
from posedreamer_assets.diffusion.networks import decode
from posedreamer_assets.diffusion.pocket import PocketGenerator

CAPTION = "a woman in a red shirt and blue trousers"


def cpu_seconds(work: Callable[[], object], times: int) -> float:
    """Median CPU seconds of a call, after one that warms up."""
    found = []
    for _ in range(times + 1):
        start = time.thread_time()
        work()
        found.append(time.thread_time() - start)
    return float(np.median(found[1:]))


@torch.no_grad()
def gelu_ratio() -> float:
    """What `tanh_gelu` costs of PyTorch's own, on the numbers of a block of an image."""
    numbers = torch.randn(1, 288, 1024)
    ours, plain = (
        cpu_seconds(lambda one=one: one(numbers), 40) for one in (tanh_gelu, partial(gelu, approximate="tanh"))
    )
    return ours / plain


@torch.no_grad()
def measure(images: int, steps: list[int]) -> dict[str, object]:
    """The figures."""
    controls = np.random.default_rng(0).integers(0, 256, (images + 1, 128, 128, 3), dtype=np.uint8)
    generator = PocketGenerator.load(GeneratorConfig(dtype="float32", device="cpu"), ImageConfig())
    control, captions = generator.encode_controls(controls[:1]), generator.encode_captions([CAPTION])
    tokens, sigma = torch.randn(1, *control.shape[1:]), torch.ones(1)
    matrix, weight = torch.randn(288, 256), torch.randn(1024, 256)
    product_s = cpu_seconds(lambda: torch.nn.functional.linear(matrix, weight), 20)
    figures: dict[str, object] = {
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "matrix products, Gflop/s": 2 * matrix.numel() * len(weight) / product_s / 1e9,
        "GELU, times PyTorch's": gelu_ratio(),
        "caption, s": cpu_seconds(lambda: generator.encode_captions([CAPTION]), images),
        "control image, s": cpu_seconds(lambda: generator.encode_image(controls[0]), images),
        "velocity, s": cpu_seconds(lambda: generator.velocity(tokens, control, captions, sigma), images),
        "decoding, s": cpu_seconds(lambda: decode(generator.vae, torch.randn(1, 16, 32, 32)), images),
    }
    for count in steps:
        generator = PocketGenerator.load(GeneratorConfig(dtype="float32", device="cpu", steps=count), ImageConfig())
        fresh = iter(range(images + 1))

        def new(generator: PocketGenerator = generator, fresh=fresh) -> None:
            row = next(fresh)
            generator.generate(controls[row : row + 1], [CAPTION], [row])

        def again(generator: PocketGenerator = generator) -> None:
            generator.generate(controls[:1], [CAPTION], [7])

        figures[f"image, {count} steps, s"] = cpu_seconds(new, images)
        figures[f"image, {count} steps, control image seen before, s"] = cpu_seconds(again, images)
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 2, 1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(args.images, args.steps), indent=1))


if __name__ == "__main__":
    main()

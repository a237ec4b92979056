"""A step of Flow-DPO against its reference structure, in one process: the same pairs, noise, noise levels and weights.

The reference structure goes through the pairs one by one and, for each of the four errors (policy and reference, winner and
loser), encodes the image and the caption anew: 4 VAE and 4 text encodes a pair. The control image is encoded once a pair.
Here each pair is encoded once for all steps, pairs are batched, and winner and loser go through the model together.

    python benchmarks/dpo.py [--pairs 16] [--steps 3]

For a computer with AVX2 alone, set ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2. Prints
CPU seconds a step and the ratio; fails where the losses differ by more than 1e-5. The last figures are of a step on half
images, the pocket profile's default, which the reference structure does not have.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.adapters import without_adapter
from posedreamer_assets.diffusion.dpo import DpoTrainer
from posedreamer_assets.diffusion.dpo_loss import PairErrors, flow_dpo_loss, velocity_error
from posedreamer_assets.diffusion.pair_data import PairData
from posedreamer_assets.diffusion.pocket import PocketGenerator

SIDE = 128
CAPTIONS = ("a woman in a red shirt and blue trousers", "a man in a green shirt and black shorts")


def made_pairs(n: int, seed: int = 0) -> PairData:
    """Pairs of noisy pictures about a box on black; the loss is that of any other pictures, and nothing is learnt."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, n, SIDE, SIDE, 3), dtype=np.uint8)
    images[0] *= (np.abs(np.arange(SIDE) - SIDE // 2) < 24)[:, None, None]
    return PairData.of_images(
        images[0], images[1], images[2], [CAPTIONS[i % 2] for i in range(n)], np.arange(n) == n - 1
    )


def reference_step(
    trainer: DpoTrainer, pairs: PairData, indices: np.ndarray, noise: torch.Tensor, sigma: torch.Tensor
) -> float:
    """The mean loss of the pairs, with gradients of the adapter, in the reference structure."""
    generator, cfg = trainer.generator, trainer.cfg
    losses = []
    pixels = pairs.read(pairs.poses[indices])
    for place, index in enumerate(indices):
        winner, loser = pixels.candidates[place]
        control = generator.encode_controls(pixels.controls[place : place + 1])
        weight = 1.0 + cfg.body_weight * trainer.encoder.rows(np.array([index])).body

        def error(image: np.ndarray, index: int = int(index), place: int = place, control=control, weight=weight):
            encoded = generator.encode_image(image)[None]
            captions = generator.encode_captions([pairs.captions[index]])
            level = sigma[place : place + 1]
            noisy = torch.lerp(encoded, noise[place : place + 1], level[:, None, None])
            velocity = generator.velocity(noisy, control, captions, level)
            return velocity_error(velocity, noise[place : place + 1] - encoded, weight)

        policy = PairErrors(error(winner), error(loser))
        with torch.no_grad(), without_adapter(generator.network):
            reference = PairErrors(error(winner), error(loser))
        loss = flow_dpo_loss(policy, reference, sigma[place : place + 1], cfg.beta).sum() / len(indices)
        loss.backward()
        losses.append(float(loss.detach()))
    return float(np.sum(losses))


def cpu_seconds(work: Callable[[], object], times: int) -> float:
    """Least CPU seconds of several calls."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def compare(count: int, steps: int, folder: Path) -> dict[str, object]:
    """Figures of both structures and their losses."""
    generator = PocketGenerator.load(GeneratorConfig(dtype="float32", device="cpu"), ImageConfig())
    cfg = AlignmentConfig(batch_size=count, half_images=False, max_epochs=1e9, steps=1_000_000)
    pairs = made_pairs(count + 1)
    trainer = DpoTrainer(pairs, generator, cfg, 0, folder)
    with torch.no_grad():  # an adapter that changes something
        for parameter in trainer.parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    weights = [parameter.detach().clone() for parameter in trainer.parameters]

    indices = next(trainer._batches)
    noise, sigma = trainer._draw(count, trainer.noise)
    trainer._batches = itertools.repeat(indices)  # the same batch, noise and noise levels at every step
    trainer._draw = lambda n, generator: (noise, sigma)

    ours = trainer.step(1)["loss"]
    for parameter, value in zip(trainer.parameters, weights, strict=True):
        parameter.data.copy_(value)
    trainer.optimizer.zero_grad()
    reference = reference_step(trainer, pairs, indices, noise, sigma)
    ours_s = cpu_seconds(lambda: trainer.step(1), steps)
    reference_s = cpu_seconds(lambda: reference_step(trainer, pairs, indices, noise, sigma), max(1, steps - 1))
    generator.adapter.clear()
    halves = DpoTrainer(pairs, generator, replace(cfg, half_images=True), 0, folder)
    halves.step(1)
    halves_s = cpu_seconds(lambda: halves.step(2), steps)
    if abs(ours - reference) > 1e-5:
        raise SystemExit(f"losses differ: {ours} here, {reference} in the reference structure")
    return {
        "pairs a step": count,
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "loss": ours,
        "loss of the reference structure": reference,
        "reference structure, CPU s a step": reference_s,
        "here, whole images, CPU s a step": ours_s,
        "ratio": reference_s / ours_s,
        "here, half images, CPU s a step": halves_s,
        "ratio of half images": reference_s / halves_s,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(args.pairs, args.steps, Path(folder)), indent=1))


if __name__ == "__main__":
    main()

"""Steps a minute of the 2D pose student, and milliseconds from an image's maps to its people.

Each is measured against a plain loop in the same run: targets painted cell by cell and person by person, crops one at a time
through the network; limbs scored pair by pair. `python benchmarks/pose2d.py [--steps 5] [--people 2 8 20]`. CPU seconds of one
core.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.people2d import grouping
from posedreamer_assets.people2d.crops import Crops, draw_crops
from posedreamer_assets.people2d.learn import crop_losses
from posedreamer_assets.people2d.network import STRIDE, PoseNet
from posedreamer_assets.people2d.samples import Picture, Source
from posedreamer_assets.people2d.targets import HEATS, LIMBS, affinity_fields, heat_maps


def seconds(work: Callable[[], object], times: int) -> float:
    """CPU seconds of one call, the least of some."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def people_in(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Joints of people at random places, each about a fifth of the image long."""
    middle = rng.uniform(0.1 * size, 0.9 * size, (count, 1, 2))
    return middle + rng.normal(0, size / 16, (count, 16, 2))


def source(rng: np.random.Generator, size: int = 288, people: int = 4) -> Source:
    """Noise with people in it: time does not depend on what a picture shows."""
    pictures = []
    for _ in range(8):
        joints = people_in(rng, people, size)
        known, image = (
            np.all((joints >= 0) & (joints < size), axis=-1),
            rng.integers(0, 255, (size, size, 3)).astype(np.uint8),
        )
        pictures.append(Picture(image, joints, known, np.zeros(people, bool), np.full(people, 20.0)))
    rows = np.array([(k, p) for k in range(len(pictures)) for p in range(people)])
    return Source(pictures, rows, None, tuple(map(str, range(len(rows)))))


def plain_targets(joints: np.ndarray, known: np.ndarray, side: int, stride: int, cfg: Pose2dConfig) -> np.ndarray:
    """Maps of one crop, one person and joint after the other."""
    x, y = np.meshgrid((np.arange(side) + 0.5) * stride, (np.arange(side) + 0.5) * stride)
    heats, fields, count = (
        np.zeros((HEATS, side, side)),
        np.zeros((len(LIMBS), 2, side, side)),
        np.zeros((len(LIMBS), side, side)),
    )
    for person, labelled in zip(joints, known, strict=True):
        for joint in np.flatnonzero(labelled):
            gap = (x - person[joint, 0]) ** 2 + (y - person[joint, 1]) ** 2
            heats[joint] = np.maximum(heats[joint], np.exp(-gap / (2 * cfg.sigma_px**2)))
        for limb, (a, b) in enumerate(LIMBS):
            if labelled[a] and labelled[b]:
                way = person[b] - person[a]
                length = max(float(np.hypot(*way)), 1e-6)
                ux, uy = way / length
                along, beside = (
                    (x - person[a, 0]) * ux + (y - person[a, 1]) * uy,
                    (x - person[a, 0]) * uy - (y - person[a, 1]) * ux,
                )
                covered = (along >= 0) & (along <= length) & (np.abs(beside) <= cfg.limb_px)
                fields[limb, 0] += covered * ux
                fields[limb, 1] += covered * uy
                count[limb] += covered
    heats[-1] = 1 - heats[:-1].max(0)
    return np.concatenate([heats, (fields / np.maximum(count, 1)[:, None]).reshape(-1, side, side)])


def plain_step(network: PoseNet, optimizer: torch.optim.Optimizer, crops: Crops, cfg: Pose2dConfig) -> None:
    """A step on crops that go through the network one at a time."""
    stride = STRIDE[cfg.layout]
    optimizer.zero_grad()
    for k in range(len(crops)):
        targets = plain_targets(crops.joints[k], crops.known[k], cfg.size // stride, stride, cfg)
        wanted = torch.from_numpy(targets).float()
        losses = [((maps[0] - wanted) ** 2).mean() for maps in network(crops.image_tensor()[k : k + 1])]
        (torch.stack(losses).sum() / len(crops)).backward()
    optimizer.step()


def step(network: PoseNet, optimizer: torch.optim.Optimizer, crops: Crops, cfg: Pose2dConfig) -> None:
    """A step as arms take it."""
    optimizer.zero_grad()
    crop_losses(network, crops, cfg).mean().backward()
    optimizer.step()


def plain_affinities(field: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """`grouping.limb_affinities`, pair by pair and sample by sample."""
    found = np.full((len(starts), len(ends)), -np.inf)
    for a, start in enumerate(starts):
        for b, end in enumerate(ends):
            way = end[:2] - start[:2]
            unit = way / max(float(np.hypot(*way)), 1e-6)
            dots = []
            for k in range(10):
                x, y = (start[:2] + way * (k + 0.5) / 10).astype(int)
                column, row = min(max(x, 0), field.shape[2] - 1), min(max(y, 0), field.shape[1] - 1)
                dots.append(float(field[:, row, column] @ unit))
            if np.mean(np.array(dots) > 0.05) >= 0.5:
                found[a, b] = np.mean(dots)
    return found


def measure_decoding(rng: np.random.Generator, people: int, cfg: Pose2dConfig) -> tuple[float, float]:
    """Seconds of grouping an image of so many people, here and by the plain loop."""
    side, stride = 64, STRIDE[cfg.layout]
    joints, known = (
        torch.from_numpy(people_in(rng, people, side * stride))[None],
        torch.ones(1, people, 16, dtype=torch.bool),
    )
    heats = heat_maps(joints, known, side, stride, cfg.sigma_px)
    maps = torch.cat([heats, affinity_fields(joints, known, side, stride, cfg.limb_px)], 1)[0].numpy()
    ours, here = seconds(lambda: grouping.group_people(maps, stride), 5), grouping.limb_affinities
    grouping.limb_affinities = plain_affinities
    plain = seconds(lambda: grouping.group_people(maps, stride), 2)
    grouping.limb_affinities = here
    return ours, plain


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--people", type=int, nargs="+", default=[2, 8, 20])
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg, rng = Pose2dConfig(), np.random.default_rng(0)
    people, network = source(rng), PoseNet(cfg)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    rows = rng.integers(len(people), size=cfg.batch)
    drawing = seconds(lambda: draw_crops(people, rows, cfg, rng), args.steps)
    crops = draw_crops(people, rows, cfg, rng)
    ours = drawing + seconds(lambda: step(network, optimizer, crops, cfg), args.steps)
    plain = drawing + seconds(lambda: plain_step(network, optimizer, crops, cfg), max(2, args.steps // 2))
    print(f"{cfg.batch} crops of {cfg.size} px: {60 / ours:.0f} steps a minute, plain loop {60 / plain:.0f}")
    for count in args.people:
        ours, plain = measure_decoding(rng, count, cfg)
        print(f"{count} people: {1000 * ours:.1f} ms an image, plain loop {1000 * plain:.1f}")


if __name__ == "__main__":
    main()

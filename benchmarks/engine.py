"""What engines cost and save, in one run: painting directly against `inline`, and warm workers against loading each time.

    python benchmarks/engine.py [--partitions 4] [--rows 8] [--workers 2] [--repeats 5]

All ways paint the same images, which is checked. A loop that loads for each partition is measured twice: in one process, and
with a process for each partition, as runs of a partition each are.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.engine.generator import EngineGenerator
from posedreamer_assets.engine.inline import Inline
from posedreamer_assets.engine.processes import Processes
from posedreamer_assets.engine.settings import EngineSettings

CFG, IMAGE = GeneratorConfig(dtype="float32", device="cpu"), ImageConfig()


def given(rows: int, partition: int) -> tuple[np.ndarray, list[str], list[int]]:
    """Arguments of `generate`; other ones for each partition."""
    shape = (rows, IMAGE.height, IMAGE.width, 3)
    controls = np.random.default_rng(partition).integers(0, 256, shape, dtype=np.uint8)
    return controls, ["a woman in a red shirt"] * rows, [rows * partition + i for i in range(rows)]


def timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of a call."""
    started = clock()
    work()
    return clock() - started


def inline_against_direct(rows: int, repeats: int) -> dict[str, float]:
    """CPU seconds of the generator called directly, and through the engine, in turn."""
    engine = Inline()
    ways = {"direct": engine.local(CFG, IMAGE), "inline": EngineGenerator(engine, CFG, IMAGE)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        images = {}
        for name, generator in sorted(ways.items(), reverse=bool(repeat % 2)):
            controls, captions, seeds = given(rows, 2 * repeat + (name == "inline"))  # no control image was seen before
            paint = partial(generator.generate, controls, captions, seeds)
            seconds[name].append(timed(paint, time.process_time))
            images[name] = (
                ways["direct"].generate(*given(1, 0)) if name == "direct" else generator.generate(*given(1, 0))
            )
        assert np.array_equal(images["direct"], images["inline"])
    found = {name: statistics.median(all_of[1:]) for name, all_of in seconds.items()}  # the first warms up
    return {**found, "inline takes this share of direct": found["inline"] / found["direct"]}


def warm_against_loading(partitions: int, rows: int, workers: int) -> dict[str, float]:
    """Wall-clock seconds of all partitions, models not loaded at the start of any."""
    painted: dict[str, list[np.ndarray]] = {}

    def load_each_time() -> None:
        painted["loads"] = [load_generator(CFG, IMAGE).generate(*given(rows, i)) for i in range(partitions)]

    def a_process_each() -> None:
        for i in range(partitions):
            subprocess.run([sys.executable, __file__, "--only", str(i), "--rows", str(rows)], check=True)

    def with_workers(count: int) -> None:
        engine = Processes(EngineSettings("processes", workers=str(count)))
        generator = EngineGenerator(engine, CFG, IMAGE)
        painted[f"{count} workers"] = [generator.generate(*given(rows, i)) for i in range(partitions)]
        engine.close()

    found = {
        "a loop that loads for each partition": timed(load_each_time, time.perf_counter),
        "a process for each partition": timed(a_process_each, time.perf_counter),
    }
    for count in sorted({1, workers}):
        found[f"warm workers: {count}"] = timed(partial(with_workers, count), time.perf_counter)
        for one, other in zip(painted["loads"], painted[f"{count} workers"], strict=True):
            assert np.array_equal(one, other)
    least = found[f"warm workers: {workers}"]
    ratios = {f"{name}, against {workers} warm": seconds / least for name, seconds in found.items()}
    return {**found, **ratios}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--only", type=int, help="paint one partition with a generator loaded for it, and measure nothing"
    )
    args = parser.parse_args()
    if args.only is not None:
        load_generator(CFG, IMAGE).generate(*given(args.rows, args.only))
        return
    figures = {
        "CPU s": inline_against_direct(args.rows, args.repeats),
        "wall-clock s": warm_against_loading(args.partitions, args.rows, args.workers),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

"""What the asset graph costs beside the work: assets run by Dagster against the same calls in a plain loop.

    python benchmarks/orchestration_overhead.py [--poses 96] [--rounds 2]

Both make poses, control maps and rendered scenes of one batch of the pocket profile, each on a store of its own, in this
process and in turn. The loop calls the domain functions, writes the same rows and makes the same data checks; what the
graph adds are input digests, metadata, thumbnails, and a run with its events. These are the graph's cheapest stages, so the
share of the whole graph is smaller. The quickest of the rounds counts, once by wall clock and once by CPU time, which a busy
machine disturbs less. The projection takes the CPU time that the graph adds to a partition, and that of a pose.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

from posedreamer_assets.batches.control_maps import render_control_rows
from posedreamer_assets.batches.poses import make_pose_table
from posedreamer_assets.batches.scenes import render_scene_rows
from posedreamer_assets.body.model import load_body
from posedreamer_assets.check_runs import check_partition
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.driver import Runner
from posedreamer_assets.home import Home
from posedreamer_assets.stages import STAGES, planned_keys
from posedreamer_assets.storage import LanceStore

PARTITIONED = ("pose_library", "base/control_maps", "rendered_scenes")


def work(profile: Profile, store: LanceStore) -> None:
    """The domain calls of the stages, with rows read and written."""
    body = load_body(profile.body.model_path)
    for key in planned_keys(profile, "pose"):
        store.replace_partition("pose_library", key, make_pose_table(profile, body, key), input_digest="plain")
        poses = store.read("pose_library", keys=[key])
        maps, _ = render_control_rows(profile, poses, key)
        store.replace_partition("base_control_maps", key, maps, input_digest="plain")
        poses = store.read("pose_library", keys=[key])
        scenes, _ = render_scene_rows(profile, poses, key)
        store.replace_partition("rendered_scenes", key, scenes, input_digest="plain")


def checks(profile: Profile, store: LanceStore) -> None:
    """The data checks of what the work has written."""
    for name in PARTITIONED:
        for key in planned_keys(profile, "pose"):
            check_partition(store, STAGES[name].table, key)


def graph(profile: Profile, runner: Runner) -> None:
    """Work and checks through the assets."""
    for name in PARTITIONED:
        for key in planned_keys(profile, "pose"):
            runner.execute(STAGES[name], key)


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Wall clock and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def one_round(poses: int, folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds of work, checks and graph for one batch."""
    sizes = {"poses.batch_size": poses, "poses.batches": 1, "poses.align_batches": 0}
    profile = load_profile("pocket", sizes)
    store, home = LanceStore(str(folder / "plain")), Home(folder / "home")
    home.prepare(profile)
    with Runner(home) as runner:
        runner.execute(STAGES["body_model"], None)
        return {
            "work": timed(lambda: work(profile, store)),
            "checks": timed(lambda: checks(profile, store)),
            "graph": timed(lambda: graph(profile, runner)),
        }


def measure(poses: int, rounds: int) -> dict[str, float]:
    """Seconds of each part, and what follows from them."""
    with tempfile.TemporaryDirectory() as scratch:
        one_round(2, Path(scratch) / "warm-up")  # imports, GL context, Great Expectations
        seen = [one_round(poses, Path(scratch) / str(number)) for number in range(rounds)]
    best = {(part, i): min(r[part][i] for r in seen) for part in seen[0] for i in (0, 1)}
    figures: dict[str, float] = {}
    for i, clock in enumerate(("wall", "cpu")):
        plain = best["work", i] + best["checks", i]
        figures |= {f"{part}_{clock}_s": round(best[part, i], 3) for part in ("work", "checks", "graph")}
        figures[f"overhead_{clock}"] = round(best["graph", i] / plain - 1, 4)
    added = (best["graph", 1] - best["work", 1] - best["checks", 1]) / len(PARTITIONED)
    work_of_1000 = 1000 * best["work", 1] / (poses * len(PARTITIONED))
    figures["added_cpu_s_per_partition"] = round(added, 4)
    figures["overhead_of_1000_projected"] = round(added / work_of_1000, 4)
    return figures


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    print(json.dumps(measure(given.poses, given.rounds)))


if __name__ == "__main__":
    main()

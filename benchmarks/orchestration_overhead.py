"""What the asset graph costs beside the work: `posedreamer run` against the same domain calls in a plain loop.

    python benchmarks/orchestration_overhead.py [--poses 32] [--batches 2] [--rounds 2]

Both make body model, poses, control maps and rendered scenes of the pocket profile, on one store each, in this process, in
turn; the plain loop calls the domain functions and writes the same rows. The quickest of the rounds counts. The rest of the
graph does more work for each partition with the same bookkeeping, so its share is smaller. The projection takes the
measured overhead of a partition (with its checks, which are bookkeeping here) and the measured work of a pose.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

from posedreamer_assets.batches.control_maps import render_control_rows
from posedreamer_assets.batches.poses import make_pose_table
from posedreamer_assets.batches.scenes import render_scene_rows
from posedreamer_assets.body.model import load_body
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.driver import Runner
from posedreamer_assets.home import Home
from posedreamer_assets.stages import STAGES, Snapshot, planned_keys
from posedreamer_assets.storage import LanceStore

PARTITIONED = ("pose_library", "base/control_maps", "rendered_scenes")


def plain(profile: Profile, root: Path) -> None:
    """The domain calls of the stages, one partition after another, with rows written and no bookkeeping."""
    store = LanceStore(str(root))
    body = load_body(profile.body.model_path)
    for key in planned_keys(profile, "pose"):
        poses = make_pose_table(profile, body, key)
        store.replace_partition("pose_library", key, poses, input_digest="plain")
        poses = store.read("pose_library", keys=[key])
        store.replace_partition(
            "base_control_maps", key, render_control_rows(profile, poses, key)[0], input_digest="plain"
        )
        poses = store.read("pose_library", keys=[key])
        store.replace_partition("rendered_scenes", key, render_scene_rows(profile, poses, key)[0], input_digest="plain")


def graph(profile: Profile, runner: Runner) -> None:
    """The same through the assets, each with its digests, events, metadata, thumbnails and data checks."""
    for name in ("body_model", *PARTITIONED):
        stage = STAGES[name]
        for key in planned_keys(profile, stage.group) if stage.group else [None]:
            if not Snapshot(profile, LanceStore(str(runner.home.storage))).is_current(stage, key):
                runner.execute(stage, key)


def measure(poses: int, batches: int, rounds: int) -> dict[str, float]:
    """Seconds of both ways, and what follows from them."""
    sizes = {"poses.batch_size": poses, "poses.batches": batches, "poses.align_batches": 0}
    profile = load_profile("pocket", sizes)
    times: dict[str, list[float]] = {"plain": [], "graph": []}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds + 1):  # the first warms up: imports, GL context, Great Expectations
            folder = Path(scratch) / str(number)
            started = time.perf_counter()
            plain(profile, folder / "plain")
            between = time.perf_counter()
            home = Home(folder / "home")
            home.prepare(profile)
            with Runner(home) as runner:
                opened = time.perf_counter()
                graph(profile, runner)
                times["graph"].append(time.perf_counter() - opened)
            times["plain"].append(between - started)
    work, whole = (min(times[name][1:]) for name in ("plain", "graph"))
    per_partition = (whole - work) / (batches * len(PARTITIONED))
    per_pose = work / (batches * poses * len(PARTITIONED))
    return {
        "plain_s": round(work, 3),
        "graph_s": round(whole, 3),
        "overhead": round(whole / work - 1, 4),
        "overhead_s_per_partition": round(per_partition, 4),
        "work_s_per_pose_and_stage": round(per_pose, 5),
        "projected_overhead_of_1000": round(per_partition / (1000 * per_pose), 4),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=32)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    print(json.dumps(measure(given.poses, given.batches, given.rounds)))


if __name__ == "__main__":
    main()

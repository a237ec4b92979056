"""What the asset graph costs beside the work: assets run by Dagster against the same calls in a plain loop.

    python benchmarks/orchestration_overhead.py --whole [--poses 96] [--batches 4] [--align-batches 3]
    python benchmarks/orchestration_overhead.py [--poses 96] [--rounds 2]

`--whole` is the whole pocket graph with the shipped weights, from the body to the quality report: once by the driver, as
`posedreamer run` does it, and once in a loop that calls the functions of `batches/` in the same order and hands rows on in
memory. In the graph's time: reading and writing tables, digests, data checks, thumbnails, runs with their events, upkeep. In
the loop's: the calls alone, and checkpoint files in a folder. In neither: imports, the models' first loading and the run's
own report. The checks alone are timed too, on what the graph has stored, since they are work of their own.

Without it, the graph's three cheapest stages are made for one batch: poses, control maps and rendered scenes. Their loop
writes the same rows and makes the same data checks; what the graph adds are input digests, metadata, thumbnails, and a run
with its events. The quickest of the rounds counts. The projection takes the CPU time that the graph adds to a
partition, and that of a pose.

All in this process and in turn, by wall clock and by CPU time, which a busy machine disturbs less.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.body.model import load_body
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import Runner, open_store, run_main_job
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.pipeline.control_maps import render_control_rows
from posedreamer_assets.pipeline.dpo_checkpoint import align, make_pair_rows
from posedreamer_assets.pipeline.filtered_dataset import filter_rows
from posedreamer_assets.pipeline.graph import ORDER, STAGES, planned_keys
from posedreamer_assets.pipeline.hard_samples import fit_from_rows, make_hard_table
from posedreamer_assets.pipeline.pose_library import make_pose_table
from posedreamer_assets.pipeline.quality_report import measure as measure_quality
from posedreamer_assets.pipeline.raw_generations import generate_rows
from posedreamer_assets.pipeline.rendered_scenes import render_scene_rows
from posedreamer_assets.pipeline.sample_scores import score_rows
from posedreamer_assets.runtime.checking import check_asset, check_partition
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import CheckpointInfo, LanceStore
from posedreamer_assets.tables.fields import DATASET

PARTITIONED = ("pose_library", "base/control_maps", "rendered_scenes")
WARM_UP = {  # every stage has something to do, so that all that is loaded once is loaded
    "poses.batch_size": 12,
    "poses.batches": 2,
    "poses.align_batches": 1,
    "generator.steps": 2,
    "alignment.candidate_strengths": [1.0, 1.0],
    "alignment.val_share": 0.4,
    "alignment.test_share": 0.35,
    "alignment.min_gap": 0.0,
    "alignment.min_winner": 0.0,
    "alignment.steps": 1,
    "alignment.eval_every": 1,
    "alignment.batch_size": 2,
    "curation.min_oks": 0.0,
    "curation.max_people": 9,
    "curation.max_head_error_deg": 180.0,
    "curriculum.pool_size": 12,
    "curriculum.hard_batch_size": 4,
    "curriculum.min_distance": 0.0,
    "curriculum.boost_rounds": 2,
    "curriculum.folds": 2,
    "quality.bootstrap": 2,
}


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


# The whole graph


class Loop:
    """The whole graph's domain calls, stage by stage and batch by batch, rows handed on in memory.

    Attributes:
        rows: by stage, then by batch.
        seconds: by stage.
    """

    def __init__(self, profile: Profile, folder: Path) -> None:
        self.profile, self.folder = profile, folder
        self.rows: dict[str, dict[str, pa.Table]] = {}
        self.seconds: dict[str, float] = {}
        self.base, self.align, self.hard, self.pose = (
            sorted(planned_keys(profile, group)) for group in ("base", "align", "hard", "pose")
        )

    def run(self) -> None:
        """All stages in the graph's order."""
        profile, body = self.profile, load_body(self.profile.body.model_path)
        self._each("pose_library", self.pose, lambda key: make_pose_table(profile, body, key))
        self._each("base/control_maps", self.pose, lambda key: self._maps("pose_library", key))
        self._each("rendered_scenes", self.pose, lambda key: render_scene_rows(profile, self._of(key), key)[0])
        with self._timed("control_checkpoint"):
            load_generator(profile.generator, profile.image)
        self._each(
            "preference_pairs",
            self.align,
            lambda key: make_pair_rows(profile, self._of(key), self._of(key, "base/control_maps"), key)[0],
        )
        with self._timed("dpo_checkpoint"):
            read = ("pose_library", "base/control_maps", "preference_pairs")
            align(profile, *(self._all(name, self.align) for name in read)).write(self._place("dpo_checkpoint"))
        self._round("base", "pose_library", self.base)
        with self._timed("difficulty_model"):
            read = ("pose_library", "base/sample_scores")
            fit_from_rows(profile, *(self._all(name, self.base) for name in read)).write(
                self._place("difficulty_model")
            )
        model = self.folder / "difficulty_model"
        self._each("hard_samples", self.hard, lambda key: make_hard_table(profile, body, model, key)[0])
        self._each("hard/control_maps", self.hard, lambda key: self._maps("hard_samples", key))
        self._round("hard", "hard_samples", self.hard)
        with self._timed("dataset"):
            self.dataset()
        with self._timed("quality_report"):
            measure_quality(
                profile,
                scenes=self._all("rendered_scenes", self.pose),
                maps=self._all("base/control_maps", self.pose),
                generations=self._all("base/raw_generations", self.base),
                base=self._all("base/filtered_dataset", self.base),
                hard=self._all("hard/filtered_dataset", self.hard),
            )(self._place("quality_report"))

    def dataset(self) -> pa.Table:
        """The kept rows of both rounds, by sample id."""
        rounds = [*self.rows["base/filtered_dataset"].values(), *self.rows["hard/filtered_dataset"].values()]
        kept = pa.concat_tables(rounds).filter(pc.field("keep")).select(DATASET.names)
        return kept.sort_by("sample_id")

    def _round(self, name: str, poses: str, keys: Sequence[str]) -> None:
        place = self.folder / "dpo_checkpoint"
        adapter = CheckpointInfo("dpo_checkpoint", "plain", "", {}, "", lambda _: place)
        maps, images, scores = f"{name}/control_maps", f"{name}/raw_generations", f"{name}/sample_scores"

        def read(key: str, *stages: str) -> list[pa.Table]:
            return [self._of(key, stage) for stage in (poses, *stages)]

        self._each(
            images,
            keys,
            lambda key: generate_rows(self.profile, name, *read(key, maps), adapter=adapter, key=key)[0],
        )
        self._each(scores, keys, lambda key: score_rows(self.profile, *read(key, maps, images), key=key))
        self._each(
            f"{name}/filtered_dataset",
            keys,
            lambda key: filter_rows(self.profile, name, *read(key, maps, images, scores)),
        )

    def _maps(self, poses: str, key: str) -> pa.Table:
        return render_control_rows(self.profile, self._of(key, poses), key)[0]

    def _each(self, stage: str, keys: Sequence[str], make: Callable[[str], pa.Table]) -> None:
        with self._timed(stage):
            self.rows[stage] = {key: make(key) for key in keys}

    def _of(self, key: str, stage: str = "pose_library") -> pa.Table:
        return self.rows[stage][key]

    def _all(self, stage: str, keys: Sequence[str]) -> pa.Table:
        return pa.concat_tables([self._of(key, stage) for key in keys])

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir(parents=True)
        return place

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - started, 2)


def whole_checks(profile: Profile, home: Home) -> None:
    """The data checks of everything that the graph has stored, with their pages."""
    store = open_store(home)
    for stage in ORDER:
        for key in planned_keys(profile, stage.group) if stage.group else [None]:
            check_asset(home, store, stage.table, key, profile)


def one_whole_round(profile: Profile, folder: Path, *, graph_first: bool) -> dict[str, Any]:
    """Seconds of the loop, of the graph and of its checks, and of each stage.

    Raises:
        AssertionError: loop and graph made different images.
    """
    loop, home, timings = Loop(profile, folder / "plain"), Home(folder / "home"), dict[str, float]()

    def graph_run() -> None:
        with mock.patch("posedreamer_assets.report.run_report.write_run_report", return_value={}):
            timings.update({t.stage: t.seconds for t in run_main_job(home, profile).timings})

    parts: dict[str, Callable[[], None]] = {"loop": loop.run, "graph": graph_run}
    seconds = {part: timed(parts[part]) for part in (("graph", "loop") if graph_first else ("loop", "graph"))}
    stored = open_store(home).read("dataset", columns=["sample_id", "image"])
    assert stored.equals(loop.dataset().select(["sample_id", "image"]).cast(stored.schema)), "not the same work"
    seconds["checks"] = timed(lambda: whole_checks(profile, home))
    return {"seconds": seconds, "stages": {name: [loop.seconds.get(name, 0.0), timings[name]] for name in timings}}


def measure_whole(sizes: dict[str, Any], rounds: int, warm_up: dict[str, Any] | None = None) -> dict[str, Any]:
    """Seconds of loop, graph and checks, their ratios, and each stage's seconds in loop and graph, of the quickest round."""
    profile = load_profile("pocket", sizes)
    with tempfile.TemporaryDirectory() as scratch:
        if warm_up is not None:
            one_whole_round(load_profile("pocket", warm_up), Path(scratch) / "warm-up", graph_first=True)
        places = [Path(scratch) / str(number) for number in range(rounds)]
        seen = [one_whole_round(profile, place, graph_first=i % 2 == 0) for i, place in enumerate(places)]
    best = min(seen, key=lambda one: one["seconds"]["graph"][1])
    loop, graph_, checks_ = (best["seconds"][part] for part in ("loop", "graph", "checks"))
    partitions = sum(len(planned_keys(profile, stage.group)) if stage.group else 1 for stage in ORDER)
    figures: dict[str, Any] = {"partitions": partitions}
    for i, clock in enumerate(("wall", "cpu")):
        figures |= {f"{part}_{clock}_s": round(best["seconds"][part][i], 2) for part in best["seconds"]}
        figures[f"overhead_{clock}"] = round(graph_[i] / loop[i] - 1, 4)
        figures[f"overhead_{clock}_without_checks"] = round((graph_[i] - checks_[i]) / loop[i] - 1, 4)
    figures["added_cpu_s_per_partition"] = round((graph_[1] - loop[1]) / partitions, 3)
    return {**figures, "stages_loop_and_graph_s": best["stages"]}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="the whole graph, with the shipped weights")
    parser.add_argument("--poses", type=int, help="poses of a batch, 96 by default")
    parser.add_argument("--batches", type=int, help="base batches, for --whole; the profile's by default")
    parser.add_argument("--align-batches", type=int, help="the same of alignment batches")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, for --whole")
    parser.add_argument("--rounds", type=int, help="2 by default, 1 with --whole")
    parser.add_argument("--cold", action="store_true", help="--whole without the small run before, for trying it out")
    given = parser.parse_args()
    if not given.whole:
        print(json.dumps(measure(given.poses or 96, given.rounds or 2)))
        return
    counts = {
        "poses.batch_size": given.poses,
        "poses.batches": given.batches,
        "poses.align_batches": given.align_batches,
    }
    settings = {key: json.loads(value) for key, _, value in (text.partition("=") for text in given.set)}
    sizes = {key: value for key, value in counts.items() if value is not None} | settings
    print(json.dumps(measure_whole(sizes, given.rounds or 1, None if given.cold else WARM_UP)))


if __name__ == "__main__":
    main()

"""What the asset graph costs beside the work: assets run by Dagster against the same stages in a plain loop.

    python benchmarks/orchestration_overhead.py --whole [--poses 96] [--batches 4] [--align-batches 3]
    python benchmarks/orchestration_overhead.py [--poses 96] [--rounds 2]

`--whole` is the whole pocket graph with the shipped weights, from the body to the quality report: once by the driver, as
`posedreamer run` does it, and once in a loop that calls `make` of every stage of `pipeline/` in the same order and hands rows
on in memory. In the graph's time: reading and writing tables, digests, data checks, thumbnails, runs with their events,
upkeep. In the loop's: the calls alone, and checkpoint files in a folder. In neither: imports, the models' first loading and
the run's own report. The checks alone are timed too, on what the graph has stored, since they are work of their own.

Without it, the graph's three cheapest stages are made for one batch: poses, control maps and rendered scenes. What the graph
adds beside the stages' and the checks' own time are tables, input digests, metadata, thumbnails, and a run with its events.
The quickest of the rounds counts. The projection takes the CPU time that the graph adds to a partition, and that of a pose.

All in this process and in turn, by wall clock and by CPU time, which a busy machine disturbs less.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import pyarrow as pa

from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.digests import row_digests
from posedreamer_assets.pipeline import Stage, graph_of
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.runtime.checking import check_asset
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.keys import of_groups

COMPARED = {"raw_generations": ["sample_id", "image"], "filtered_dataset": ["sample_id", "keep", "reason", "oks"]}
CHEAPEST = ("pose_library", "base/control_maps", "rendered_scenes")
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
    "curriculum.rounds": [{"batches": 1, "size": 4}],
    "curriculum.min_distance": 0.0,
    "curriculum.boost_rounds": 2,
    "curriculum.folds": 2,
    "quality.bootstrap": 2,
}


@dataclass(frozen=True)
class PlainCheckpoint:
    """What a stage without partitions left in a folder."""

    digest: str
    metrics: Mapping[str, Any]
    path: Path


class Loop:
    """The stages' own work, stage by stage and batch by batch, rows handed on in memory: a `pipeline.stage.Reader`.

    Attributes:
        tables: rows by table, then by partition.
        seconds: by stage.
    """

    def __init__(self, profile: Profile, folder: Path) -> None:
        self.profile, self.folder = profile, folder
        self.tables: dict[str, dict[str, pa.Table]] = {}
        self.seconds: dict[str, float] = {}
        self._checkpoints: dict[str, PlainCheckpoint] = {}

    def run(self, only: Sequence[str] = ()) -> None:
        """All stages in the graph's order, or some of them."""
        for stage in graph_of(self.profile):
            if not only or stage.key in only:
                self._make(stage.under(stage, self.profile))

    def _make(self, stage: Stage) -> None:
        started, models = time.perf_counter(), Models(self.profile)
        if stage.partitioned:
            for key in planned_keys(self.profile, stage.groups):
                rows = stage.make(Inputs(stage, self.profile, self, models, key)).rows
                assert stage.table is not None and rows is not None
                digests = (
                    pa.array(row_digests(rows.combine_chunks().to_batches()[0])) if rows else pa.array([], pa.string())
                )
                self.tables.setdefault(stage.table, {})[key] = rows.append_column("row_digest", digests)
        else:
            place = self.folder / stage.checkpoint_name
            place.mkdir(parents=True)
            figures = stage.make(Inputs(stage, self.profile, self, models, folder=place)).figures
            self._checkpoints[stage.key] = PlainCheckpoint("plain", figures, place)
        self.seconds[stage.key] = round(time.perf_counter() - started, 2)

    def rows(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Rows of partitions, ordered by sample id."""
        found = pa.concat_tables([self.tables[table][key].select(columns) for key in keys])
        return found.sort_by("sample_id")

    def take(self, table: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """The rows with these sample ids, in this order."""
        found = self.rows(table, list(dict.fromkeys(name.split("/")[0] for name in ids)), columns)
        place = {name: i for i, name in enumerate(found.column("sample_id").to_pylist())}
        return found.take([place[name] for name in ids])

    def keys(self, table: str, groups: Sequence[str]) -> list[str]:
        """Every partition of these groups, sorted."""
        return of_groups(self.tables.get(table, {}), groups)

    def contents(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        """No digests are kept."""
        return dict.fromkeys(keys, "plain")

    def checkpoint(self, key: str) -> PlainCheckpoint:
        """The result of a stage without partitions."""
        return self._checkpoints[key]


def check_everything(profile: Profile, home: Home, only: Sequence[str] = ()) -> None:
    """The data checks of what the graph has stored."""
    store = home.store()
    for stage in graph_of(profile):
        if only and stage.key not in only:
            continue
        for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
            check_asset(store, stage, key, profile)


def through_the_graph(profile: Profile, runner: Runner, only: Sequence[str]) -> None:
    """Work and checks through the assets."""
    for name in only:
        stage = graph_of(profile)[name]
        for key in planned_keys(profile, stage.groups):
            runner.execute(stage, key)


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Wall clock and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def one_round(poses: int, folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds of work, graph and checks for one batch."""
    sizes = {"poses.batch_size": poses, "poses.batches": 1, "poses.align_batches": 0}
    profile, home = load_profile("pocket", sizes), Home(folder / "home")
    home.prepare(profile)
    loop = Loop(profile, folder / "plain")
    loop.run(["body_model"])
    with Runner(home) as runner:
        runner.execute(graph_of(profile)["body_model"], None)
        return {
            "work": timed(lambda: loop.run(CHEAPEST)),
            "graph": timed(lambda: through_the_graph(profile, runner, CHEAPEST)),
            "checks": timed(lambda: check_everything(profile, home, CHEAPEST)),
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
    added = (best["graph", 1] - best["work", 1] - best["checks", 1]) / len(CHEAPEST)
    work_of_1000 = 1000 * best["work", 1] / (poses * len(CHEAPEST))
    figures["added_cpu_s_per_partition"] = round(added, 4)
    figures["overhead_of_1000_projected"] = round(added / work_of_1000, 4)
    return figures


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
    for table, columns in COMPARED.items():
        made = home.store().read(table, columns=columns)
        plain = loop.rows(table, sorted(loop.tables[table]), columns)
        assert made.equals(plain.cast(made.schema)), f"not the same work: {table}"
    seconds["checks"] = timed(lambda: check_everything(profile, home))
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
    partitions = sum(len(planned_keys(profile, s.groups)) if s.partitioned else 1 for s in graph_of(profile))
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

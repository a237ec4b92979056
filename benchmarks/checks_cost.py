"""What the checks of one partition cost, against what it costs to make the partition.

Makes a base batch with the pocket profile as `posedreamer run` does, stage by stage: poses, control maps, scenes, images,
scores, verdicts. Repeats its rows under new ids until there are as many as asked for, and runs all checks of each table
on them. Repeated content fails the checks of uniqueness, which costs a little more than passing them. Times are of the
processor, so that neighbours do not count.

    python benchmarks/checks_cost.py --rows 1000 --made 96
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import pyarrow as pa
from orchestration_overhead import Loop

from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.runtime.checking import check_partition
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.keys import sample_id

KEY = "procedural-0000"
STAGES = (
    *("body_model", "pose_library", "base/control_maps", "rendered_scenes", "control_checkpoint", "dpo_checkpoint"),
    *("base/raw_generations", "base/sample_scores", "base/filtered_dataset"),
)


def main() -> None:
    """Make, check, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="Rows that are checked.")
    parser.add_argument("--made", type=int, default=96, help="Rows that are made.")
    given = parser.parse_args()
    rows: int = given.rows
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        store = LanceStore(Path(folder))
        made = {table: seconds * rows / given.made for table, seconds in _make(store, given.made).items()}
        for table in made:
            _repeat(store, table, rows)
        _check(store, "pose_library")  # the first call of a process loads Great Expectations
        checked = {table: _check(store, table) for table in made}
        total = sum(seconds for _, seconds in checked.values())
    print(f"{'table':<24}{'made, s':>10}{'checks':>8}{'checked, s':>12}")
    for table, seconds in made.items():
        count, took = checked[table]
        print(f"{table:<24}{seconds:>10.1f}{count:>8}{took:>12.2f}")
    making = sum(made.values())
    print(
        f"{rows} rows: made in {making:.0f} s ({making / rows:.3f} s each, from {given.made}); checked in {total:.1f} s"
    )
    print(f"all checks take {100 * total / making:.2f} % of the time that making the rows takes")
    images = made["raw_generations"]
    print(
        f"and {100 * total / images:.2f} % of the time that generating the images alone takes ({images / rows:.3f} s each)"
    )


def _check(store: LanceStore, table: str) -> tuple[int, float]:
    started = time.process_time()
    outcomes = check_partition(store, table, KEY, load_profile("pocket"))
    return len(outcomes), time.process_time() - started


def _repeat(store: LanceStore, table: str, rows: int) -> None:
    once = store.read(table, [KEY]).drop_columns(["row_digest", "input_digest"])
    repeated = pa.concat_tables([once] * -(-rows // once.num_rows)).slice(0, rows)
    ids = pa.array([sample_id(KEY, index) for index in range(rows)])
    place = repeated.schema.get_field_index("sample_id")
    renamed = repeated.set_column(place, repeated.schema.field(place), ids)
    store.replace_partition(table, KEY, renamed, input_digest="made")


def _make(store: LanceStore, rows: int) -> dict[str, float]:
    """Seconds that each table took, writing included."""
    sizes = {"poses.batch_size": rows, "poses.batches": 1, "poses.align_batches": 0, "alignment.method": "none"}
    profile = load_profile("pocket", sizes)
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(profile, Path(folder))
        for stage in graph_of(profile):
            if stage.key not in STAGES:
                continue
            started = time.process_time()
            loop.run([stage.key])
            if stage.table:
                table = loop.tables[stage.table][KEY].drop_columns(["row_digest"])
                store.replace_partition(stage.table, KEY, table, input_digest="made")
                took[stage.table] = time.process_time() - started
    return took


if __name__ == "__main__":
    main()

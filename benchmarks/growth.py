"""Time to open a table, replace a partition and read one, as the table grows, with upkeep and without.

python benchmarks/growth.py [--partitions 2000] [--without 500] [--rows 8] [--every 20]

Two tables grow; the one without upkeep stops earlier, as it takes ever longer. Both are timed midway between two rounds
of upkeep, in turn with a third table that stays at ten partitions. Versions older than two seconds are cleaned up, as
those older than a week are in use. Prints a Markdown table: milliseconds, and in brackets how often that of the table of
ten partitions at the same moment.
"""

import argparse
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets.tables.keys import sample_id

TABLE = "sample_scores"
STOPS = (10, 50, 110, 250, 490, 990, 1990, 3990)  # midway between two rounds of upkeep
SAMPLES = 15  # timings that the shortest is taken of: the others tell what else the machine was doing
FIGURES = ("open", "read", "replace")


def rows(key: str, count: int) -> pa.Table:
    """Small rows: an id and two figures."""
    ids = [sample_id(key, i) for i in range(count)]
    oks, people = pa.array([0.5] * count, pa.float32()), pa.array([1] * count, pa.int32())
    return pa.table({"sample_id": ids, "oks": oks, "people": people})


def key_of(number: int) -> str:
    """The number-th partition."""
    return f"growth-{number:04d}"


def figures(stores: dict[str, LanceStore], partitions: dict[str, int], count: int) -> dict[str, list[float]]:
    """For each store: milliseconds to open it, and to read and replace a partition; the shortest of several.

    The stores take turns, so that what else the machine does meets all of them.
    """
    actions = (
        lambda store, key: store.version(TABLE),
        lambda store, key: store.read(TABLE, [key]),
        lambda store, key: store.replace_partition(TABLE, key, rows(key, count), input_digest="1"),
    )
    spent: dict[str, list[list[float]]] = {name: [[] for _ in actions] for name in stores}
    for figure, action in enumerate(actions):
        for sample in range(SAMPLES):
            for name, store in stores.items():
                key = key_of(sample * partitions[name] // SAMPLES)
                start = time.perf_counter()
                action(store, key)
                spent[name][figure].append(time.perf_counter() - start)
    return {name: [1000 * min(seconds) for seconds in lists] for name, lists in spent.items()}


def megabytes(store: LanceStore) -> float:
    """What a store takes on the disk."""
    return sum(f.stat().st_size for f in Path(store.root).rglob("*") if f.is_file()) / 1e6


Measured = dict[int, dict[str, list[float]]]
"""By number of partitions, then by store: milliseconds of each of FIGURES."""


def grow(partitions: int, without: int, count: int, every: int) -> tuple[Measured, float, dict[str, float]]:
    """Grow the tables; returns the timings, seconds of upkeep in all, and megabytes of each store at the end."""
    largest = {"ten": 10, "with": partitions, "without": without}
    measured: dict[int, dict[str, list[float]]] = {}
    upkeep_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        stores = {name: LanceStore(Path(folder) / name) for name in largest}
        for number in range(1, partitions + 1):
            key = key_of(number - 1)
            for name, store in stores.items():
                if number <= largest[name]:
                    store.replace_partition(TABLE, key, rows(key, count), input_digest="0")
            if number in STOPS:
                compared = {n: s for n, s in stores.items() if n == "ten" or number <= largest[n]}
                counts = {name: min(number, largest[name]) for name in compared}
                measured[number] = figures(compared, counts, count)
            if number % every == 0:
                start = time.perf_counter()
                stores["with"].maintain(TABLE, Plan(keep=timedelta(seconds=2)))
                upkeep_s += time.perf_counter() - start
        sizes = {name: megabytes(store) for name, store in stores.items()}
    return measured, upkeep_s, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=2000)
    parser.add_argument("--without", type=int, default=500, help="partitions of the table without upkeep")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--every", type=int, default=20, help="partitions between two rounds of upkeep")
    args = parser.parse_args()
    measured, upkeep_s, sizes = grow(args.partitions, args.without, args.rows, args.every)
    print(f"Upkeep every {args.every} partitions, {upkeep_s:.1f} s in all; {args.rows} rows each.\n")
    print(
        "| partitions | open, upkeep | read | replace | open, no upkeep | read | replace |\n|---|---|---|---|---|---|---|"
    )
    for number, found in measured.items():
        cells = [_cell(found, name, i) for name in ("with", "without") for i in range(len(FIGURES))]
        print(f"| {number} | {' | '.join(cells)} |")
    print(f"\nOn the disk: {sizes['with']:.1f} MB with, {sizes['without']:.1f} MB without ({args.without} partitions).")


def _cell(found: dict[str, list[float]], name: str, figure: int) -> str:
    if name not in found:
        return "-"
    value, ten = found[name][figure], found["ten"][figure]
    return f"{value:.1f} ({value / ten:.1f}x)"


if __name__ == "__main__":
    main()

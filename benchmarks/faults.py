"""Injects faults into stores; counts rows lost, doubled and torn, and bad rows that passed. Prints a Markdown table.

python benchmarks/faults.py [--kills 1000] [--jobs 1] [--seed 0] [--report FILE]

Kills -9 in every kind of write, and between the write of a partition and its checks, rival processes, and an object store
that fails, with the code that the tests use (posedreamer_assets_tests/storage_faults). A kill takes two to five seconds.
What was done stands in FILE.jsonl, and the same command goes on after it. Exit code 1 when a row is lost, doubled, torn or
damaged, or a bad one passed. Needs the `dev` extra.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from posedreamer_assets_tests.storage_faults import kills, rivals, unchecked
from posedreamer_assets_tests.storage_faults.labelled import Tally
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options, running_server
from posedreamer_assets_tests.storage_faults.test_object_store_faults import write_through_faults

HEAD = "| fault | injected | rows lost | rows doubled | torn | damaged | bad rows passed |\n" + "|---" * 7 + "|"
AT_ONCE = 25  # kills on one store, after which another is begun and what was found is noted
SHARES = {"writes, folder": 0.55, "writes, S3": 0.15, "checks, folder": 0.25, "checks, S3": 0.05}  # of the kills


@dataclass
class Found:
    """What came of some faults of one kind.

    Attributes:
        kind: a key of SHARES, or of another kind of fault.
        seed: that they were drawn with.
        injected: faults by kind.
        more: other numbers worth telling, by what they are of.
        bad_passed: rows that a check refuses and that were held to be up to date, or built from.
        tally: what was found wrong with rows.
    """

    kind: str
    seed: int
    injected: Counter[str]
    more: Counter[str]
    bad_passed: int = 0
    tally: Tally = field(default_factory=Tally)

    def line(self) -> str:
        """A row of the table."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.injected.items()))
        first = f"{self.injected.total()} ({kinds})" if len(self.injected) > 1 else kinds
        parts = [first, *(f"{n} {what}" for what, n in self.more.items())]
        tally = self.tally
        wrong = [tally.lost, tally.doubled, tally.torn, tally.damaged, self.bad_passed]
        return f"| {self.kind} | {'; '.join(parts)} | {' | '.join(map(str, wrong))} |"

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return self.tally.clean and not self.bad_passed

    def and_also(self, other: "Found") -> "Found":
        """Both together."""
        tally = Tally(**{name: value + vars(other.tally)[name] for name, value in vars(self.tally).items()})
        passed = self.bad_passed + other.bad_passed
        return Found(self.kind, self.seed, self.injected + other.injected, self.more + other.more, passed, tally)


def kill(kind: str, endpoint: str, count: int, seed: int) -> Found:
    """Kill `count` processes on a new store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        at, given = (new_bucket(endpoint), options(endpoint)) if "S3" in kind else (str(folder / "store"), None)
        if kind.startswith("writes"):
            done = kills.inject(at, given, folder, count, seed)
            more = Counter({"had taken effect": done.took_effect.total(), "writes finished": done.writes})
            return Found(kind, seed, done.kills, more, 0, done.tally)
        held = unchecked.inject(at, given, folder, count, seed)
        more = Counter({"bad partitions met unchecked": held.unchecked_bad, "runs went on": held.runs})
        return Found(kind, seed, held.kills, more, held.bad_passed, held.tally)


def planned(total: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Kind, number of kills and seed of each part."""
    for place, (kind, share) in enumerate(SHARES.items()):
        left = round(total * share)
        for part in range(0, left, AT_ONCE):
            yield kind, min(AT_ONCE, left - part), seed + 1_000_000 * place + part


def others(endpoint: str, folder: Path, seed: int) -> Iterator[Found]:
    """Rival writers, and a failing object store."""
    keys = [f"procedural-{i:04d}" for i in range(8)]
    plans = {f"w{i}": keys[i:] + keys[:i] for i in range(8)}
    for place, root, given in (
        ("folder", str(folder / "rivals"), None),
        ("S3", new_bucket(endpoint), options(endpoint)),
    ):
        report = rivals.compete(root, given, folder, plans)
        assert report.failed == 0, f"{report.failed} writers failed"
        more = Counter({"rounds of upkeep": report.upkeeps, "reads beside them": report.reads})
        injected = Counter({"processes x 8 partitions": 8})
        yield Found(f"overlapping writers, {place}", seed, injected, more, 0, report.tally)
    proxy, tally = write_through_faults(endpoint, folder, share=0.1, rounds=5, seed=seed)
    yield Found("failing S3, requests", seed, proxy.faults, Counter(), 0, tally)


class Noted:
    """What was found so far, in a file of one line each."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        lines = file.read_text().splitlines() if file is not None and file.exists() else []
        self.found = [_read(line) for line in lines]

    def has(self, kind: str, seed: int) -> bool:
        """Whether it was done before."""
        return any(one.kind == kind and one.seed == seed for one in self.found)

    def add(self, found: Found) -> None:
        """Note it, and tell."""
        self.found.append(found)
        for note in found.tally.notes:
            print(note, file=sys.stderr, flush=True)
        print(found.line(), flush=True)
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(vars(found) | {"tally": vars(found.tally)}) + "\n")

    def table(self) -> str:
        """One row for each kind."""
        together: dict[str, Found] = {}
        for found in self.found:
            before = together.get(found.kind)
            together[found.kind] = before.and_also(found) if before else found
        order = [*SHARES, *(kind for kind in together if kind not in SHARES)]
        return "\n".join([HEAD, *(together[kind].line() for kind in order if kind in together)])


def _read(line: str) -> Found:
    given = json.loads(line)
    counts = {name: Counter(given[name]) for name in ("injected", "more")}
    return Found(**{**given, **counts, "tally": Tally(**given["tally"])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in all")
    parser.add_argument("--jobs", type=int, default=1, help="stores that are attacked at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--report",
        type=Path,
        help="write the table into this file; an interrupted report goes on after what was noted beside it, in .jsonl",
    )
    args = parser.parse_args()
    noted = Noted(args.report.with_suffix(".jsonl") if args.report else None)
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, running_server() as endpoint:
        with ProcessPoolExecutor(args.jobs, processes) as pool:
            todo = [part for part in planned(args.kills, args.seed) if not noted.has(part[0], part[2])]
            for ended in as_completed([pool.submit(kill, kind, endpoint, n, seed) for kind, n, seed in todo]):
                noted.add(ended.result())
        for found in others(endpoint, Path(name), args.seed):
            if not noted.has(found.kind, found.seed):
                noted.add(found)
    print(f"\n{noted.table()}")
    if args.report:
        args.report.write_text(noted.table() + "\n")
        args.report.with_suffix(".jsonl").unlink(missing_ok=True)  # the next report is measured anew
    sys.exit(not all(found.clean for found in noted.found))


if __name__ == "__main__":
    main()

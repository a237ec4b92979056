"""Kills -9 between the write of a partition and its checks, and what the next one makes of rows that nobody looked at.

A worker makes partitions, some of them with rows that a check of severity error refuses, has them checked, and makes the
stage below. The parent kills it, and then asks as the next process does: are bad rows up to date, does a stage that reads
them refuse, and does the next run look at them before it says "up to date"? Which rows are bad is known from the start: both
kinds of each partition are made once beside, and digests tell them apart.

    python -m posedreamer_assets_tests.storage_faults.unchecked ROOT SEED CACHE OPTIONS    is one worker
"""

import json
import random
import sys
import time
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from posedreamer_assets.errors import CheckError
from posedreamer_assets.runtime.checking import check_asset
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import make
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.runtime.small import MAPS, POSES, captions_lost, make_one, small_profile
from posedreamer_assets_tests.storage_faults import labelled, workers

PROFILE = small_profile(**{"poses.batches": 3})
KEYS = [f"procedural-{i:04d}" for i in range(3)]
CHOSEN = ("body_model", POSES, MAPS)
RUN_EVERY = 8  # kills, after which `posedreamer run` itself goes on; in two homes by turns
PHASES = ("write", "check", "below")
TABLES = (POSES, "control_maps", "check_results")


@dataclass
class Report:
    """Kills by the state of the partition that was being made, and what was found wrong.

    Attributes:
        kills: "before its rows", "rows unchecked" and "rows checked" say what is stored of the partition under way, by this
            write of it or an earlier one;
            "below" that the stage that reads it was being made.
        unchecked_bad: partitions of bad rows without an outcome that were found after kills.
        bad_passed: rows of partitions that were bad, or were made from bad ones, and were held to be up to date, or built
            from, or left by a run.
        runs: runs that went on after a kill.
        tally: rows doubled and files damaged.
    """

    kills: Counter[str] = field(default_factory=Counter)
    unchecked_bad: int = 0
    bad_passed: int = 0
    runs: int = 0
    tally: labelled.Tally = field(default_factory=labelled.Tally)

    def passed(self, rows: int, what: str) -> None:
        """Bad rows went through."""
        self.bad_passed += rows
        self.tally.notes.append(f"bad rows passed: {what}")


@dataclass(frozen=True)
class Oracle:
    """Digests of each partition's good and bad poses, and of the inputs of maps of bad poses."""

    good: dict[str, str]
    bad: dict[str, str]
    maps_of_bad: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Oracle":
        """Make both kinds in a store of their own."""
        store = LanceStore(str(folder))
        make_one(store, PROFILE, "body_model")
        good = {key: make_one(store, PROFILE, POSES, key, checked=False).content for key in KEYS}
        with captions_lost(*KEYS):
            stage = Snapshot(PROFILE, store).graph[POSES]
            bad = {key: make(Snapshot(PROFILE, store), stage, key, force=True).content for key in KEYS}
        after = Snapshot(PROFILE, store)
        return cls(good, bad, {key: after.input_digest(after.graph[MAPS], key) for key in KEYS})


def inject(root: str, options: dict[str, str] | None, folder: Path, kills: int, seed: int) -> Report:
    """Kill `kills` workers, one after the other, on one store, and go on after each.

    Args:
        root: of the store.
        options: storage options; with some the runs of the command line are left out, which take theirs from the
            environment.
        folder: for what is needed beside the store.
        kills: how many.
        seed: of the worker's choices and of the moments.
    """
    oracle, report, drawn = Oracle.of(folder / "oracle"), Report(), random.Random(seed)
    store = LanceStore(root, options, cache=folder / "cache")
    make_one(store, PROFILE, "body_model")
    homes = [Home(folder / name) for name in ("one home", "another home")]
    seconds: dict[str, float] = dict.fromkeys(PHASES, 0.2)
    for number in range(kills):
        phase = PHASES[(0, 1, 1, 2)[number % 4]]
        key, ended_in = _one_worker(root, options, folder, seed + number, phase, drawn, seconds)
        fresh = LanceStore(root, options, cache=folder / "cache")
        report.kills[_state(fresh, key, ended_in)] += 1
        look(fresh, oracle, report, number)
        if options is None and number % RUN_EVERY == RUN_EVERY - 1:
            _go_on(homes[report.runs % 2], root, oracle, report)
    return report


def _one_worker(
    root: str,
    options: dict[str, str] | None,
    folder: Path,
    seed: int,
    wanted: str,
    drawn: random.Random,
    seconds: dict[str, float],
) -> tuple[str, str]:
    """Start a worker and kill it within a phase of the wanted kind; returns the partition and the phase it was in."""
    worker = workers.start("unchecked", root, seed, folder / "worker", options)
    assert worker.stdout is not None
    skip, started, last = drawn.randrange(3), time.perf_counter(), ["", ""]
    for line in worker.stdout:
        now = time.perf_counter()
        if last[0]:
            seconds[last[0]] = 0.7 * seconds[last[0]] + 0.3 * (now - started)
        last, started = json.loads(line), now
        skip -= last[0] == wanted
        if skip < 0:
            break
    lines = workers.kill(worker, drawn.uniform(0, 1.1 * seconds[wanted]))
    phase, key = lines[-1] if lines else last
    return key, phase


def _state(store: LanceStore, key: str, phase: str) -> str:
    if phase == "below":
        return "below"
    snapshot = Snapshot(PROFILE, store)
    stage = snapshot.graph[POSES]
    if snapshot.stored(stage, key) is None:
        return "before its rows"
    return "rows checked" if snapshot.known(stage, key) else "rows unchecked"


def look(store: LanceStore, oracle: Oracle, report: Report, number: int) -> None:
    """What the next process holds to be up to date, and what it makes."""
    snapshot = Snapshot(PROFILE, store)
    poses, maps = snapshot.graph[POSES], snapshot.graph[MAPS]
    for key, stored in snapshot.partitions(poses).items():
        if stored.content not in (oracle.good[key], oracle.bad[key]):
            report.tally.torn += 1
            report.tally.notes.append(f"kill {number}: {key} holds neither its good rows nor its bad ones")
        if stored.content != oracle.bad[key]:
            continue
        report.unchecked_bad += snapshot.known(poses, key) is None
        if snapshot.is_current(poses, key) or key in snapshot.current_keys(POSES, ("base",)):
            report.passed(stored.rows, f"kill {number}: {key} is held to be up to date")
        if number % 2:  # every other time the outcome stays open for the next worker
            with suppress(CheckError):
                make(Snapshot(PROFILE, store), maps, key)
                report.passed(stored.rows, f"kill {number}: maps were made from {key}")
    _look_below(store, oracle, report, f"kill {number}")
    labelled.damage(store, report.tally, TABLES)
    for table in TABLES:
        names = store.read(table, columns=["sample_id"], missing_ok=True).column("sample_id").to_pylist()
        report.tally.doubled += len(names) - len(set(names))


def _look_below(store: LanceStore, oracle: Oracle, report: Report, when: str) -> None:
    for key, info in store.partitions("control_maps").items():
        if info.input_digest == oracle.maps_of_bad[key]:
            report.passed(info.rows, f"{when}: stored maps of bad poses of {key}")


def _go_on(home: Home, root: str, oracle: Oracle, report: Report) -> None:
    """`posedreamer run` on what is there: afterwards all rows are good, checked and up to date."""
    from posedreamer_assets.cli.run import run_main_job

    home.keep_in(root)
    run_main_job(home, PROFILE, only=CHOSEN)
    report.runs += 1
    store = home.store()
    snapshot = Snapshot(PROFILE, store)
    for key in KEYS:
        for name in (POSES, MAPS):
            if not snapshot.is_current(snapshot.graph[name], key):
                report.tally.lost += 2
                report.tally.notes.append(f"a run left {name}[{key}]")
        if snapshot.table(POSES)[key].content != oracle.good[key]:
            report.passed(2, f"a run left bad rows in {key}")
    _look_below(store, oracle, report, "a run")
    for key in KEYS[1:]:
        store.delete_partition("control_maps", key)
    store.delete_partition(POSES, KEYS[-1])


def work(store: LanceStore, seed: int) -> None:
    """Make partitions for ever, good ones and bad ones, saying what is begun."""
    drawn = random.Random(seed)
    while True:
        key = drawn.choice(KEYS)
        workers.say("write", key)
        with captions_lost(key) if drawn.random() < 0.6 else nullcontext():
            snapshot = Snapshot(PROFILE, store)
            make(snapshot, snapshot.graph[POSES], key, force=True)
        workers.say("check", key)
        check_asset(store, snapshot.graph[POSES], key, PROFILE)
        workers.say("below", key)
        with suppress(CheckError):  # where the rows are bad
            make_one(store, PROFILE, MAPS, key)


if __name__ == "__main__":
    work(LanceStore(sys.argv[1], json.loads(sys.argv[4]), cache=sys.argv[3]), int(sys.argv[2]))

"""Kills -9 at random moments of every kind of write, and what is stored afterwards.

A worker process writes and says what it begins and what it has done. The parent kills it, opens the store again and
compares it with what the worker said: what was done is there, and the one write that was under way is there whole or not
at all.

    python -m posedreamer_assets_tests.storage_faults.kills ROOT SEED CACHE OPTIONS    is one worker
"""

import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets_tests.storage_faults import labelled, workers

KEYS = [f"procedural-{i:04d}" for i in range(12)]
KINDS = ("new", "existing", "delete", "checkpoint", "maintain", "superseded", "add column", "drop column")
CHECKPOINT = "dpo"
# Merges whatever it finds and keeps no version, so that upkeep does as much as it can.
EAGER = Plan(rows=120, index_from=50, dead_share=0.0, keep=timedelta(0), checkpoints=0)
# Workers change between two releases, of which the second has one column more.
WITHOUT_COLUMN = SCHEMAS[labelled.TABLE]
WITH_COLUMN = WITHOUT_COLUMN.append(pa.field("note", pa.string()))


@dataclass
class Report:
    """Kills by the kind of write that was under way, how often it had taken effect, and what was found wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    took_effect: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    tally: labelled.Tally = field(default_factory=labelled.Tally)


@dataclass
class _Expected:
    """What must be stored: the label of each partition and of the checkpoint."""

    partitions: dict[str, str] = field(default_factory=dict)
    checkpoint: str | None = None

    def after(self, write: list[str]) -> "_Expected":
        kind, key, label = write
        partitions = dict(self.partitions)
        if kind in ("new", "existing"):
            partitions[key] = label
        elif kind == "delete":
            partitions.pop(key, None)
        return _Expected(partitions, label if kind == "checkpoint" else self.checkpoint)


def inject(root: str, options: dict[str, str] | None, cache: Path, kills: int, seed: int) -> Report:
    """Kill `kills` workers, one after the other, on one store, and look at the store after each."""
    drawn = random.Random(seed)
    report, expected = Report(), _Expected()
    seconds: dict[str, float] = dict.fromkeys(KINDS, 0.05)  # how long a write of each kind takes, to kill within it
    for number in range(kills):
        wanted = KINDS[number % len(KINDS)]
        done, under_way = _one_worker(root, options, cache, seed + number, wanted, drawn, seconds)
        report.writes += len(done)
        for write in done:
            expected = expected.after(write)
        store = LanceStore(root, options, cache=cache / "reader")
        found = _Expected(
            labelled.labels(store, report.tally), labelled.checkpoint_label(store, CHECKPOINT, report.tally)
        )
        labelled.damage(store, report.tally, (labelled.TABLE, "checkpoints"))
        possible = [expected] if under_way is None else [expected, expected.after(under_way)]
        report.kills[under_way[0] if under_way else "between"] += 1
        if found not in possible:
            report.tally.lost += sum(
                labelled.row_count(expected.partitions[key])
                for key in expected.partitions.keys() - found.partitions.keys()
                if under_way is None or key != under_way[1]
            )
            report.tally.torn += 1
            report.tally.notes.append(f"kill {number}, under way {under_way}: found {found}, expected {expected}")
        elif under_way is not None and found != expected:
            report.took_effect[under_way[0]] += 1
        expected = found
    return report


def _one_worker(
    root: str,
    options: dict[str, str] | None,
    cache: Path,
    seed: int,
    wanted: str,
    drawn: random.Random,
    seconds: dict[str, float],
) -> tuple[list[list[str]], list[str] | None]:
    """Start a worker and kill it within a write of the wanted kind; returns its finished writes and the open one."""
    worker = workers.start("kills", root, seed, cache / "worker", options)
    assert worker.stdout is not None
    lines: list[list[str]] = []
    started: dict[str, float] = {}
    skip = drawn.randrange(3)
    for line in worker.stdout:
        event, kind, key, label = json.loads(line)
        lines.append([event, kind, key, label])
        if event == "begin":
            started[kind] = time.perf_counter()
            skip -= kind == wanted
            if skip < 0 and kind == wanted:
                break
        else:
            seconds[kind] = 0.7 * seconds[kind] + 0.3 * (time.perf_counter() - started[kind])
    lines += workers.kill(worker, drawn.uniform(0, 1.2 * seconds[wanted]))
    done = [rest for event, *rest in lines if event == "done"]
    return done, lines[-1][1:] if lines[-1][0] == "begin" else None


def work(store: LanceStore, seed: int) -> None:
    """Write for ever, saying what is begun and what is done."""
    drawn = random.Random(seed)
    present = set(store.partitions(labelled.TABLE))
    number = 0
    while True:
        number += 1
        label = f"w{seed:05d}-{number:05d}"
        kind = drawn.choice(KINDS)
        keys = sorted(present if kind in ("existing", "delete") else set(KEYS) - present)
        if not keys:
            continue
        key = drawn.choice(keys) if kind in ("new", "existing", "delete") else ""
        workers.say("begin", kind, key, label)
        if kind in ("new", "existing"):
            rows = labelled.rows(key, label)
            if SCHEMAS[labelled.TABLE] is WITH_COLUMN:
                rows = rows.append_column("note", [[label] * rows.num_rows])
            store.replace_partition(labelled.TABLE, key, rows.to_batches(max_chunksize=7), input_digest=label)
            present.add(key)
        elif kind == "delete":
            store.delete_partition(labelled.TABLE, key)
            present.discard(key)
        elif kind == "checkpoint":
            labelled.write_checkpoint(store, CHECKPOINT, label)
        elif kind == "superseded":
            store.remove_superseded(EAGER, (), ())
        elif store.version(labelled.TABLE) is not None:
            if kind == "maintain":
                store.maintain(labelled.TABLE, EAGER)
            else:
                SCHEMAS[labelled.TABLE] = WITH_COLUMN if kind == "add column" else WITHOUT_COLUMN
                store.migrate(labelled.TABLE)
        workers.say("done", kind, key, label)


if __name__ == "__main__":
    work(LanceStore(sys.argv[1], json.loads(sys.argv[4]), cache=sys.argv[3]), int(sys.argv[2]))

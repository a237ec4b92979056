"""Processes that materialise overlapping partitions at once, beside upkeep and a reader.

python -m posedreamer_assets_tests.storage_faults.rivals ROOT LABEL CACHE OPTIONS KEY...    is one of them
"""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from posedreamer_assets.storage import LanceStore, Plan
from posedreamer_assets_tests.storage_faults import labelled

UPKEEP = Plan(rows=100, index_from=100, dead_share=0.1, keep=timedelta(minutes=5))


@dataclass
class Report:
    """What came of it.

    Attributes:
        failed: processes that ended with an error.
        labels: the label of each partition that is stored.
        reads: complete reads of the table beside the writers.
        upkeeps: rounds of upkeep beside them.
        tally: what was found wrong, in the end and in the reads.
    """

    failed: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    reads: int = 0
    upkeeps: int = 0
    tally: labelled.Tally = field(default_factory=labelled.Tally)


def compete(
    root: str, options: dict[str, str] | None, cache: Path, plans: dict[str, list[str]], *, upkeep: bool = True
) -> Report:
    """Let one process for each label write its partitions, all started together.

    Args:
        root: of the store.
        options: storage options.
        cache: for copies of checkpoints.
        plans: the keys that each label writes, in order.
        upkeep: also maintain the table all the while.
    """
    writers = [_start(root, options, cache, label, keys) for label, keys in plans.items()]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    report, over = Report(), threading.Event()
    store = LanceStore(root, options, cache=cache)
    beside = [threading.Thread(target=_read, args=(store, over, report))]
    if upkeep:
        beside.append(threading.Thread(target=_maintain, args=(LanceStore(root, options, cache=cache), over, report)))
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for thread in beside:
        thread.start()
    for writer in writers:
        writer.communicate(timeout=300)
        report.failed += writer.returncode != 0
    over.set()
    for thread in beside:
        thread.join()
    report.labels = labelled.labels(store, report.tally)
    labelled.damage(store, report.tally, (labelled.TABLE,))
    return report


def _start(root: str, options: dict[str, str] | None, cache: Path, label: str, keys: list[str]) -> subprocess.Popen:
    module = "posedreamer_assets_tests.storage_faults.rivals"
    command = [sys.executable, "-m", module, root, label, str(cache), json.dumps(options), *keys]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def _read(store: LanceStore, over: threading.Event, report: Report) -> None:
    while not over.wait(0.05):
        labelled.labels(store, report.tally)
        report.reads += 1


def _maintain(store: LanceStore, over: threading.Event, report: Report) -> None:
    while not over.wait(0.05):
        if store.version(labelled.TABLE) is not None:
            store.maintain(labelled.TABLE, UPKEEP)
            report.upkeeps += 1


def main(root: str, label: str, cache: str, options: str, *keys: str) -> None:
    """Write the keys once a line arrives."""
    store = LanceStore(root, json.loads(options), cache=cache)
    parts = [(key, labelled.rows(key, label)) for key in keys]
    print("ready", flush=True)
    sys.stdin.readline()
    for key, rows in parts:
        store.replace_partition(labelled.TABLE, key, rows, input_digest=label)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Injects faults into stores and counts rows lost, doubled and torn. Prints a Markdown table.

python benchmarks/faults.py [--kills 100] [--kills-s3 30] [--seed 0]

Kills -9 in every kind of write, rival processes, and an object store that fails, with the code that the tests use
(posedreamer_assets_tests/storage_faults). Needs the `dev` extra.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from posedreamer_assets_tests.storage_faults import kills, rivals
from posedreamer_assets_tests.storage_faults.labelled import Tally
from posedreamer_assets_tests.storage_faults.object_store import new_bucket, options, running_server
from posedreamer_assets_tests.storage_faults.test_object_store_faults import write_through_faults


def line(what: str, faults: str, tally: Tally) -> None:
    """One row of the table; what is wrong goes to stderr."""
    print(f"| {what} | {faults} | {tally.lost} | {tally.doubled} | {tally.torn} | {tally.damaged} |", flush=True)
    for note in tally.notes:
        print(note, file=sys.stderr)


def line_of_kills(place: str, report: kills.Report) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kills.items()))
    effect = report.took_effect.total()
    faults = f"{report.kills.total()} ({kinds}); {effect} had taken effect; {report.writes} writes finished"
    line(f"kill -9, {place}", faults, report.tally)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kills-s3", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| fault | injected | rows lost | rows doubled | torn | damaged |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name, running_server() as endpoint:
        folder = Path(name)
        line_of_kills("local folder", kills.inject(str(folder / "kills"), None, folder, args.kills, args.seed))
        line_of_kills("S3", kills.inject(new_bucket(endpoint), options(endpoint), folder, args.kills_s3, args.seed + 1))

        keys = [f"procedural-{i:04d}" for i in range(8)]
        plans = {f"w{i}": keys[i:] + keys[:i] for i in range(8)}
        for place, root, given in (
            ("local folder", str(folder / "rivals"), None),
            ("S3", new_bucket(endpoint), options(endpoint)),
        ):
            report = rivals.compete(root, given, folder, plans)
            assert report.failed == 0, f"{report.failed} writers failed"
            faults = f"8 processes x 8 partitions, {report.upkeeps} rounds of upkeep, {report.reads} reads beside them"
            line(f"overlapping writers, {place}", faults, report.tally)

        proxy, tally = write_through_faults(endpoint, folder, share=0.1, rounds=5, seed=args.seed)
        faults = (
            f"{proxy.faults.total()} requests ({', '.join(f'{n} {kind}' for kind, n in sorted(proxy.faults.items()))})"
        )
        line("failing S3", faults, tally)


if __name__ == "__main__":
    main()

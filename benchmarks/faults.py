"""Injects faults into stores and counts rows lost, doubled and torn. Prints a Markdown table.

python benchmarks/faults.py [--kills 1000] [--share-s3 0.2] [--seed 0] [--report FILE]

Kills -9 in every kind of write, rival processes, and an object store that fails, with the code that the tests use
(posedreamer_assets_tests/storage_faults). A kill takes one to four seconds, a thousand of them less than an hour beside
other work. Exit code 1 when a row is lost, doubled, torn or damaged. Needs the `dev` extra.
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

HEAD = "| fault | injected | rows lost | rows doubled | torn | damaged |\n|---|---|---|---|---|---|"


class Report:
    """The table, printed as it grows; what is wrong goes to stderr."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lines: list[str] = []
        self.clean = True
        self._add(HEAD)

    def line(self, what: str, faults: str, tally: Tally) -> None:
        """One row."""
        self.clean &= tally.clean
        self._add(f"| {what} | {faults} | {tally.lost} | {tally.doubled} | {tally.torn} | {tally.damaged} |")
        for note in tally.notes:
            print(note, file=sys.stderr)

    def _add(self, text: str) -> None:
        print(text, flush=True)
        self._lines.append(text)
        if self._file is not None:
            self._file.write_text("\n".join(self._lines) + "\n")


def line_of_kills(table: Report, place: str, report: kills.Report) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kills.items()))
    effect = report.took_effect.total()
    faults = f"{report.kills.total()} ({kinds}); {effect} had taken effect; {report.writes} writes finished"
    table.line(f"kill -9, {place}", faults, report.tally)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in all")
    parser.add_argument("--share-s3", type=float, default=0.2, help="of the kills that meet writers to an object store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="also write the table into this file")
    args = parser.parse_args()
    kills_s3 = round(args.kills * args.share_s3)
    table = Report(args.report)
    with tempfile.TemporaryDirectory() as name, running_server() as endpoint:
        folder = Path(name)
        local = kills.inject(str(folder / "kills"), None, folder, args.kills - kills_s3, args.seed)
        line_of_kills(table, "local folder", local)
        s3 = kills.inject(new_bucket(endpoint), options(endpoint), folder, kills_s3, args.seed + 1)
        line_of_kills(table, "S3", s3)

        keys = [f"procedural-{i:04d}" for i in range(8)]
        plans = {f"w{i}": keys[i:] + keys[:i] for i in range(8)}
        for place, root, given in (
            ("local folder", str(folder / "rivals"), None),
            ("S3", new_bucket(endpoint), options(endpoint)),
        ):
            report = rivals.compete(root, given, folder, plans)
            assert report.failed == 0, f"{report.failed} writers failed"
            faults = f"8 processes x 8 partitions, {report.upkeeps} rounds of upkeep, {report.reads} reads beside them"
            table.line(f"overlapping writers, {place}", faults, report.tally)

        proxy, tally = write_through_faults(endpoint, folder, share=0.1, rounds=5, seed=args.seed)
        faults = (
            f"{proxy.faults.total()} requests ({', '.join(f'{n} {kind}' for kind, n in sorted(proxy.faults.items()))})"
        )
        table.line("failing S3", faults, tally)
    sys.exit(not table.clean)


if __name__ == "__main__":
    main()

"""Catch rate and false alarms as a table: `python -m posedreamer_assets_tests.planted_faults --rows 96 --seeds 1 2`."""

import argparse
import tempfile
from pathlib import Path

from posedreamer_assets_tests.planted_faults.faults import FAULTS, hit_ids
from posedreamer_assets_tests.planted_faults.tables import (
    ALIGN,
    EARLIER,
    KEY,
    check,
    failed,
    key_of,
    make_tables,
    small_profile,
    tables_of,
)


def main() -> None:
    """Make tables for each seed, run all checks on them clean, then with each fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    clean = alarms = planted = caught = seen = 0
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            profile = small_profile(given.rows, seed)
            store = make_tables(Path(folder), profile)
            for table, key in [(t, k) for k in (EARLIER, KEY, ALIGN) for t in tables_of(k)]:
                outcomes = check(store, profile, table, key)
                clean += len(outcomes)
                for outcome in failed(outcomes).values():
                    alarms += 1
                    print(
                        f"seed {seed}  FALSE ALARM {table}[{key}] {outcome.severity} {outcome.name}: {outcome.observed}"
                    )
            for fault in FAULTS:
                key = key_of(fault.table)
                whole = store.read(fault.table, [key])
                rows = fault.plant(whole)
                found = failed(check(store, profile, fault.table, key, rows))
                asked = fault.check_in(whole)
                ids = found[asked].failing_ids if asked in found else ()
                named = asked in found and (not fault.names_row or bool(hit_ids(whole, rows) & {*ids}))
                planted += 1
                caught += named
                seen += bool(found)
                mark = "caught" if named else ("by another" if found else "MISSED")
                print(f"seed {seed}  {mark:<10} {fault.table:<22} {fault.name:<44} {', '.join(found)}", flush=True)
    print(f"{planted} faults planted: {caught} caught by the check named for them, {seen} by any")
    print(f"{clean} checks of clean tables: {alarms} false alarms")


if __name__ == "__main__":
    main()

"""Replacing one partition against writing the whole table again, both in this run. Prints the ratio of their medians.

python benchmarks/replace_partition.py [--partitions 40] [--rows 64]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import sample_id


def batch(key: str, rows: int, seed: int) -> pa.Table:
    """Rows of rendered scenes with 25 kB of incompressible bytes each, about a 128 x 128 PNG."""
    rng = np.random.default_rng(seed)
    columns = {
        "sample_id": [sample_id(key, i) for i in range(rows)],
        "partition_key": [key] * rows,
        "image": [rng.bytes(25_000) for _ in range(rows)],
        "caption": ["a photo"] * rows,
        "seed": list(range(rows)),
        "split": ["train"] * rows,
    }
    return pa.table(columns, schema=SCHEMAS["rendered_scenes"])


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=40)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = LanceStore(folder)
        keys = [f"bench-{i:04d}" for i in range(args.partitions)]
        for i, key in enumerate(keys):
            store.replace_partition("rendered_scenes", key, batch(key, args.rows, i), input_digest="0")
        whole, path = store.read("rendered_scenes"), str(Path(folder) / "whole.lance")
        replace, overwrite = [], []
        for r in range(args.repeats):
            new = batch(keys[r], args.rows, 1000 + r)
            replace.append(
                seconds(lambda n=new, k=keys[r]: store.replace_partition("rendered_scenes", k, n, input_digest="1"))
            )
            overwrite.append(seconds(lambda: lance.write_dataset(whole, path, mode="overwrite")))
        a, b = statistics.median(replace), statistics.median(overwrite)
        print(f"replace one of {args.partitions} partitions: {a:.3f} s; write all again: {b:.3f} s; ratio {b / a:.1f}")


if __name__ == "__main__":
    main()

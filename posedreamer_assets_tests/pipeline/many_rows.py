"""The quality report on tables of many small rows, in a process of its own, so that its memory can be measured.

    python -m posedreamer_assets_tests.pipeline.many_rows FOLDER ROWS

prints the peak resident memory, and how many rows were read with and without their images, as JSON.
"""

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import load_profile
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets.tables.keys import of_groups, partition_key, sample_id
from posedreamer_assets.tables.rows import make_table

SIDE = 16
MOST = 24  # images of each set that are looked at
PER_PARTITION = 10_000
IMAGES = frozenset(("image", "parts"))


@dataclass(frozen=True)
class Counting(Listed):
    """Everything that is stored counts as up to date; what is read is counted."""

    read: dict[str, int] = field(default_factory=lambda: {"with_images": 0, "most_at_once": 0})

    def keys(self, table: str, groups: Sequence[str]) -> list[str]:
        return of_groups(self.snapshot.table(table), groups)

    def rows(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        return self._counted(super().rows(table, keys, columns))

    def take(self, table: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        return self._counted(super().take(table, ids, columns))

    def _counted(self, rows: pa.Table) -> pa.Table:
        if IMAGES & set(rows.schema.names):
            self.read["with_images"] += rows.num_rows
            self.read["most_at_once"] = max(self.read["most_at_once"], rows.num_rows)
        return rows


def fill(store: LanceStore, count: int) -> None:
    """Tables of `count` samples in the base round, four in five of which are kept."""
    rng = np.random.default_rng(0)
    pictures = [encode_png(picture) for picture in rng.integers(0, 255, (50, SIDE, SIDE, 3), np.uint8)]
    parts = encode_png(np.full((SIDE, SIDE), 4, np.uint8))
    for number in range(-(-count // PER_PARTITION)):
        key, n = partition_key("procedural", number), min(PER_PARTITION, count - number * PER_PARTITION)
        same = {"sample_id": [sample_id(key, i) for i in range(n)], "partition_key": [key] * n}
        painted = {"image": [pictures[i % 50] for i in range(n)], "caption": ["a person in a red shirt"] * n}
        tables: dict[str, dict[str, Any]] = {
            "raw_generations": {**same, **painted},
            "rendered_scenes": {**same, **painted, "split": [("train", "reference")[i % 2] for i in range(n)]},
            "control_maps": {
                **same,
                "parts": [parts] * n,
                "keypoints_2d": rng.uniform(0, SIDE, (n, 34)).astype(np.float32),
                "keypoints_visible": np.ones((n, 17), bool),
                "body_pixels": [100] * n,
                "bbox": np.tile(np.array([0, 0, SIDE, SIDE], np.float32), (n, 1)),
            },
            "filtered_dataset": {
                **same,
                "keep": [i % 5 > 0 for i in range(n)],
                "round": ["base"] * n,
                "source": ["procedural"] * n,
                "licence": ["CC0-1.0"] * n,
            },
        }
        for table, columns in tables.items():
            store.replace_partition(table, key, make_table(columns, SCHEMAS[table]), input_digest="made")


def peak_mb() -> float:
    """Of this program; `ru_maxrss` also remembers the process that started it, up to where it became this one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(folder: Path, count: int) -> dict[str, float]:
    """Make the report and say what it took."""
    settings = {"image.width": SIDE, "image.height": SIDE, "quality.max_images": MOST, "quality.bootstrap": 2}
    profile = load_profile("pocket", settings)
    store = LanceStore(str(folder / "storage"))
    if store.version("filtered_dataset") is None:
        fill(store, count)
        return {}
    judge = SimpleNamespace(name="nobody", detect=lambda seen, boxes: np.ones((len(seen), 17, 3), np.float32))
    models = cast(Any, SimpleNamespace(judge=judge, outside_judge=None))
    reader, place = Counting(Snapshot(profile, store)), folder / "report"
    place.mkdir()
    stage = graph(2)["quality_report"]
    made = stage.make(Inputs(stage, profile, reader, models, folder=place))
    return {"peak_mb": peak_mb(), "images": made.figures["generated"], **reader.read}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))

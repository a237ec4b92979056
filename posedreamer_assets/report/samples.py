"""What the store knows of samples, side by side: strips of pictures for the report and `posedreamer view`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.defs.local.runner import open_store
from posedreamer_assets.errors import StorageError
from posedreamer_assets.pipeline.graph import key_group
from posedreamer_assets.render.drawing import draw_keypoints, overlay_render
from posedreamer_assets.report.gallery import HARDNESS, GallerySample, write_gallery
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import decode

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

Row = dict[str, Any]
_WITHOUT_SAMPLES = ("checkpoints", "pose_files", "quarantine")
_FACTS = (
    "oks",
    "ranker_oks",
    "people",
    "head_error_deg",
    "top_colour_error",
    "predicted_oks",
    "winner_oks",
    "loser_oks",
)
_TEXTS = ("caption", "family", "provenance", "split", "status", "seed")


def write_table_gallery(
    home: Home, table: str, partition: str | None, path: Path, *, limit: int, hardest: bool = False
) -> int:
    """Write a gallery of a table's samples, the first ones or the hardest; returns how many it shows.

    Raises:
        StorageError: no such table or partition, or a table that holds no samples.
    """
    table = table.replace("/", "_")
    known = sorted(set(SCHEMAS) - set(_WITHOUT_SAMPLES))
    if table not in known:
        raise StorageError(f"no table {table!r} with samples; there are {', '.join(known)}")
    store = open_store(home)
    stored = sorted(store.partitions(table))
    if not stored or (partition is not None and partition not in stored):
        wanted = f"partition {partition!r} of {table!r}" if partition else f"table {table!r}"
        raise StorageError(f"{wanted} is not stored; there are: {', '.join(stored) or 'no partitions'}")
    rows: list[Row] = []
    for key in [partition] if partition else stored:
        if hardest or len(rows) < limit:
            rows += sample_rows(store, table, key)
    samples = [sample_of(row) for row in (hardest_first(rows) if hardest else rows)[:limit]]
    write_gallery(
        path, samples, title=table, subtitle=partition or f"{len(stored)} partition{'s' if len(stored) > 1 else ''}"
    )
    return len(samples)


def table_samples(store: "LanceStore", table: str, key: str, limit: int) -> list[GallerySample]:
    """The first samples of a partition, with what other tables know of them."""
    return [sample_of(row) for row in sample_rows(store, table, key)[:limit]]


def sample_rows(store: "LanceStore", table: str, key: str) -> list[Row]:
    """The samples of a partition, each with the columns that other tables have of it; its own table's go first."""
    own = store.read(table, keys=[key]).to_pylist()
    others = {name: rows_by_id(store, name, key) for name in _related(key) if name != table}
    return [{**_merged(others, row["sample_id"]), **row} for row in own]


def hardest_first(rows: Sequence[Row]) -> list[Row]:
    """Rows by the OKS that was predicted for them, else by the measured one, lowest first; others follow."""

    def hardness(row: Row) -> float:
        values = (row.get(name) for name in HARDNESS)
        return next((float(value) for value in values if value is not None), np.inf)

    return sorted(rows, key=hardness)


def rows_by_id(store: "LanceStore", table: str, key: str) -> dict[str, Row]:
    """A partition's rows by sample id; empty where it is not stored."""
    if key not in store.partitions(table):
        return {}
    return {row["sample_id"]: row for row in store.read(table, keys=[key]).to_pylist()}


def _related(key: str) -> tuple[str, ...]:
    """Tables that may hold the samples of a partition, from the pose to the verdict."""
    name = "hard" if key_group(key) == "hard" else "base"
    poses = ("hard_samples",) if name == "hard" else ("pose_library", "rendered_scenes", "preference_pairs")
    stages = ("control_maps", "raw_generations", "sample_scores", "filtered_dataset")
    return (*poses, *(f"{name}_{stage}" for stage in stages))


def _merged(tables: Mapping[str, Mapping[str, Row]], sample: str) -> Row:
    merged: Row = {}
    for name, rows in tables.items():
        row = dict(rows.get(sample, {}))
        if name == "rendered_scenes" and "image" in row:
            row["scene"] = row.pop("image")
        merged |= {column: value for column, value in row.items() if value is not None}
    return merged


def sample_of(row: Row) -> GallerySample:
    """A sample from the merged columns of all tables."""
    facts = {name: _short(row[name]) for name in (*_FACTS, *_TEXTS) if row.get(name) is not None}
    keep = row.get("keep")
    verdict = "" if keep is None else ("kept" if keep else "rejected")
    return GallerySample(row["sample_id"], panels(row), facts, verdict, row.get("reason") or "")


def panels(row: Row) -> dict[str, np.ndarray]:
    """Titled pictures of a sample, as far as its row has them."""
    shown: dict[str, np.ndarray] = {}
    control = decode(row["control"]) if row.get("control") else None
    if control is not None:
        shown["control"] = control
    for title, column in (
        ("render", "scene"),
        ("winner", "winner_image"),
        ("loser", "loser_image"),
        ("image", "image"),
    ):
        if row.get(column):
            shown[title] = decode(row[column])
    picture = next((shown[title] for title in ("image", "winner", "render") if title in shown), control)
    if picture is None:
        return shown
    if row.get("keypoints_2d"):
        truth = np.array(row["keypoints_2d"], np.float32).reshape(17, 2)
        shown["label"] = draw_keypoints(picture, truth, np.array(row["keypoints_visible"], bool))
    if row.get("detected"):
        shown["detected"] = draw_keypoints(picture, np.array(row["detected"], np.float32).reshape(17, 3))
    if control is not None and picture is not control:
        shown["mesh"] = overlay_render(picture, control)
    return shown


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def pick(samples: Sequence[GallerySample], most: int) -> list[GallerySample]:
    """Samples spread evenly over the list."""
    if len(samples) <= most:
        return list(samples)
    return [samples[i] for i in np.linspace(0, len(samples) - 1, most).astype(int)]

"""`posedreamer view`: a gallery of a table's samples, or the rows of a table that has none, as one HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from posedreamer_assets.errors import StorageError
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.report.html import Section, Table, write_report
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import SCHEMAS, WITHOUT_SAMPLES
from posedreamer_assets.tables.keys import of_groups

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

_LONGEST = 160  # characters of a cell


def write_view(home: Home, name: str, partition: str | None, path: Path, *, limit: int, hardest: bool = False) -> int:
    """Write a page on a table, with the first samples or the hardest; returns how many it shows.

    Args:
        home: whose store is read.
        name: a table, or an asset such as `hard/sample_scores`, which is the part of a table that the asset makes.
        partition: one of its partitions; all by default.
        path: the HTML file.
        limit: at most this many samples or rows.
        hardest: lowest predicted or measured OKS first.

    Raises:
        StorageError: no such table, asset or partition, or nothing in it.
    """
    store = home.store()
    table, groups = _table_of(home, name)
    stored = sorted(store.partitions(table)) if groups is None else of_groups(store.partitions(table), groups)
    nothing = not stored and table not in WITHOUT_SAMPLES  # no file was set aside: that can be shown, too
    if nothing or (partition is not None and partition not in stored):
        wanted = f"partition {partition!r} of {name!r}" if partition else f"{name!r}"
        raise StorageError(f"{wanted} is not stored; there are: {', '.join(stored) or 'no partitions'}")
    keys = [partition] if partition else stored
    subtitle = partition or f"{len(stored)} partition{'s' if len(stored) != 1 else ''}"
    if table in WITHOUT_SAMPLES:
        return _write_rows(store, table, keys, path, subtitle, limit)
    return _write_gallery(store, table, keys, path, (name, subtitle), limit, hardest)


def _table_of(home: Home, name: str) -> tuple[str, tuple[str, ...] | None]:
    """The table, and the groups of partitions of an asset in it."""
    if name in SCHEMAS:
        return name, None
    assets = {stage.key: stage for stage in graph_of(home.profile()) if stage.table}
    if name not in assets:
        known = sorted({*SCHEMAS, *assets})
        raise StorageError(f"no table or asset {name!r} with rows; there are {', '.join(known)}")
    return str(assets[name].table), assets[name].groups


def _write_gallery(
    store: "LanceStore", table: str, keys: Sequence[str], path: Path, title: tuple[str, str], limit: int, hardest: bool
) -> int:
    from posedreamer_assets.report.gallery import write_gallery
    from posedreamer_assets.report.samples import hardest_first, samples_of

    ids: list[str] = store.read(table, keys=keys, columns=["sample_id"]).column("sample_id").to_pylist()
    chosen = hardest_first(store, keys, ids) if hardest else ids
    samples = samples_of(store, chosen[:limit])
    write_gallery(path, samples, title=title[0], subtitle=title[1])
    return len(samples)


def _write_rows(store: "LanceStore", table: str, keys: Sequence[str], path: Path, subtitle: str, limit: int) -> int:
    names = [name for name in SCHEMAS[table].names if name != "sample_id"]
    rows = next(store.batches(table, keys, names, rows=limit, missing_ok=True), pa.table({})).to_pylist()
    count = store.read(table, keys=keys, columns=["sample_id"], missing_ok=True).num_rows
    shown = f"{len(rows)} of {count} rows" if count > len(rows) else f"{count} rows"
    cells = [[_cell(row[name]) for name in names] for row in rows]
    summary = {"title": table, "subtitle": subtitle, "headline": [{"label": "rows", "value": count}]}
    write_report(path, summary, [Section(shown, [Table(names, cells)])])
    return len(rows)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return value if not isinstance(value, str) or len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"

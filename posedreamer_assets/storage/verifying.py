"""Whether rows are those that were written, by their digests, also where the table has other columns by now.

The digest of a row is over the names and contents of the columns that it was *written with*. Columns that were added
later are null in it and do not count. Which ones those are is not noted anywhere, and need not be: a row is what was
written when its digest is that of all columns but some that are null. A digest names its columns, so that no row that was
changed, and none that lost a value, passes for another.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, combinations

import pyarrow as pa
import pyarrow.compute as pc
from lance import LanceDataset
from lance.fragment import LanceFragment

from posedreamer_assets.digests import row_digests
from posedreamer_assets.storage.arriving import BOOKKEEPING_NAMES

KEPT = "kept_digest_"  # then a number: of what is left of a row after columns were dropped, see `columns.py`
_NULLS = 8  # columns of which every set is tried, where nothing more likely matches


def is_kept(name: str) -> bool:
    """Whether this column holds digests of what is left of rows."""
    return name.startswith(KEPT)


def kept_number(name: str) -> int:
    """The number of such a column; the highest is the newest."""
    return int(name.removeprefix(KEPT).partition("_")[0])


def added_later(
    dataset: LanceDataset, known: Collection[str], fragment: LanceFragment | None = None
) -> list[tuple[str, ...]]:
    """Sets of columns that rows may have been written without, the likeliest first; the last one is of all columns.

    Args:
        dataset: the table.
        known: columns of this release.
        fragment: of the table, where the rows are known to be of one.
    """
    fields = sorted(dataset.lance_schema.fields(), key=lambda field: field.id(), reverse=True)
    content = [f for f in fields if f.name() not in BOOKKEEPING_NAMES and not is_kept(f.name())]
    newest_first = [f.name() for f in content]
    files = [] if fragment is None else fragment.metadata.files
    stored = {number for file in files for number in file.fields}
    return [
        *([tuple(f.name() for f in content if f.id() not in stored)] if files else []),  # exact until files are merged
        (),
        tuple(name for name in newest_first if name not in known),
        *(tuple(newest_first[:count]) for count in range(1, len(newest_first) + 1)),
    ]


def unverified(
    rows: pa.RecordBatch, added: Sequence[tuple[str, ...]], known: Collection[str]
) -> list[tuple[int, str, str | None]]:
    """Rows that are not those that were written: number, digest found and digest written.

    Args:
        rows: with bookkeeping.
        added: see `added_later`.
        known: columns of this release; where columns were dropped, only these count.
    """
    kept = [name for name in rows.schema.names if is_kept(name)]
    content = rows.select([n for n in rows.schema.names if n not in BOOKKEEPING_NAMES and n not in kept])
    found = row_digests(content)
    written: list[str | None] = rows.column("row_digest").to_pylist()
    left = [i for i, digest in enumerate(found) if digest != written[i]]
    if kept and left:
        newest_first = [rows.column(name) for name in sorted(kept, key=kept_number, reverse=True)]
        digests = pc.call_function("coalesce", newest_first).to_pylist()
        narrowed = content.select([name for name in content.schema.names if name in known])
        left = _unmatched(narrowed, digests, left, added)
    left = _unmatched(content, written, left, added)
    return [(i, found[i], written[i]) for i in left]


def _unmatched(
    content: pa.RecordBatch, written: Sequence[str | None], rows: list[int], added: Sequence[tuple[str, ...]]
) -> list[int]:
    """Those of the rows whose digest is that of no set of columns that leaves out nulls alone."""
    names = set(content.schema.names)
    for without in dict.fromkeys(frozenset(names.intersection(some)) for some in added):
        rows = _unmatched_without(content, written, rows, without)
    for i in list(rows):  # columns that came and went in another order than one after the other
        nulls = [name for name in added[-1] if name in names and not content.column(name)[i].is_valid]
        if any(not _unmatched_without(content, written, [i], some) for some in _subsets(nulls[:_NULLS])):
            rows.remove(i)
    return rows


def _unmatched_without(
    content: pa.RecordBatch, written: Sequence[str | None], rows: list[int], without: frozenset[str]
) -> list[int]:
    possible = [i for i in rows if all(not content.column(name)[i].is_valid for name in without)]
    digests = row_digests(content.take(pa.array(possible, pa.int64())), skip=list(without))
    right = {i for i, digest in zip(possible, digests, strict=True) if digest == written[i]}
    return [i for i in rows if i not in right]


def _subsets(names: Sequence[str]) -> Iterator[frozenset[str]]:
    return map(frozenset, chain.from_iterable(combinations(names, count) for count in range(1, len(names) + 1)))

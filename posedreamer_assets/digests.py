"""Digests that are equal exactly when what they were made from is equal, on every machine and in every process.

Three kinds, all blake2b: of plain values (`digest`), of the rows of an Arrow table (`row_digests`), of sets of rows
(`content_digest`) and of files (`file_digest`, `folder_digest`).
"""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

DIGEST_BYTES = 16
_READ_CHUNK = 1 << 20


def digest(obj: Any) -> str:
    """Hex digest of a plain value: the order of mapping keys and of set members does not count, types do.

    Accepts None, bool, int, float, str, bytes, Path, NumPy scalars and arrays, dataclasses, and mappings, lists, tuples
    and sets of these. Lists and tuples of equal members are equal, as they are in JSON. Mapping keys must be strings.

    Raises:
        TypeError: a value of another type.
    """
    text = json.dumps(_plain(obj), sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def _plain(obj: Any) -> Any:
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, np.generic):
        return _plain(obj.item())
    if isinstance(obj, Path):
        return obj.as_posix()
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return {"__bytes__": hashlib.blake2b(obj, digest_size=DIGEST_BYTES).hexdigest()}
    if isinstance(obj, np.ndarray):
        if obj.dtype.hasobject:
            raise TypeError("cannot digest an array of objects")
        return {"__array__": [str(obj.dtype), list(obj.shape), _plain(np.ascontiguousarray(obj).tobytes())]}
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: _plain(getattr(obj, f.name)) for f in dataclasses.fields(obj)}
    if isinstance(obj, dict):
        bad = [k for k in obj if not isinstance(k, str)]
        if bad:
            raise TypeError(f"cannot digest a mapping with the key {bad[0]!r}: keys must be strings")
        return {k: _plain(v) for k, v in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [_plain(v) for v in obj]
    if isinstance(obj, (set, frozenset)):
        return {"__set__": sorted(digest(v) for v in obj)}
    raise TypeError(f"cannot digest a {type(obj).__name__}: {obj!r}")


def content_digest(rows: Iterable[str]) -> str:
    """Digest of a set of rows, given their row digests in any order."""
    lines = "".join(f"{row}\n" for row in sorted(rows))
    return hashlib.blake2b(lines.encode(), digest_size=DIGEST_BYTES).hexdigest()


def row_digests(rows: pa.RecordBatch | pa.Table, skip: Sequence[str] = ()) -> list[str]:
    """One digest per row, over the names and contents (binary included) of all columns but those in `skip`.

    The digest of a row depends on that row alone: not on the order of rows and columns, chunking or batch size.
    """
    names = sorted(set(rows.schema.names) - set(skip))
    states = [hashlib.blake2b(digest_size=DIGEST_BYTES) for _ in range(rows.num_rows)]
    for name in names:
        column = rows.column(name)
        prefix = _framed(name.encode())
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        cells = (cell for chunk in chunks for cell in _cells(chunk))
        for state, cell in zip(states, cells, strict=True):
            state.update(prefix)
            state.update(_framed(cell))
    return [state.hexdigest() for state in states]


_NULL = b"\xff" * 8  # no cell has this length


def _framed(content: bytes | None) -> bytes:
    """The content behind its length, so that neighbouring contents cannot run into each other."""
    return _NULL if content is None else struct.pack("<Q", len(content)) + content


def _cells(array: pa.Array) -> list[bytes | None]:
    """The bytes of each value of an array; None for null."""
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_cells(array)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        values, valid = _numbers(array)
        return [v.tobytes() if ok else None for v, ok in zip(values, valid, strict=True)]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [None if v is None else v.encode() for v in array.to_pylist()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return array.to_pylist()
    raise TypeError(f"cannot digest an Arrow column of type {kind}")


def _numbers(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Values with zeros in place of nulls, and where they are not null."""
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    filled = array.fill_null(False if pa.types.is_boolean(array.type) else 0) if array.null_count else array
    return filled.to_numpy(zero_copy_only=False), valid


def _list_cells(array: pa.Array) -> list[bytes | None]:
    """Cells of a list array; `flatten` leaves out what lies under null lists and outside a slice."""
    fixed = array.type.list_size if pa.types.is_fixed_size_list(array.type) else None
    present = array.is_valid().to_pylist()
    items = array.flatten()
    if fixed and pa.types.is_floating(items.type):
        # The many long vectors of floats take this short cut: the values of a row as one piece.
        values, valid = (a.reshape(-1, fixed) for a in _numbers(items))
        found = (v.tobytes() + (b"" if m.all() else m.tobytes()) for v, m in zip(values, valid, strict=True))
        return [next(found) if ok else None for ok in present]
    cells = iter(_cells(items))
    lengths = [fixed] * len(array) if fixed else np.diff(array.offsets.to_numpy()).tolist()
    return [
        b"".join(_framed(next(cells)) for _ in range(n)) if ok else None for n, ok in zip(lengths, present, strict=True)
    ]


def file_digest(path: Path) -> str:
    """Digest of a file's bytes, read in pieces."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(_READ_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest of the names and bytes of all files under a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest([[p.relative_to(folder).as_posix(), file_digest(p)] for p in files])

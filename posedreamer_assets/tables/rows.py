"""Rows to arrays and back: the glue between tables and domain functions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.tables.fields import BODY_COLUMNS, CAMERA, names_of

if TYPE_CHECKING:
    from posedreamer_assets.body.params import BodyParams
    from posedreamer_assets.cameras.pinhole import Cameras

CAMERA_COLUMNS = names_of(CAMERA)


def array(table: pa.Table, name: str) -> np.ndarray:
    """A column as an array; fixed-size lists give (n, width). Nulls of numeric columns give NaN."""
    column = table.column(name).combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


def texts(table: pa.Table, name: str) -> list[str]:
    """A text column; a null gives the empty text."""
    return [value or "" for value in table.column(name).to_pylist()]


def images(table: pa.Table, name: str) -> np.ndarray:
    """An image column, decoded: (n, h, w, ...)."""
    from posedreamer_assets.tables.images import decode_all

    return decode_all(table.column(name).to_pylist())


def points(table: pa.Table, name: str, width: int) -> np.ndarray:
    """A flattened (n, k * width) column as float32 (n, k, width)."""
    flat = array(table, name).astype(np.float32)
    return flat.reshape(len(flat), -1, width)


def bodies(table: pa.Table) -> "BodyParams":
    """The SMPL-X parameters of the rows."""
    from posedreamer_assets.body.params import BodyParams

    return BodyParams.from_flat({name: array(table, name) for name in BODY_COLUMNS})


def cameras(table: pa.Table) -> "Cameras":
    """The cameras of the rows."""
    from posedreamer_assets.cameras.pinhole import Cameras

    return Cameras.from_flat({name: array(table, name) for name in CAMERA_COLUMNS})


def make_table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """A table of a schema from arrays and lists; (n, ...) arrays fill list columns. Missing columns are null.

    Rows without `image_id` and `person` show one person, 0, in the image that their sample is named after.
    """
    count = len(next(iter(columns.values())))
    columns = {"image_id": columns.get("sample_id"), "person": [0] * count, **columns}
    return pa.table([_column(columns.get(field.name), field.type, count) for field in schema], schema=schema)


def _column(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    if isinstance(values, np.ndarray) and pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    if isinstance(values, np.ndarray):
        return pa.array(values, from_pandas=True).cast(kind)  # NaN, "could not be measured", becomes null
    return pa.array(list(values), type=kind)


def same_rows(left: pa.Table, *others: pa.Table) -> None:
    """Check that tables of one partition list the same samples in the same order.

    Raises:
        StorageError: they do not, so a partition was written from other poses.
    """
    from posedreamer_assets.errors import StorageError

    ids = left.column("sample_id").to_pylist()
    for other in others:
        if other.column("sample_id").to_pylist() != ids:
            raise StorageError(
                f"rows do not match: {len(ids)} and {other.num_rows} samples; make the older partition again"
            )


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of one schema, joined and ordered by sample id."""
    return pa.concat_tables(tables).sort_by("sample_id")

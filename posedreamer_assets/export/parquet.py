"""Parquet files that the library `datasets` of Hugging Face loads as they are, images decoded.

Columns are the table's own, in its own frames, and the body in the camera frame beside them (`global_orient_cam`,
`transl_cam`).
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, Shard
from posedreamer_assets.tables.fields import DATASET

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_VECTOR = pa.list_(pa.float32(), 3)


def _arrow_schema() -> pa.Schema:
    fields = [pa.field("image", _IMAGE) if f.name == "image" else pa.field(f.name, f.type) for f in DATASET]
    fields += [pa.field("global_orient_cam", _VECTOR), pa.field("transl_cam", _VECTOR)]
    features = {field.name: _feature(field.type) for field in fields}
    # Read by `datasets`: without it the image would be a dictionary of bytes.
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type), "length": kind.list_size}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    name = {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
    return {"_type": "Value", "dtype": name}


SCHEMA = _arrow_schema()
# Images are compressed already.
_COMPRESSION: Any = {"image.bytes": "none"}


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`data/<shard>.parquet`, one row group for each batch, so that a shard is never in memory."""
    with (
        shard.file(f"data/{shard.name}.parquet") as partial,
        pq.ParquetWriter(partial, SCHEMA, compression=_COMPRESSION) as writer,
    ):
        for samples in batches:
            writer.write_table(_table(samples))


def _table(samples: Samples) -> pa.Table:
    extra = {"global_orient_cam": samples.camera_orient, "transl_cam": samples.camera_transl}
    columns = []
    for field in SCHEMA:
        if field.name == "image":
            pairs = zip(samples.images, samples.image_names, strict=True)
            columns.append(pa.array([{"bytes": data, "path": name} for data, name in pairs], _IMAGE))
        elif field.name in extra:
            flat = pa.array(extra[field.name].astype(np.float32).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, 3))
        else:
            columns.append(samples.rows.column(field.name).combine_chunks())
    return pa.table(columns, schema=SCHEMA)


PARQUET = Format("parquet", "Parquet for Hugging Face datasets", 1_000, write)

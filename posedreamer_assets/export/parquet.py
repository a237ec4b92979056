"""Parquet files that the library `datasets` of Hugging Face loads as they are, images decoded.

A row is a person. Columns are the table's own, in its own frames; beside them the image, the body in the camera frame
(`global_orient_cam`, `transl_cam`) and the name of the body (`body`). People of one image share its bytes: they lie in one
row group, whose dictionary holds them once.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, LabelFiles, Shard
from posedreamer_assets.tables.fields import SCHEMAS

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_VECTOR = pa.list_(pa.float32(), 3)
_ADDED = [
    pa.field("image", _IMAGE),
    pa.field("global_orient_cam", _VECTOR),
    pa.field("transl_cam", _VECTOR),
    pa.field("body", pa.string()),
]


def _arrow_schema() -> pa.Schema:
    fields = [*(pa.field(f.name, f.type) for f in SCHEMAS["dataset"]), *_ADDED]
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
_PIXELS = "(0, 0) is the corner of the image"
_BYTES = "image.bytes"
# Images are compressed already.
_COMPRESSION: Any = {_BYTES: "none"}
_LABELS = [field.name for field in SCHEMA if field.name != "image"]
_DICTIONARY_BYTES = 1 << 30  # of the images of a row group


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`data/<shard>.parquet`, one row group for each batch, so that a shard is never in memory."""
    body = {"posedreamer": json.dumps({"body": asdict(shard.subject.identity), "pixels": _PIXELS})}
    schema = SCHEMA.with_metadata({**(SCHEMA.metadata or {}), **body})
    shared: dict[str, Any] = {}
    if shard.crowded:
        shared = {"use_dictionary": [*_LABELS, _BYTES], "dictionary_pagesize_limit": _DICTIONARY_BYTES}
    with (
        shard.file(f"data/{shard.name}.parquet") as partial,
        pq.ParquetWriter(partial, schema, compression=_COMPRESSION, **shared) as writer,
    ):
        for samples in batches:
            writer.write_table(_table(samples, shard, schema))


def _table(samples: Samples, shard: Shard, schema: pa.Schema) -> pa.Table:
    n = len(samples)
    pairs = zip(samples.image_ids, samples.image_names, strict=True)
    added = {
        "image": pa.array([{"bytes": samples.pictures[image], "path": name} for image, name in pairs], _IMAGE),
        "global_orient_cam": _vectors(samples.camera_orient),
        "transl_cam": _vectors(samples.camera_transl),
        "body": pa.array([shard.subject.identity.label] * n, pa.string()),
    }
    stored = samples.rows
    columns = [added[name] if name in added else stored.column(name).combine_chunks() for name in schema.names]
    return pa.table(columns, schema=schema)


def _vectors(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), 3)


_FILES = LabelFiles("data/*.parquet", "application/x-parquet")
PARQUET = Format("parquet", "Parquet for Hugging Face datasets", 1_000, write, pixels=_PIXELS, labels=_FILES)

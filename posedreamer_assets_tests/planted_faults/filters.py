"""A changed column, and filters that turn groups of people or poses away."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def with_column(rows: pa.Table, name: str, values: Sequence[Any] | np.ndarray) -> pa.Table:
    """The rows with other values in a column."""
    place = rows.schema.get_field_index(name)
    kind = rows.schema.field(place)
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return rows.set_column(place, kind.with_nullable(True), pa.array(plain, kind.type))


def kept_by_skin(rows: pa.Table) -> pa.Table:
    """A filter that rejects everybody of one skin tone, the commonest one, and nobody else."""
    tones = [re.findall(r"person with (\S+) skin", text) for text in rows.column("caption").to_pylist()]
    ((common, _),) = Counter(tone for found in tones for tone in found).most_common(1)
    return with_column(rows, "keep", [common not in found for found in tones])


def kept_by_family(rows: pa.Table) -> pa.Table:
    """Half of the poses are of a family that is rejected; all others are kept."""
    rejected = [i % 2 == 0 for i in range(rows.num_rows)]
    families = [
        "handstand" if no else name for no, name in zip(rejected, rows.column("family").to_pylist(), strict=True)
    ]
    return with_column(with_column(rows, "keep", [not no for no in rejected]), "family", families)

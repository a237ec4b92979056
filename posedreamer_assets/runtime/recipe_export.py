"""A recipe's manifest as rows to export: the very samples that a study's students were trained on, for other trainers."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import StudentError
from posedreamer_assets.export.source import INDEX_COLUMNS, MADE_BY, Batch
from posedreamer_assets.pipeline.student_study import needed_study, student_key
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.scoring.verdict import KEPT
from posedreamer_assets.tables.fields import BODY, CAMERA, LABELS, OF_PERSON, PROVENANCE, SCHEMAS, names_of
from posedreamer_assets.tables.keys import BASE

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

_AT_ONCE = 64
_OF_POSE = (*names_of(OF_PERSON), *names_of(PROVENANCE), *names_of(BODY), *names_of(CAMERA), "caption")
RENDERED = "rendered"
UNALIGNED = "unaligned_generations"
_READ = {
    "rendered_scenes": ("rendered_scenes", "pose_library", "control_maps"),
    "raw_generations": ("raw_generations", "filtered_dataset"),
    UNALIGNED: (UNALIGNED, "pose_library", "control_maps"),
}
"""By table of images, the tables that images and labels are read from."""
_JUDGED = {UNALIGNED: ("oks", "render_oks", "reason", "reasons", "generator")}
"""What a table says itself of its images, beside the pose's labels."""


class ManifestReader:
    """Gives the samples of a recipe's draw: an `export.source.Reader`.

    Labels of generated images are those of `filtered_dataset`, rejected rows among them; labels of renders are those of the pose
    and its control map. All are of split `train`; tests come from the study's test images alone. Every table is read at the
    version at which it was found up to date, whatever is written meanwhile.

    Args:
        store: where the tables are.
        profile: with the study.
        recipe: of the study.
        draw: number of the draw.

    Raises:
        StudentError: no such recipe, or its manifest is not up to date.
    """

    def __init__(self, store: "LanceStore", profile: Profile, recipe: str, draw: int = 0) -> None:
        study = needed_study(profile)
        if recipe not in study.recipes:
            raise StudentError(f"no recipe {recipe!r} in study {study.name}; there are {', '.join(study.recipes)}")
        snapshot, key = Snapshot(profile, store), student_key(recipe, draw, 0)
        if not snapshot.is_current(snapshot.graph["training_manifests"], key):
            raise StudentError(
                f"training_manifests[{key}] is not up to date; run `posedreamer run` with the study first"
            )
        self._listed = Listed(snapshot)
        rows = self._listed.rows("training_manifests", [key], ["table", "source_sample_id"])
        self._table_of = {row["source_sample_id"]: row["table"] for row in rows.to_pylist()}
        if len(self._table_of) != rows.num_rows:
            raise StudentError(f"recipe {recipe!r} takes some poses from two tables; export each table by itself")
        names = sorted({name for table in self._table_of.values() for name in _READ[table]})
        self.versions: Mapping[str, int | str | None] = {
            name: next(iter(snapshot.table(name).values())).version for name in ("training_manifests", *names)
        }

    def __len__(self) -> int:
        return len(self._table_of)

    def index(self) -> pa.Table:
        """What plan and card need to know of every sample."""
        return self._labels.select([*INDEX_COLUMNS, *MADE_BY])

    def batches(self, image_ids: Sequence[str]) -> Iterator[Batch]:
        """Samples and images, a few at a time."""
        place = {name: i for i, name in enumerate(self._labels.column("image_id").to_pylist())}
        columns = [*SCHEMAS["dataset"].names, "row_digest"]
        for start in range(0, len(image_ids), _AT_ONCE):
            some = image_ids[start : start + _AT_ONCE]
            people = self._labels.take(pa.array([place[name] for name in some])).select(columns)
            yield Batch(people, dict(zip(some, self._images(some), strict=True)))

    def _images(self, ids: Sequence[str]) -> list[bytes]:
        found: dict[str, bytes] = {}
        for table in {*self._table_of.values()}:
            own = [name for name in ids if self._table_of[name] == table]
            if own:
                rows = self._listed.take(table, own, ["sample_id", "image"])
                found |= dict(zip(rows.column("sample_id").to_pylist(), rows.column("image").to_pylist(), strict=True))
        return [found[name] for name in ids]

    @cached_property
    def _labels(self) -> pa.Table:
        parts = []
        for table in sorted({*self._table_of.values()}):
            ids = sorted(name for name, own in self._table_of.items() if own == table)
            parts.append(self._generated(ids) if table == "raw_generations" else self._of_pose(table, ids))
        return pa.concat_tables(parts).sort_by("image_id")

    def _generated(self, ids: Sequence[str]) -> pa.Table:
        columns = [*SCHEMAS["dataset"].names, "row_digest"]
        rows = self._listed.take("filtered_dataset", ids, columns)
        made = self._listed.take("raw_generations", ids, ["sample_id", *MADE_BY])
        own = {name: rows.column(name) for name in columns}
        return _table({**own, **{name: made.column(name) for name in MADE_BY}}, len(ids))

    def _of_pose(self, table: str, ids: Sequence[str]) -> pa.Table:
        """Images whose labels are those of the pose and its control map."""
        poses = self._listed.take("pose_library", ids, [*_OF_POSE, "row_digest"])
        maps = self._listed.take("control_maps", ids, ["sample_id", *names_of(LABELS)])
        own = self._listed.take(table, ids, ["sample_id", "row_digest", *_JUDGED.get(table, ())])
        count = len(ids)
        both = zip(poses.column("row_digest").to_pylist(), own.column("row_digest").to_pylist(), strict=True)
        columns: dict[str, Any] = {
            **{name: poses.column(name) for name in _OF_POSE},
            **{name: maps.column(name) for name in names_of(LABELS)},
            "reason": [KEPT] * count,
            "reasons": [[]] * count,
            "image_digest": own.column("row_digest"),
            "row_digest": [digest(list(pair)) for pair in both],
            **dict.fromkeys(("oks", "render_oks", "predicted_oks"), [np.nan] * count),
            "round": [BASE] * count,
            "generator": [RENDERED] * count,
            "adapter": ["none"] * count,
            **{name: own.column(name) for name in _JUDGED.get(table, ())},
        }
        return _table(columns, count)


def _table(columns: Mapping[str, Any], count: int) -> pa.Table:
    """Columns of `dataset`, the digest of each row, and what made its image; all of split `train`."""
    texts = [pa.field(name, pa.string()) for name in ("row_digest", *MADE_BY)]
    schema = pa.schema([*SCHEMAS["dataset"], *texts])
    whole = {**columns, "split": ["train"] * count}
    arrays = [
        whole[field.name] if isinstance(whole[field.name], pa.ChunkedArray) else pa.array(whole[field.name], field.type)
        for field in schema
    ]
    return pa.table(arrays, names=schema.names).cast(schema)

"""A few rows of the dataset, one person in each image, with all that exports can get wrong: shapes, hands, faces, rolled
cameras, split and format of images; and the silhouettes that the bodies have in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cameras.sampling import sample_cameras
from posedreamer_assets.config import CameraConfig, ImageConfig
from posedreamer_assets.digests import row_digests
from posedreamer_assets.export.source import MADE_BY, Batch
from posedreamer_assets.poses.procedural import procedural_poses
from posedreamer_assets.render.control import ControlMaps, render_control_maps
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import BODY_COLUMNS, CAMERA, SCHEMAS
from posedreamer_assets.tables.images import encode_jpeg, encode_png
from posedreamer_assets.tables.rows import make_table

WIDTH, HEIGHT = 224, 256
SPLITS = ("train", "train", "test", "train", "val", "train", "train", "test")
IDS = [f"procedural-{i // 4:04d}/{i % 4:06d}" for i in range(len(SPLITS))]


@dataclass(frozen=True)
class World:
    """Rows, and what is true of them."""

    table: pa.Table  # of `dataset`, and row_digest
    images: pa.Table  # of `raw_generations`, and row_digest
    params: BodyParams
    cameras: Cameras
    maps: ControlMaps


@lru_cache(maxsize=1)
def world() -> World:
    """The rows; images are the control maps, so that what is looked at is what was labelled."""
    body, n = load_body(), len(IDS)
    params, families = procedural_poses(body, IDS, 3)
    rng = np.random.default_rng(0)
    params = params.replace(
        left_hand_pose=rng.normal(0, 0.2, (n, 15, 3)).astype(np.float32),
        right_hand_pose=rng.normal(0, 0.2, (n, 15, 3)).astype(np.float32),
        expression=rng.normal(0, 1, (n, 10)).astype(np.float32),
        transl=params.transl + rng.normal(0, 1, (n, 3)).astype(np.float32),
    )
    surface = body.forward(params).vertices[:, ::20]
    shares = CameraConfig(truncated_share=0.25, roll_std_deg=15.0)
    cameras, _ = sample_cameras(surface, IDS, 3, shares, ImageConfig(WIDTH, HEIGHT))
    # Off the middle: who forgets the principal point is seen.
    cameras = Cameras(**{**vars(cameras), "principal_px": cameras.principal_px + np.array([9, -7], np.float32)})
    maps = render_control_maps(body, params, cameras)
    keys = [name.partition("/")[0] for name in IDS]
    encoded = [encode_jpeg(c) if i % 3 == 0 else encode_png(c) for i, c in enumerate(maps.control)]
    images = image_rows(IDS, keys, encoded)
    columns = {
        "sample_id": IDS,
        "partition_key": keys,
        "image_id": IDS,
        "person": [0] * n,
        "image_digest": images.column("row_digest").to_pylist(),
        "reason": ["kept"] * n,
        "reasons": [[]] * n,
        "oks": rng.uniform(0.8, 1, n).astype(np.float32),
        "round": ["base"] * n,
        "source": ["procedural"] * n,
        "family": families,
        "provenance": [f"test {i}" for i in range(n)],
        "licence": ["CC0-1.0", "CC-BY-4.0"] * (n // 2),
        "seed": list(range(n)),
        "split": list(SPLITS),
        **params.to_flat(),
        **cameras.to_flat(),
        "caption": ["a person"] * n,
        **{name: getattr(maps, name) for name in ("keypoints_2d", "keypoints_visible", "joints_2d", "joints_visible")},
        "joints_cam_m": maps.joints_cam_m,
        "bbox": maps.bbox,
    }
    return World(with_digests(make_table(columns, SCHEMAS["dataset"])), images, params, cameras, maps)


def image_rows(ids: list[str], keys: list[str], encoded: list[bytes]) -> pa.Table:
    """Rows of `raw_generations` with their digests."""
    columns = {"sample_id": ids, "image_id": ids, "partition_key": keys, "image": encoded}
    columns |= {"generator": ["pocket:shipped:0123"] * len(ids), "adapter": ["none"] * len(ids)}
    return with_digests(make_table(columns, SCHEMAS["raw_generations"]))


def with_digests(rows: pa.Table) -> pa.Table:
    """With the digests that a store would give them."""
    return rows.append_column("row_digest", pa.array(row_digests(rows.combine_chunks().to_batches()[0])))


def pictured(truth: World, encoded: list[bytes]) -> World:
    """The same people in other pictures."""
    images = image_rows(IDS, [name.partition("/")[0] for name in IDS], encoded)
    table = truth.table.drop_columns(["row_digest"])
    place = table.column_names.index("image_digest")
    table = table.set_column(place, "image_digest", images.column("row_digest"))
    return World(with_digests(table), images, truth.params, truth.cameras, truth.maps)


def crowded(truth: World) -> World:
    """The first two people of the training split in one image: the second one's label tells of the first one's image."""
    rows = truth.table.drop_columns(["row_digest"]).to_pylist()
    assert rows[0]["split"] == rows[1]["split"]
    rows[1] |= {"sample_id": f"{IDS[0]}/1", "image_id": IDS[0], "person": 1, "image_digest": rows[0]["image_digest"]}
    # One camera for an image: the second person stands before the first one's.
    moved = {f.name: rows[0][f.name] for f in CAMERA} | {
        name: rows[0][name] for name in (*BODY_COLUMNS, "joints_cam_m")
    }
    rows[1] |= moved
    table = with_digests(pa.Table.from_pylist(rows, schema=SCHEMAS["dataset"]))
    return World(table, truth.images, truth.params, truth.cameras, truth.maps)


def write_store(store: LanceStore, truth: World) -> None:
    """The rows as the stages leave them; the last partition is written first."""
    for name, rows in (("raw_generations", truth.images), ("dataset", truth.table)):
        keys = sorted(set(rows.column("partition_key").to_pylist()), reverse=True)
        for key in keys:
            own = rows.filter(pa.array([k == key for k in rows.column("partition_key").to_pylist()]))
            store.replace_partition(name, key, own.drop_columns(["row_digest"]), input_digest="x")


class TableReader:
    """A reader of rows in memory, which counts what was asked of it and can be made to fail."""

    def __init__(self, truth: World, fail_after: int | None = None) -> None:
        self.truth = truth
        self.read = 0
        self._fail_after = fail_after

    def index(self) -> pa.Table:
        table, images = self.truth.table, self.truth.images
        made = {row["image_id"]: row for row in images.drop_columns(["image"]).to_pylist()}
        for name in MADE_BY:
            values = [made[image][name] for image in table.column("image_id").to_pylist()]
            table = table.append_column(name, pa.array(values, pa.string()))
        return table.sort_by([("image_id", "ascending"), ("person", "ascending")])

    def batches(self, image_ids: Sequence[str]) -> Iterator[Batch]:
        encoded = dict(zip(*(self.truth.images.column(n).to_pylist() for n in ("image_id", "image")), strict=True))
        owners = self.truth.table.column("image_id").to_pylist()
        for start in range(0, len(image_ids), 2):
            some = image_ids[start : start + 2]
            if self._fail_after is not None and self.read >= self._fail_after:
                raise OSError("the cable came out")
            people = [row for name in some for row, owner in enumerate(owners) if owner == name]
            self.read += len(people)
            yield Batch(self.truth.table.take(people), {name: encoded[name] for name in some})

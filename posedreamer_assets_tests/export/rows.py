"""A few rows of the dataset with all that exports can get wrong: shapes, hands, faces, rolled cameras, split and format
of images; and the silhouettes that the bodies have in them."""

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
from posedreamer_assets.poses.procedural import procedural_poses
from posedreamer_assets.render.control import ControlMaps, render_control_maps
from posedreamer_assets.tables.fields import DATASET
from posedreamer_assets.tables.images import encode_jpeg, encode_png
from posedreamer_assets.tables.rows import make_table

WIDTH, HEIGHT = 224, 256
SPLITS = ("train", "train", "test", "train", "val", "train", "train", "test")
IDS = [f"procedural-{i // 4:04d}/{i % 4:06d}" for i in range(len(SPLITS))]


@dataclass(frozen=True)
class World:
    """Rows, and what is true of them."""

    table: pa.Table  # records.DATASET and row_digest
    params: BodyParams
    cameras: Cameras
    maps: ControlMaps


@lru_cache(maxsize=1)
def world() -> World:
    """The rows; images are the control maps, so that what is looked at is what was labelled."""
    body, n = load_body(), len(IDS)
    params, families = procedural_poses(body, IDS, 3, betas_std=1.5)
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
    columns = {
        "sample_id": IDS,
        "partition_key": [name.partition("/")[0] for name in IDS],
        "reason": ["kept"] * n,
        "reasons": [[]] * n,
        "oks": rng.uniform(0.8, 1, n).astype(np.float32),
        "image": [encode_jpeg(c) if i % 3 == 0 else encode_png(c) for i, c in enumerate(maps.control)],
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
    table = make_table(columns, DATASET)
    digests = pa.array(row_digests(table.combine_chunks().to_batches()[0]))
    return World(table.append_column("row_digest", digests), params, cameras, maps)


class TableReader:
    """A reader of rows in memory, which counts what was asked of it and can be made to fail."""

    def __init__(self, table: pa.Table, fail_after: int | None = None) -> None:
        self.table = table
        self.read = 0
        self._fail_after = fail_after

    def index(self) -> pa.Table:
        return self.table.drop_columns(["image"])

    def batches(self, ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        places = {name: i for i, name in enumerate(self.table.column("sample_id").to_pylist())}
        for start in range(0, len(ids), 2):
            if self._fail_after is not None and self.read >= self._fail_after:
                raise OSError("the cable came out")
            some = ids[start : start + 2]
            self.read += len(some)
            yield from self.table.take([places[name] for name in some]).combine_chunks().to_batches()

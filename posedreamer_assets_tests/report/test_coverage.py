"""Coverage: what is measured of a pose is what its name says."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.render.appearance import appearance_to_json, sample_appearance
from posedreamer_assets.report.coverage import coverage, kept_ids, measured
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.rows import make_table


def turned_bodies(turns_deg: list[float], axis: str = "y") -> pa.Table:
    """Bodies at the origin, turned about a world axis, seen by a level camera four metres in front of them."""
    n = len(turns_deg)
    root = (
        Rotation.from_euler(axis, np.array(turns_deg)[:, None], degrees=True)
        .as_rotvec()
        .astype(np.float32)
        .reshape(n, 3)
    )
    ones = np.ones(n, np.float32)
    cameras = Cameras(
        np.broadcast_to(np.diag([1, -1, -1]).astype(np.float32), (n, 3, 3)),
        np.array([[0, 0, 4]], np.float32).repeat(n, 0),
        256 * ones,
        64 * np.ones((n, 2), np.float32),
        128,
        128,
        0 * ones,
        0 * ones,
    )
    looks = [appearance_to_json(sample_appearance(np.random.default_rng(i), "is standing")) for i in range(n)]
    columns = {
        "sample_id": [f"a-0000/{i:06d}" for i in range(n)],
        "family": ["stand", "lie", *["stand"] * n][:n],
        "appearance": looks,
        **BodyParams.zeros(n).replace(global_orient=root).to_flat(),
        **cameras.to_flat(),
    }
    return make_table(columns, pa.schema([SCHEMAS["pose_library"].field(name) for name in columns]))


def test_facing_is_the_angle_to_the_camera_on_either_side() -> None:
    values = measured(turned_bodies([0.0, 90.0, -90.0, 180.0, 30.0]))
    np.testing.assert_allclose(values["facing"], [0, 90, 90, 180, 30], atol=1e-3)
    np.testing.assert_allclose(values["upright"], 0, atol=1e-3)
    np.testing.assert_allclose(values["distance"], 4)
    np.testing.assert_allclose(values["focal"], 2)


def test_a_body_that_lies_is_not_upright() -> None:
    np.testing.assert_allclose(measured(turned_bodies([90.0, -45.0], "x"))["upright"], [90, 45], atol=1e-3)


def test_kept_samples_are_counted_by_name() -> None:
    poses = turned_bodies([0.0, 10.0, 20.0])
    filtered = pa.table({"sample_id": poses["sample_id"], "keep": [True, False, False]})
    found = coverage(poses, kept_ids(filtered))
    assert found.counts("family") == ({"stand": 2, "lie": 1}, {"stand": 1, "lie": 0})
    assert found.groups("facing")["kept"] == pytest.approx([0.0], abs=1e-3)
    assert len(found.groups("facing")["asked for"]) == 3

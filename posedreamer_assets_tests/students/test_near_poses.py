"""Training poses a moment from a test pose are found, mirrored ones too."""

from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.anatomy import mirror_full_pose
from posedreamer_assets.checks.files import load_table_checks
from posedreamer_assets.checks.model import Around, DataCheck
from posedreamer_assets.checks.rows import Rows
from posedreamer_assets.checks.students import far_from_tests
from posedreamer_assets.students import near_poses
from posedreamer_assets.students.near_poses import nearest_deg


def some_poses(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, (count, 63))


def naive(poses: np.ndarray, tests: np.ndarray) -> np.ndarray:
    def mirror(pose: np.ndarray) -> np.ndarray:
        return mirror_full_pose(np.concatenate([np.zeros(3), pose, np.zeros(99)]).reshape(55, 3))[1:22].ravel()

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        between = [
            (Rotation.from_rotvec(a[k : k + 3]).inv() * Rotation.from_rotvec(b[k : k + 3])).magnitude()
            for k in range(0, 63, 3)
        ]
        return float(np.degrees(np.mean(between)))

    both = [*tests, *(mirror(test) for test in tests)]
    return np.array([min(angle(pose, test) for test in both) for pose in poses])


def test_distances_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_poses, "_CHUNK", 3)
    poses, tests = some_poses(7, 0), some_poses(4, 1)
    np.testing.assert_allclose(nearest_deg(poses, tests), naive(poses, tests), atol=0.05)


def test_the_same_pose_and_its_mirror_image_are_no_distance_apart() -> None:
    tests = some_poses(3, 2)
    mirrored = tests.reshape(3, 21, 3)[:, np.array(near_poses.JOINT_MIRROR[1:22]) - 1] * [1, -1, -1]
    for poses in (tests, mirrored.reshape(3, 63)):
        assert nearest_deg(poses, tests).max() < 0.1
    assert np.isinf(nearest_deg(tests, tests[:0])).all()


class Tables:
    """Other tables as a check sees them."""

    def __init__(self, **tables: pa.Table) -> None:
        self._tables = tables

    def everywhere(self, table: str, columns: list[str]) -> pa.Table:
        return self._tables[table].select(columns)


@pytest.mark.parametrize(("turned_deg", "passes"), [(0.0, False), (1.0, False), (10.0, True)])
def test_the_check_finds_a_frame_a_moment_away(turned_deg: float, passes: bool) -> None:
    """Each joint of the test pose turned on by so much about its own axis."""
    tests = some_poses(2, 3)
    axes = tests.reshape(2, 21, 3)
    lengths = np.linalg.norm(axes, axis=-1, keepdims=True)
    moved = (axes * (1 + np.radians(turned_deg) / lengths)).reshape(2, 63)
    poses = np.concatenate([moved[:1], some_poses(1, 4)])
    around = Tables(
        pose_library=pa.table({"sample_id": ["near", "far"], "body_pose": poses.tolist()}),
        benchmark_images=pa.table({"body_pose": [*tests.tolist(), None]}),
    )
    rows = Rows(pa.table({"sample_id": ["s/0", "s/1", "s/2"], "source_sample_id": ["near", "far", "gone"]}))
    found = far_from_tests(rows, own_check(), cast(Around, around))
    assert found == [passes, True, None]


def own_check() -> DataCheck:
    return next(check for check in load_table_checks("training_manifests").checks if check.name == "no_near_pose")

"""Rotations against SciPy and their own inverses."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.rotations import (
    axis_angle_to_6d,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    rotation_between,
)

vectors = st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3).map(lambda v: np.array(v, np.float64))


@given(vectors)
def test_axis_angle_survives_the_round_trip(vector: np.ndarray) -> None:
    np.testing.assert_allclose(matrix_to_axis_angle(axis_angle_to_matrix(vector)), vector, atol=1e-7)


def test_shapes_are_kept() -> None:
    assert axis_angle_to_matrix(np.zeros((4, 2, 3), np.float32)).shape == (4, 2, 3, 3)
    assert axis_angle_to_6d(np.zeros((4, 2, 3), np.float32)).shape == (4, 2, 6)


def test_6d_holds_the_first_two_columns() -> None:
    vector = np.array([0.3, -0.2, 0.9])
    matrix = Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(axis_angle_to_6d(vector), np.concatenate([matrix[:, 0], matrix[:, 1]]))


def test_6d_is_continuous_where_axis_angle_jumps() -> None:
    near, past = np.array([np.pi - 1e-4, 0, 0]), np.array([-(np.pi - 1e-4), 0, 0])
    assert np.abs(axis_angle_to_6d(near) - axis_angle_to_6d(past)).max() < 1e-3


@settings(max_examples=60)
@given(vectors, vectors)
def test_rotation_between_turns_a_into_b(a: np.ndarray, b: np.ndarray) -> None:
    if min(np.linalg.norm(a), np.linalg.norm(b)) < 1e-3:
        return
    matrix = rotation_between(a, b)
    np.testing.assert_allclose(matrix @ (a / np.linalg.norm(a)), b / np.linalg.norm(b), atol=1e-6)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)


def test_rotation_between_opposite_directions() -> None:
    matrix = rotation_between(np.array([0.0, 1, 0]), np.array([0.0, -1, 0]))
    np.testing.assert_allclose(matrix @ [0, 1, 0], [0, -1, 0], atol=1e-12)
    assert np.linalg.det(matrix) > 0.99

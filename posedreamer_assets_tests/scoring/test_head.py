import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.scoring.head import FACE_POINTS_M, head_errors_deg, head_rotations


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head to camera: turn, nod, look into the camera, tilt."""
    face = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_euler("xy", [pitch, yaw], degrees=True).as_matrix()
    return Rotation.from_euler("z", roll, degrees=True).as_matrix() @ face


def projected(matrix: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """The face at about 14 pixels between the ears, scaled orthographic."""
    points = (FACE_POINTS_M @ matrix.T)[:, :2] * 80 + 64
    return (points + np.random.default_rng(seed).normal(0, noise, points.shape)).astype(np.float32)


def error(found: np.ndarray, label: np.ndarray, confident: int = 5) -> float:
    detected, truth = np.zeros((1, 17, 3), np.float32), np.zeros((1, 17, 2), np.float32)
    detected[0, :5, :2], detected[0, :confident, 2], truth[0, :5] = found, 0.9, label
    return float(head_errors_deg(detected, truth)[0])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.linalg.norm(Rotation.from_matrix(a.T @ b).as_rotvec())))


CASES = [(0, 0, 0), (40, 10, 5), (-75, -20, -15), (110, 5, 20), (-160, 15, 0), (180, -10, 10)]


@pytest.mark.parametrize("pose", CASES)
def test_known_rotations_are_found(pose: tuple[float, float, float]) -> None:
    found = head_rotations(projected(rotation(*pose))[None])[0]
    assert angle(found, rotation(*pose)) < 1.0


@pytest.mark.parametrize("pose", CASES)
@pytest.mark.parametrize("turn", [30, 60, 120, 180])
def test_errors_are_near_the_true_angle(pose: tuple[float, float, float], turn: float) -> None:
    other = rotation(pose[0] + turn, *pose[1:])
    measured = error(projected(other), projected(rotation(*pose)))
    assert measured == pytest.approx(angle(other, rotation(*pose)), abs=12)


def test_small_noise_does_not_reject_and_a_turned_head_is_seen() -> None:
    same = [error(projected(rotation(*p), 0.7, i), projected(rotation(*p))) for i, p in enumerate(CASES * 3)]
    turned = [
        error(projected(rotation(p[0] + 180, *p[1:]), 0.7, i), projected(rotation(*p))) for i, p in enumerate(CASES * 3)
    ]
    assert np.percentile(same, 90) < 25
    assert min(turned) > 120


def test_too_few_confident_keypoints_give_nan() -> None:
    face = projected(rotation(10, 0, 0))
    assert np.isnan(error(face, face, confident=2))
    assert error(face, face, confident=3) < 2


def test_keypoints_out_of_frame_are_not_used() -> None:
    detected, label = np.zeros((2, 17, 3), np.float32), np.zeros((2, 17, 2), np.float32)
    detected[:, :5, :2], detected[:, :5, 2] = projected(rotation(0, 0, 0)), 1.0
    label[:, :5] = projected(rotation(0, 0, 0))
    in_frame = np.ones((2, 17), bool)
    in_frame[1, :3] = False
    out = head_errors_deg(detected, label, in_frame)
    assert out[0] < 2
    assert np.isnan(out[1])


def test_image_scale_and_position_do_not_matter() -> None:
    found, label = projected(rotation(50, 5, 0)), projected(rotation(10, 0, 0))
    assert error(found * 7 + 30, label * 7 + 30) == pytest.approx(error(found, label), abs=0.5)

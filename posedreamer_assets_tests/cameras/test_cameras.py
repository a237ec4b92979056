"""Projection and camera sampling."""

import numpy as np
import pytest

from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cameras.sampling import sample_cameras
from posedreamer_assets.config import CameraConfig, ImageConfig

IMAGE = ImageConfig(128, 128)


def person(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform([-0.4, 0, -0.3], [0.4, 1.7, 0.3], (n, 200, 3))
    points[:, 0], points[:, 1] = (-0.4, 0, 0), (0.4, 1.7, 0)
    return points.astype(np.float32)


def sampled(n: int = 60, **options: float) -> tuple[np.ndarray, Cameras, np.ndarray]:
    points = person(n)
    cameras, truncated = sample_cameras(
        points, [f"x-0000/{i:06d}" for i in range(n)], 0, CameraConfig(**options), IMAGE
    )
    return points, cameras, truncated


def test_unproject_inverts_project() -> None:
    points, cameras, _ = sampled(8)
    depth = cameras.to_camera(points)[..., 2]
    np.testing.assert_allclose(cameras.unproject(cameras.project(points), depth), points, atol=1e-4)


def test_projection_equals_a_naive_loop() -> None:
    points, cameras, _ = sampled(3)
    pixels = cameras.project(points)
    for i in range(3):
        for k in (0, 17, 99):
            x, y, z = cameras.rotation[i] @ points[i, k] + cameras.translation[i]
            u = cameras.focal_px[i] * x / z + cameras.principal_px[i, 0]
            v = cameras.focal_px[i] * y / z + cameras.principal_px[i, 1]
            np.testing.assert_allclose(pixels[i, k], (u, v), rtol=1e-4)


def test_points_behind_the_camera_have_no_pixel() -> None:
    camera = Cameras(
        np.eye(3, dtype=np.float32)[None],
        np.zeros((1, 3), np.float32),
        np.array([100.0], np.float32),
        np.array([[64.0, 64.0]], np.float32),
        128,
        128,
        np.zeros(1, np.float32),
        np.zeros(1, np.float32),
    )
    assert np.isnan(camera.project(np.array([[[0.0, 0.0, -1.0]]], np.float32))).all()


def test_bodies_stay_in_frame_unless_truncated_on_purpose() -> None:
    points, cameras, truncated = sampled(truncated_share=0.3)
    pixels = cameras.project(points)
    inside = np.all((pixels >= -0.5) & (pixels <= 128.5), axis=(1, 2))
    assert inside[~truncated].all()
    assert not inside[truncated].any()
    assert 0.15 < truncated.mean() < 0.45


def test_long_bodies_that_point_at_the_camera_are_framed_too() -> None:
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(500, 1, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    along = np.linspace(-0.9, 0.9, 9)[None, :, None]
    points = (axes * along + rng.normal(0, 0.12, (500, 9, 3))).astype(np.float32)
    cameras, _ = sample_cameras(points, [str(i) for i in range(500)], 0, CameraConfig(truncated_share=0.0), IMAGE)
    pixels = cameras.project(points)
    assert ((pixels >= 0) & (pixels < 128)).all()


def test_the_stated_ranges_hold() -> None:
    points, cameras, _ = sampled(truncated_share=0.0, fill_min=0.6, fill_max=0.8)
    assert (cameras.pitch_deg >= 0).all() and (cameras.pitch_deg <= 45).all()
    assert np.ptp(cameras.pitch_deg) > 25
    assert (cameras.focal_px >= 1.2 * 128).all() and (cameras.focal_px <= 2.2 * 128).all()
    assert 1 < cameras.roll_deg.std() < 8
    size = np.ptp(cameras.project(points), axis=1).max(axis=1) / 128
    assert (size > 0.57).all() and (size < 0.83).all()


def test_pitch_looks_down() -> None:
    _, cameras, _ = sampled(5, pitch_min_deg=30, pitch_max_deg=31, roll_std_deg=0)
    forward = cameras.rotation[:, 2]
    np.testing.assert_allclose(np.degrees(np.arcsin(-forward[:, 1])), cameras.pitch_deg, atol=1e-3)


def test_up_is_up_in_the_picture() -> None:
    _, cameras, _ = sampled(10, truncated_share=0.0)
    pixels = cameras.project(np.array([[[0, 0.1, 0], [0, 1.6, 0]]] * 10, np.float32))
    assert (pixels[:, 1, 1] < pixels[:, 0, 1]).all()


def test_a_camera_does_not_depend_on_its_batch() -> None:
    points, cameras, _ = sampled(6)
    alone, _ = sample_cameras(points[4:5], ["x-0000/000004"], 0, CameraConfig(), IMAGE)
    np.testing.assert_array_equal(alone.translation[0], cameras.translation[4])


def test_columns_survive_the_round_trip() -> None:
    _, cameras, _ = sampled(4)
    again = Cameras.from_flat(cameras.to_flat())
    for name in ("rotation", "translation", "focal_px", "principal_px", "pitch_deg", "roll_deg"):
        np.testing.assert_array_equal(getattr(again, name), getattr(cameras, name))
    assert (again.width, again.height) == (128, 128)


def test_cameras_of_different_sizes_do_not_mix() -> None:
    _, cameras, _ = sampled(2)
    other, _ = sample_cameras(person(1), ["y-0000/000000"], 0, CameraConfig(), ImageConfig(64, 64))
    with pytest.raises(ValueError, match="sizes"):
        Cameras.concat([cameras, other])

"""Control images of depth and normals, against a loop over pixels that follows the convention's words."""

import numpy as np
import pytest

from posedreamer_assets.config import GeneratorConfig
from posedreamer_assets.diffusion.controls import BACKDROP_MM, depth_controls, normal_controls
from posedreamer_assets.pipeline.control_images import control_images
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets.tables.rows import make_table


def draw_depth(seed: int, side: int = 24) -> np.ndarray:
    """A sloping disc at 2 to 4 metres on a background of zeros, millimetres: uint16 (side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    disc = (x - rng.uniform(8, 16)) ** 2 + (y - rng.uniform(8, 16)) ** 2 < rng.uniform(4, 8) ** 2
    slope = rng.uniform(2000, 4000) + rng.uniform(-40, 40) * x + rng.uniform(-40, 40) * y
    return np.where(disc, slope, 0).astype(np.uint16)


def depth_by_pixel(depth_mm: np.ndarray) -> np.ndarray:
    """One over the distance, stretched so that a backdrop a metre behind the body is 0 and the nearest point 255."""
    found = [int(v) for v in depth_mm.ravel() if v]
    image = np.zeros((*depth_mm.shape, 3), np.uint8)
    if not found:
        return image
    nearest, backdrop = min(found), max(found) + 1000
    for row in range(depth_mm.shape[0]):
        for column in range(depth_mm.shape[1]):
            z = int(depth_mm[row, column])
            if z:
                share = (1 / z - 1 / backdrop) / (1 / nearest - 1 / backdrop)
                image[row, column] = max(1, round(255 * share))
    return image


def test_depth_is_that_of_a_loop_over_pixels() -> None:
    depth = np.stack([draw_depth(seed) for seed in range(4)])
    assert np.array_equal(depth_controls(depth), np.stack([depth_by_pixel(one) for one in depth]))


def test_nearer_is_brighter_and_the_nearest_is_white_however_far_the_body() -> None:
    near = draw_depth(0)
    far = np.where(near, near + 3000, 0).astype(np.uint16)
    for depth in (near, far):
        image = depth_controls(depth[None])[0]
        order = np.argsort(depth[depth > 0], kind="stable")
        grey = image[depth > 0][order, 0].astype(int)
        assert grey[0] == 255
        assert (np.diff(grey) <= 0).all() and grey[-1] < 255
        assert (image == image[..., :1]).all()


@pytest.mark.parametrize("nearest", [1, 300, 2000])
def test_background_alone_is_black_even_beside_a_hand_at_the_lens(nearest: int) -> None:
    depth = np.array([[[0, nearest], [60_000, 65_535]]], np.uint16)
    assert (depth_controls(depth)[0].any(-1) == (depth[0] > 0)).all()


def test_no_body_at_all_is_black() -> None:
    assert not depth_controls(np.zeros((2, 8, 8), np.uint16)).any()


def test_a_flat_body_is_white_and_a_deep_one_reaches_into_the_dark() -> None:
    flat = depth_controls(np.array([[[0, 3000, 3000]]], np.uint16))[0, 0, :, 0]
    deep = depth_controls(np.array([[[0, 1500, 6000]]], np.uint16))[0, 0, :, 0]
    assert flat.tolist() == [0, 255, 255]
    assert deep[1] == 255 and 0 < deep[2] < 40
    assert BACKDROP_MM == 1000


@pytest.mark.parametrize(
    ("normal", "colour"),
    [
        ((0, 0, -1), (128, 128, 255)),  # towards the camera
        ((1, 0, 0), (255, 128, 128)),  # to the right
        ((0, -1, 0), (128, 255, 128)),  # up: the camera's y points down
    ],
)
def test_normals_are_red_to_the_right_green_up_and_blue_towards_the_camera(
    normal: tuple[int, int, int], colour: tuple[int, int, int]
) -> None:
    stored = np.round((np.array(normal) + 1) / 2 * 255).astype(np.uint8)
    found = normal_controls(np.stack([stored, np.zeros(3, np.uint8)])[None, None])[0, 0]
    assert np.abs(found[0].astype(int) - colour).max() <= 1
    assert not found[1].any()


def test_the_setting_chooses_among_the_columns_of_control_maps() -> None:
    rng = np.random.default_rng(0)
    depth = np.stack([draw_depth(seed) for seed in range(2)])
    mesh, normals = (np.where(depth[..., None], rng.integers(1, 255, (2, 24, 24, 3)), 0).astype(np.uint8) for _ in "ab")
    columns = {"control": mesh, "depth": depth, "normals": normals}
    table = make_table(
        {"sample_id": ["a", "b"], "partition_key": ["k", "k"]}
        | {name: [encode_png(image) for image in images] for name, images in columns.items()},
        SCHEMAS["control_maps"],
    )
    wanted = {"mesh": mesh, "depth": depth_controls(depth), "normals": normal_controls(normals)}
    for control, images in wanted.items():
        found = control_images(GeneratorConfig(control=control), table)  # type: ignore[arg-type]  # a key of the dict
        assert np.array_equal(found, images) and found.dtype == np.uint8
        assert np.array_equal(found.any(-1), depth > 0)

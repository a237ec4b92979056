"""Crops by the label's box: points come back exactly, and what a network is shown is the labelled person."""

from typing import Any

import numpy as np
import pytest
import torch

from posedreamer_assets.errors import DetectorError
from posedreamer_assets.scoring.crops import MARGIN, crop_windows, cut
from posedreamer_assets.scoring.detectors import TorchDetector
from posedreamer_assets.scoring.fitting import Fitting

INPUT = (256, 192)
IMAGE = (300, 400)  # height, width
BOXES = np.array(
    [
        [120.0, 60.0, 80.0, 200.0],  # a standing person
        [40.0, 150.0, 300.0, 60.0],  # a lying one
        [-90.0, -40.0, 150.0, 220.0],  # cut off at a corner of the frame
        [350.0, 250.0, 200.0, 300.0],  # mostly beyond the frame
        [900.0, 900.0, 50.0, 50.0],  # wholly beyond it
        [0.0, 0.0, 400.0, 300.0],
    ]
)


def bump(x: float, y: float, sigma: float, hw: tuple[int, int] = IMAGE) -> np.ndarray:
    """A picture whose only bright spot is there."""
    columns, rows = np.arange(hw[1]) + 0.5, np.arange(hw[0]) + 0.5
    spot = np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * sigma**2))
    return np.repeat((spot * 255).astype(np.uint8)[..., None], 3, -1)


def centre_of_mass(picture: np.ndarray) -> np.ndarray:
    weights = picture[..., 0].astype(np.float64)
    rows, columns = np.indices(weights.shape) + 0.5
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


def test_windows_hold_the_box_with_its_margin_at_the_input_s_aspect_about_the_same_centre() -> None:
    windows = crop_windows(BOXES, IMAGE, INPUT)
    np.testing.assert_allclose(windows[:, 2] / windows[:, 3], INPUT[1] / INPUT[0])
    np.testing.assert_allclose(windows[:, :2] + windows[:, 2:] / 2, BOXES[:, :2] + BOXES[:, 2:] / 2)
    grown = BOXES[:, 2:] * MARGIN
    assert (windows[:, 2:] >= grown - 1e-9).all()
    np.testing.assert_allclose((windows[:, 2:] / grown).min(1), 1)  # one side fits exactly


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [5, 5, 1, 80], [np.nan, 0, 50, 50]])
def test_a_box_of_nothing_stands_for_the_whole_image(box: list[float]) -> None:
    window = crop_windows(np.array([box], float), IMAGE, INPUT, margin=1.0)[0]
    np.testing.assert_allclose(window[:2] + window[2:] / 2, [200, 150])
    assert window[2] >= 400 and window[3] >= 300


@pytest.mark.parametrize("place", range(len(BOXES)))
def test_points_go_to_the_crop_and_back(place: int) -> None:
    images = np.zeros((1, *IMAGE, 3), np.uint8)
    windows = crop_windows(BOXES[place : place + 1], IMAGE, INPUT)
    _, (to_input,) = cut(images, windows, INPUT, fill=0)
    points = np.random.default_rng(place).uniform(-50, 450, (17, 2))
    inside = (points - windows[0, :2]) / windows[0, 2:] * [INPUT[1], INPUT[0]]
    np.testing.assert_allclose(to_input.to_image(inside), points, atol=1e-9)


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5])
def test_a_spot_is_seen_where_the_map_says(place: int) -> None:
    """Truncated boxes and boxes that reach beyond the frame included; the oracle is the spot's centre of mass."""
    window = crop_windows(BOXES[place : place + 1], IMAGE, INPUT)
    low, high = np.maximum(window[0, :2], 12), np.minimum(window[0, :2] + window[0, 2:], [388, 288])
    spot = low + 0.6 * (high - low)
    crops, (to_input,) = cut(bump(*spot, sigma=3.0)[None], window, INPUT, fill=0)
    np.testing.assert_allclose(to_input.to_image(centre_of_mass(crops[0])), spot, atol=0.15)


def test_beyond_the_frame_lies_the_fill_and_within_it_the_image() -> None:
    images = np.full((2, *IMAGE, 3), 200, np.uint8)
    crops, maps = cut(images, crop_windows(BOXES[[2, 4]], IMAGE, INPUT), INPUT, fill=7)
    rows, columns = np.indices(INPUT) + 0.5
    x, y = np.moveaxis(maps[0].to_image(np.stack([columns, rows], -1)), -1, 0)
    assert (crops[0][(x > 3) & (y > 3)] == 200).all() and (crops[0][(x < -3) | (y < -3)] == 7).all()
    assert (crops[1] == 7).all()


def test_a_crop_of_the_frame_at_its_own_size_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 48, 3)).astype(np.uint8)
    crops, _ = cut(image, np.array([[0.0, 0.0, 48.0, 64.0]]), (64, 48), fill=0)
    np.testing.assert_array_equal(crops, image)


class _Brightest(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.avg_pool2d(x, 4).mean(1, keepdim=True) * self.sharpness).expand(-1, 17, -1, -1)


def detector(crop: str) -> TorchDetector:
    options: Any = {"height": INPUT[0], "width": INPUT[1], "maps": "log-share", "batch_size": 2}
    return TorchDetector(_Brightest(), "brightest", "0", crop=crop, **options)


def test_of_two_people_the_labelled_one_is_found() -> None:
    """The other spot is brighter, so that the whole image shows that one."""
    spots = np.array([[100.0, 150.0], [300.0, 120.0]])
    (x1, y1), (x2, y2) = spots.tolist()
    picture = np.maximum(bump(x1, y1, 9.0) // 2, bump(x2, y2, 9.0))
    boxes = np.array([[60.0, 80.0, 80.0, 140.0]])
    found = detector("label").detect(picture[None], boxes)[0, :, :2]
    np.testing.assert_allclose(found, np.broadcast_to(spots[0], (17, 2)), atol=2)
    whole = detector("whole").detect(picture[None], boxes)[0, :, :2]
    np.testing.assert_allclose(whole, np.broadcast_to(spots[1], (17, 2)), atol=4)


def test_detectors_of_crops_have_a_name_and_a_digest_of_their_own_and_need_boxes() -> None:
    label, whole = detector("label"), detector("whole")
    assert whole.name == "brightest" and label.name == "brightest, label crops" and label.digest != whole.digest
    images = np.zeros((2, *IMAGE, 3), np.uint8)
    np.testing.assert_array_equal(whole.detect(images), whole.detect(images, BOXES[:2]))
    with pytest.raises(DetectorError, match="no of 2"):
        label.detect(images)
    with pytest.raises(DetectorError, match="expected one of whole, label"):
        Fitting("half", 8, 8)

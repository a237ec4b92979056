import numpy as np
import pytest

from posedreamer_assets.pocket.composites import MAX_PEOPLE, centre_targets, compose, empty_background, fill_hole
from posedreamer_assets.pocket.shards import KeypointRows
from posedreamer_assets.scoring.peaks import count_peaks
from posedreamer_assets_tests.scoring.figures import stick_figures


@pytest.fixture(scope="module")
def rows() -> KeypointRows:
    data = stick_figures(16, 0)
    return KeypointRows(data["images"], np.zeros(16, bool), data["keypoints"], data["visible"], data["silhouettes"] > 0)


def test_all_counts_occur_and_the_seed_decides(rows: KeypointRows) -> None:
    counts = {len(compose(rows, np.random.default_rng(seed)).boxes) for seed in range(60)}
    assert counts == set(range(MAX_PEOPLE + 1))
    once, again = (compose(rows, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(once.image, again.image)
    np.testing.assert_array_equal(once.boxes, again.boxes)


def test_boxes_lie_in_the_frame(rows: KeypointRows) -> None:
    for seed in range(40):
        boxes = compose(rows, np.random.default_rng(seed)).boxes
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= 128).all()


def test_filling_removes_the_figure_from_plain_paper(rows: KeypointRows) -> None:
    filled = fill_hole(rows.images[0], rows.silhouettes[0]).astype(int)
    assert np.abs(filled - rows.images[0][0, 0]).max() <= 3


def test_an_empty_background_keeps_the_shape(rows: KeypointRows) -> None:
    for seed in range(12):
        made = empty_background(rows.images[0], rows.silhouettes[0], np.random.default_rng(seed))
        assert made.shape == rows.images[0].shape
        assert made.dtype == np.uint8


def test_peaks_of_a_target_are_its_people() -> None:
    boxes = np.array([[8, 8, 24, 40], [70, 10, 30, 60], [40, 80, 20, 30]], np.float32)
    for k in range(4):
        target = centre_targets(boxes[:k], 16, 16)
        logits = np.log(np.maximum(target, 1e-6) / np.maximum(1 - target, 1e-6)).astype(np.float32)
        counts, scores = count_peaks(logits[None, None], 0.5)
        assert counts.tolist() == [k]
        assert (scores[0] > 0.9) == (k > 0)

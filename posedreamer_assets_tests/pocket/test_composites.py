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


def test_the_silhouette_is_what_is_seen_of_all_people(rows: KeypointRows) -> None:
    crowded = 0
    for seed in range(40):
        made = compose(rows, np.random.default_rng(seed))
        assert made.silhouette.shape == (128, 128) and made.silhouette.dtype == bool
        within = np.zeros((128, 128), bool)
        for x, y, w, h in made.boxes.astype(int):
            assert made.silhouette[y : y + h, x : x + w].any()
            within[y : y + h, x : x + w] = True
        assert not (made.silhouette & ~within).any()
        ys, xs = np.nonzero(made.silhouette)
        if len(made.boxes):  # each outermost row and column of the boxes has a pixel of somebody
            low, high = made.boxes[:, :2].min(0), (made.boxes[:, :2] + made.boxes[:, 2:]).max(0) - 1
            assert [xs.min(), ys.min(), xs.max(), ys.max()] == [*low, *high]
        crowded += len(made.boxes) > 1
    assert crowded


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

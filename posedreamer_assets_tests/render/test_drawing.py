"""Pictures: what is drawn where."""

import numpy as np
import pytest

from posedreamer_assets.body.joints import COCO17
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.render import drawing as sheets

GREY = np.full((64, 48, 3), 120, np.uint8)


def keypoints() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform((6, 6), (42, 58), (17, 2)).astype(np.float32)


def test_left_and_right_are_drawn_in_their_colours_at_their_places() -> None:
    points = np.full((17, 2), np.nan, np.float32)
    points[COCO17.index("left_wrist")], points[COCO17.index("right_wrist")] = (10, 12), (30, 50)
    drawn = sheets.draw_keypoints(GREY, points, factor=3)
    assert drawn.shape == (192, 144, 3)
    np.testing.assert_array_equal(drawn[36, 30], sheets.LEFT_RGB)
    np.testing.assert_array_equal(drawn[150, 90], sheets.RIGHT_RGB)


def test_hidden_and_unsure_points_are_not_drawn() -> None:
    points = keypoints()
    nothing = sheets.enlarge(GREY, 2)
    np.testing.assert_array_equal(sheets.draw_keypoints(GREY, points, np.zeros(17, bool)), nothing)
    unsure = np.concatenate([points, np.full((17, 1), 0.1, np.float32)], axis=1)
    np.testing.assert_array_equal(sheets.draw_keypoints(GREY, unsure), nothing)
    assert (sheets.draw_keypoints(GREY, points) != nothing).any()


def test_drawing_leaves_its_input_alone() -> None:
    before = GREY.copy()
    sheets.draw_keypoints(GREY, keypoints(), factor=1)
    sheets.overlay_render(GREY, np.full_like(GREY, 9))
    np.testing.assert_array_equal(GREY, before)


def test_render_is_blended_where_it_is_not_black() -> None:
    render = np.zeros_like(GREY)
    render[30, 20] = (220, 20, 0)
    drawn = sheets.overlay_render(GREY, render, alpha=0.5)
    np.testing.assert_array_equal(drawn[30, 20], [170, 70, 60])
    assert (drawn != GREY).any(axis=2).sum() == 1


def test_sheet_places_every_image_in_its_cell() -> None:
    colours = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (90, 90, 0)]]
    rows = [[np.full((20, 20, 3), c, np.uint8) for c in row] for row in colours]
    sheet = sheets.contact_sheet(rows, cell_px=40, gap_px=4)
    assert sheet.shape == (92, 92, 3)
    for r, row in enumerate(colours):
        for c, colour in enumerate(row):
            np.testing.assert_array_equal(sheet[24 + 44 * r, 24 + 44 * c], colour)


def test_titles_and_captions_add_room_and_long_ones_are_cut() -> None:
    plain = sheets.contact_sheet([[GREY, GREY]], cell_px=40)
    titled = sheets.contact_sheet([[GREY, GREY]], cell_px=40, columns=["a", "b" * 400], captions=["c" * 400])
    assert titled.shape[0] > plain.shape[0]
    assert titled.shape[1] == plain.shape[1]


def test_a_sheet_of_nothing_or_with_wrong_titles_is_an_error() -> None:
    with pytest.raises(MetricsError, match="at least one image"):
        sheets.contact_sheet([])
    with pytest.raises(MetricsError, match="1 column titles for 2 columns"):
        sheets.contact_sheet([[GREY, GREY]], columns=["a"])
    with pytest.raises(MetricsError, match="2 captions for 1 rows"):
        sheets.contact_sheet([[GREY]], captions=["a", "b"])

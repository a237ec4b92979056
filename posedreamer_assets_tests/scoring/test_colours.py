import numpy as np
import pytest

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.render.captions import NAMED_COLOURS, Description, make_caption
from posedreamer_assets.scoring.colours import (
    garment_colour_errors,
    garment_colour_hits,
    named_colour,
    nearest_name,
    srgb_to_lab,
)


def caption(top: str, bottom: str) -> str:
    words = Description(
        "light", "short", "black", "walking", top, "plain", "shirt", bottom, "shorts", "red", "in a room"
    )
    return make_caption(words)


def painted(top: str, bottom: str) -> tuple[np.ndarray, np.ndarray]:
    image, parts = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 32, 32), np.uint8)
    parts[0, 4:14, 8:24], parts[0, 14:20, 8:24] = JOINT_INDEX["spine2"] + 1, JOINT_INDEX["left_hip"] + 1
    image[0, 4:14, 8:24], image[0, 14:20, 8:24] = NAMED_COLOURS[top], NAMED_COLOURS[bottom]
    return image, parts


def test_the_named_colour_has_no_error_and_another_has_one() -> None:
    image, parts = painted("red", "blue")
    assert garment_colour_errors(image, parts, [caption("red", "blue")])[0] == pytest.approx(0, abs=1e-4)
    assert garment_colour_errors(image, parts, [caption("red", "blue")], "bottom")[0] == pytest.approx(0, abs=1e-4)
    assert garment_colour_errors(image, parts, [caption("green", "blue")])[0] > 50


def test_no_colour_or_too_few_pixels_give_nan() -> None:
    image, parts = painted("red", "blue")
    assert np.isnan(garment_colour_errors(image, parts, ["somebody dancing"])[0])
    assert np.isnan(garment_colour_errors(image, np.zeros_like(parts), [caption("red", "blue")])[0])


def test_every_name_is_nearest_to_itself() -> None:
    assert [nearest_name(np.array(rgb, float)) for rgb in NAMED_COLOURS.values()] == list(NAMED_COLOURS)


def test_lab_agrees_with_published_values() -> None:
    srgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], float)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(srgb_to_lab(srgb), expected, atol=0.05)


def test_captions_are_read() -> None:
    assert named_colour(caption("teal", "pink")) == "teal"
    assert named_colour(caption("teal", "pink"), "bottom") == "pink"
    assert named_colour("a red balloon") is None


def test_hits_tell_the_named_colour_from_others() -> None:
    parts = np.full((3, 16, 16), JOINT_INDEX["spine2"] + 1, np.uint8)
    pictures = np.stack([np.full((16, 16, 3), NAMED_COLOURS[c], np.uint8) for c in ("red", "blue", "red")])
    red = caption("red", "blue")
    np.testing.assert_array_equal(garment_colour_hits(pictures, parts, [red, red, "a dog"]), [1.0, 0.0, np.nan])
